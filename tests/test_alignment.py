"""The similarity alignment loss: what it measures, what it ignores, and where it must not break."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sar import alignment
from sar.alignment import sample_classes, similarity_alignment_loss
from sar.errors import ConfigError, SARError

ROOT = Path(__file__).parents[1]
F64 = torch.float64
fast = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)
DIVERGENCES = ("kl", "l1", "l2")  # the others: tests/test_divergences.py
classes = st.integers(3, 9)
divergences = st.sampled_from(DIVERGENCES)
each_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=rng(seed), dtype=F64)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(features(d, d, seed)).Q


def cosines(x: Tensor) -> Tensor:
    return F.cosine_similarity(x[:, None], x[None], dim=-1)


def with_cosines(matrix: Tensor) -> Tensor:
    """Unit vectors whose cosine matrix is the given positive definite one."""
    return torch.linalg.cholesky(matrix)


def by_the_formula(learned: Tensor, reference: Tensor, divergence: str, tau: float) -> float:
    """The docstring's sums, written out in Python."""
    s_w, s_t = cosines(learned).tolist(), cosines(reference).tolist()
    n = len(learned)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    if divergence == "l1":
        return sum(abs(s_w[i][j] - s_t[i][j]) for i, j in pairs) / len(pairs)
    if divergence == "l2":
        return sum((s_w[i][j] - s_t[i][j]) ** 2 for i, j in pairs) / len(pairs)
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        z_w = sum(math.exp(s_w[i][j] / tau) for j in others)
        z_t = sum(math.exp(s_t[i][j] / tau) for j in others)
        for j in others:
            p, q = math.exp(s_t[i][j] / tau) / z_t, math.exp(s_w[i][j] / tau) / z_w
            total += p * math.log(p / q)
    return total / n


@fast
@given(classes, divergences, st.sampled_from([0.05, 0.1, 1.0]), seeds)
def test_is_the_documented_formula(n: int, divergence: str, tau: float, seed: int) -> None:
    learned, reference = features(n, 6, seed), features(n, 4, seed + 1)
    loss = similarity_alignment_loss(learned, reference, divergence=divergence, temperature=tau)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(
        by_the_formula(learned, reference, divergence, tau), rel=1e-9, abs=1e-12
    )


@fast
@given(classes, divergences, seeds)
def test_zero_if_similarities_agree(n: int, divergence: str, seed: int) -> None:
    """Rotating all classes together and rescaling each leaves every cosine as it was."""
    reference = features(n, 6, seed)
    scale = features(n, 1, seed + 1).exp()
    learned = (reference * scale) @ rotation(6, seed + 2)
    loss = similarity_alignment_loss(learned, reference, divergence=divergence)
    assert loss.item() == pytest.approx(0, abs=1e-12)


@fast
@given(classes, divergences, seeds)
def test_invariant_to_rotation_and_scale(n: int, divergence: str, seed: int) -> None:
    learned, reference = features(n, 6, seed), features(n, 4, seed + 1)
    moved = learned @ rotation(6, seed + 2) * features(n, 1, seed + 3).exp()
    moved_reference = reference @ rotation(4, seed + 4) * features(n, 1, seed + 5).exp()
    loss = similarity_alignment_loss(learned, reference, divergence=divergence)
    other = similarity_alignment_loss(moved, moved_reference, divergence=divergence)
    assert other.item() == pytest.approx(loss.item(), rel=1e-9)


@fast
@given(classes, divergences, seeds)
def test_the_order_of_the_classes_does_not_matter(n: int, divergence: str, seed: int) -> None:
    learned, reference = features(n, 6, seed).requires_grad_(), features(n, 4, seed + 1)
    order = torch.randperm(n, generator=rng(seed + 2))
    loss = similarity_alignment_loss(learned, reference, divergence=divergence)
    shuffled = similarity_alignment_loss(learned[order], reference[order], divergence=divergence)
    torch.testing.assert_close(shuffled, loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(shuffled, learned), torch.autograd.grad(loss, learned)
    )


@fast
@given(classes, st.sampled_from(["l1", "l2"]), seeds)
def test_l1_and_l2_are_positive_where_one_pair_differs(n: int, divergence: str, seed: int) -> None:
    i, j = torch.randperm(n, generator=rng(seed))[:2].tolist()
    changed = torch.eye(n, dtype=F64)
    changed[i, j] = changed[j, i] = 0.01
    loss = similarity_alignment_loss(
        with_cosines(changed), torch.eye(n, dtype=F64), divergence=divergence
    )
    size = 0.01 if divergence == "l1" else 0.01**2
    assert loss.item() == pytest.approx(2 * size / (n * (n - 1)), rel=1e-9)


@fast
@given(classes, st.sampled_from([0.05, 1.0]), seeds)
def test_kl_ignores_one_constant_common_to_all_pairs(n: int, tau: float, seed: int) -> None:
    cosine = 0.5 * (cosines(features(n, 12, seed)) + torch.eye(n, dtype=F64))
    raised = cosine + 0.2 * (1 - torch.eye(n, dtype=F64))
    learned, reference = with_cosines(raised), with_cosines(cosine)
    kl = similarity_alignment_loss(learned, reference, temperature=tau)
    assert kl.item() == pytest.approx(0, abs=1e-12)
    l1 = similarity_alignment_loss(learned, reference, divergence="l1")
    assert l1.item() == pytest.approx(0.2, rel=1e-9)


@fast
@given(classes, st.sampled_from([0.05, 1.0]), seeds)
def test_kl_is_positive_for_any_other_difference(n: int, tau: float, seed: int) -> None:
    """A change that is constant along one class's row only is still a change for the others."""
    i = seed % n
    changed = torch.eye(n, dtype=F64)
    changed[i, :] = changed[:, i] = 0.05
    changed[i, i] = 1
    kl = similarity_alignment_loss(with_cosines(changed), torch.eye(n, dtype=F64), temperature=tau)
    assert kl.item() > 1e-6


@each_divergence
def test_gradients(divergence: str) -> None:
    learned, reference = features(5, 4, 0).requires_grad_(), features(5, 3, 1)
    index = torch.tensor([0, 2, 3, 4])
    assert torch.autograd.gradcheck(
        lambda x: similarity_alignment_loss(x, reference, divergence=divergence, index=index),
        learned,
    )


@each_divergence
def test_no_gradient_into_the_reference(divergence: str) -> None:
    both = features(4, 3, 0).requires_grad_()
    loss = similarity_alignment_loss(features(4, 3, 1), both, divergence=divergence)
    assert not loss.requires_grad


def duplicates() -> Tensor:
    return torch.ones(4, 8)


def opposites() -> Tensor:
    return torch.cat([torch.ones(3, 8), -torch.ones(3, 8)])


def two_classes() -> Tensor:
    return torch.randn(2, 8, generator=rng(0))


def zero_vectors() -> Tensor:
    return torch.cat([torch.zeros(2, 8), torch.randn(2, 8, generator=rng(0))])


@each_divergence
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("make", [duplicates, opposites, two_classes, zero_vectors])
@pytest.mark.parametrize("swapped", [False, True])
def test_finite_where_it_is_hard(
    divergence: str, dtype: torch.dtype, make: Callable[[], Tensor], swapped: bool
) -> None:
    """Also against ordinary features, on either side."""
    hard = make().to(dtype)
    ordinary = torch.randn(len(hard), 8, generator=rng(1)).to(dtype)
    for other in (hard, ordinary):
        learned, reference = (other, hard) if swapped else (hard, other)
        learned = learned.clone().requires_grad_()
        loss = similarity_alignment_loss(
            learned, reference, divergence=divergence, temperature=0.01
        )
        (gradient,) = torch.autograd.grad(loss, learned)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_half_precision_features_of_any_scale(scale: float) -> None:
    """Squares of such features leave the range of fp16; the computation does not."""
    learned, reference = features(6, 32, 0), features(6, 32, 1)
    half = similarity_alignment_loss((learned * scale).half(), (reference * scale).half())
    assert half.dtype == torch.float32
    expected = similarity_alignment_loss(learned, reference)
    assert half.item() == pytest.approx(expected.item(), rel=5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_does_not_lower_the_precision(dtype: torch.dtype) -> None:
    learned, reference = features(6, 64, 0).to(dtype), features(6, 64, 1).to(dtype)
    expected = similarity_alignment_loss(learned, reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity_alignment_loss(learned, reference)
    assert inside.dtype == dtype
    assert torch.equal(inside, expected)


@each_divergence
def test_index_selects_the_classes(divergence: str) -> None:
    learned, reference = features(7, 5, 0), features(7, 5, 1)
    index = torch.tensor([1, 3, 6])
    loss = similarity_alignment_loss(learned, reference, divergence=divergence, index=index)
    expected = similarity_alignment_loss(learned[index], reference[index], divergence=divergence)
    assert torch.equal(loss, expected)


def test_kl_of_two_classes_is_zero() -> None:
    assert similarity_alignment_loss(features(2, 3, 0), features(2, 3, 1)).item() == 0


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((1, 4), (1, 4)), {}, SARError, "at least 2"),
        (((0, 4), (0, 4)), {}, SARError, "at least 2"),
        (((5, 4), (5, 4)), {"index": torch.tensor([3])}, SARError, "at least 2"),
        (((5, 4), (5, 4)), {"index": torch.tensor([[1, 3]])}, SARError, "1-D long"),
        (((5, 4), (5, 4)), {"index": torch.ones(5, dtype=torch.bool)}, SARError, "1-D long"),
        (((5, 4), (6, 4)), {}, SARError, r"\(5, 4\).*\(6, 4\)"),
        (((5, 4, 1), (5, 4)), {}, SARError, "one row for each class"),
        (((5, 4), (5, 4)), {"divergence": "js"}, ConfigError, "'js'.*kl, l1, l2"),
        (((5, 4), (5, 4)), {"temperature": 0.0}, ConfigError, "positive"),
        (((5, 4), (5, 4)), {"temperature": math.nan}, ConfigError, "positive"),
    ],
)
def test_clear_errors(
    shapes: tuple[Any, Any], options: dict[str, Any], error: type[SARError], message: str
) -> None:
    with pytest.raises(error, match=message):
        similarity_alignment_loss(*(torch.ones(shape) for shape in shapes), **options)


@given(st.integers(2, 40), st.integers(2, 60), seeds)
def test_sample_classes(n: int, size: int, seed: int) -> None:
    sample = sample_classes(n, size, rng(seed))
    assert sample.dtype == torch.long
    assert len(sample) == min(size, n)
    assert sample.unique().tolist() == sample.tolist()  # distinct and ascending
    assert sample.min() >= 0
    assert sample.max() < n
    assert torch.equal(sample, sample_classes(n, size, rng(seed)))


def test_sampling_is_uniform_and_leaves_the_global_random_state() -> None:
    before, generator = torch.get_rng_state(), rng(0)
    counts = torch.bincount(
        torch.cat([sample_classes(10, 4, generator) for _ in range(2000)]), minlength=10
    )
    assert torch.equal(before, torch.get_rng_state())
    assert (counts - 800).abs().max() < 110  # five standard deviations


def test_all_classes_draw_nothing() -> None:
    generator = rng(0)
    for size in (0, 5, 9):
        assert sample_classes(5, size, generator).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(generator.get_state(), rng(0).get_state())


@pytest.mark.parametrize("size", [-1, 1])
def test_sample_size_must_leave_pairs(size: int) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        sample_classes(10, size, rng(0))


@each_divergence
@pytest.mark.parametrize("at_once", [2, 82])
def test_blocks_of_rows_have_the_value_and_gradient_of_all_at_once(
    divergence: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one row each, and of five with a last one of three."""
    learned, reference = features(83, 5, 1).requires_grad_(), features(83, 7, 2)
    whole = similarity_alignment_loss(learned, reference, divergence=divergence)
    (expected,) = torch.autograd.grad(whole, learned)
    monkeypatch.setattr(alignment, "_AT_ONCE", at_once)
    parts = similarity_alignment_loss(learned, reference, divergence=divergence)
    (found,) = torch.autograd.grad(parts, learned)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


PEAK = """
import resource, torch
from sar.alignment import similarity_alignment_loss
learned, reference = torch.randn(4500, 16, requires_grad=True), torch.randn(4500, 16)
# As much again is reserved by the first backward pass of a process.
torch.autograd.grad(similarity_alignment_loss(learned[:9], reference[:9]), learned)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.autograd.grad(similarity_alignment_loss(learned, reference), learned)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="in other units elsewhere")
def test_memory_does_not_grow_with_the_square_of_the_classes() -> None:
    """4,500 classes at once would keep and make a dozen matrices of 81 MB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"},  # what is freed is given back
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 400_000  # KiB
