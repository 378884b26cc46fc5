"""The measures of SAR's relatives: closed forms, what each ignores, where it is zero, gradients.

kl, l1 and l2 themselves: tests/test_alignment.py.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sar import alignment
from sar.alignment import DIVERGENCES, similarity_alignment_loss
from sar.divergence import MEASURES
from sar.errors import ConfigError, SARError

F64 = torch.float64
fast = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)
classes = st.integers(4, 9)
each = pytest.mark.parametrize("divergence", DIVERGENCES)
RELATIONS = [name for name, measure in MEASURES.items() if not measure.features]
INSIDE = [name for name in RELATIONS if not MEASURES[name].crossed]  # of learned classes alone
ROTATED = [*INSIDE, "hsic", "hsic_apart"]


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(features(d, d, seed)).Q


def cosines(x: Tensor, y: Tensor | None = None) -> Tensor:
    y = x if y is None else y
    return F.cosine_similarity(x[:, None], y[None], dim=-1)


def others(row: Tensor, i: int) -> list[float]:
    return [value for j, value in enumerate(row.tolist()) if j != i]


def loss(learned: Tensor, reference: Tensor, divergence: str, **options: Any) -> float:
    value = similarity_alignment_loss(learned, reference, divergence=divergence, **options)
    return value.item()


@fast
@given(classes, st.sampled_from([0.05, 1.0]), seeds)
def test_cross_is_kl_of_cosines_with_frozen_features(n: int, tau: float, seed: int) -> None:
    w, t = features(n, 6, seed), features(n, 6, seed + 1)
    rows = []
    for i, (ours, target) in enumerate(zip(cosines(w, t), cosines(t), strict=True)):
        q = torch.tensor(others(ours, i), dtype=F64).div(tau).softmax(0)
        p = torch.tensor(others(target, i), dtype=F64).div(tau).softmax(0)
        rows.append((p * (p / q).log()).sum().item())
    found = loss(w, t, "cross", temperature=tau)
    assert found == pytest.approx(sum(rows) / n, rel=1e-9)
    if n < 6:  # only features in the same place give it, not those turned together
        assert loss(t @ rotation(6, seed + 2), t, "cross", temperature=tau) > 1e-6


@fast
@given(classes, st.integers(1, 5), st.sampled_from([0.0, 0.5, 2.0]), seeds)
def test_hinge_is_what_leaves_the_band(n: int, many: int, k: float, seed: int) -> None:
    w, t = features(n, 6, seed), features(n * many, 6, seed + 1).view(many, n, 6)
    each_teacher = torch.stack([cosines(teacher) for teacher in t])
    mean, deviation = each_teacher.mean(dim=0), each_teacher.std(dim=0, correction=0)
    left = ((cosines(w) - mean).abs() - k * deviation).clamp_min(0)
    expected = left.flatten()[[i * n + j for i in range(n) for j in range(n) if i != j]].mean()
    assert loss(w, t, "hinge", tolerance=k) == pytest.approx(expected.item(), rel=1e-9, abs=1e-14)
    # No teacher of T is further from their mean than sqrt(T - 1) deviations.
    wide = max(loss(teacher, t, "hinge", tolerance=(many - 1) ** 0.5) for teacher in t)
    assert wide == pytest.approx(0, abs=1e-12)


def test_hinge_of_one_teacher_is_l1() -> None:
    w, t = features(6, 5, 0), features(6, 5, 1)
    assert loss(w, t, "hinge") == loss(w, t[None], "hinge") == loss(w, t, "l1")


@fast
@given(classes, seeds)
def test_rank_is_by_how_much_a_later_one_is_nearer(n: int, seed: int) -> None:
    w, t = features(n, 6, seed), features(n, 6, seed + 1)
    found = []
    for i, (ours, target) in enumerate(zip(cosines(w), cosines(t), strict=True)):
        pairs = sorted(zip(others(target, i), others(ours, i), strict=True))
        values = [own for _, own in pairs]  # the teacher's least similar first
        found += [max(values[: r + 1]) - value for r, value in enumerate(values)]
    assert loss(w, t, "rank") == pytest.approx(sum(found) / len(found), rel=1e-9)


@fast
@given(classes, seeds)
def test_rank_is_of_the_order_alone(n: int, seed: int) -> None:
    """Any growing function of the similarities keeps it zero; two exchanged do not."""
    drawn = torch.rand(n, n, generator=torch.Generator().manual_seed(seed), dtype=F64) / (2 * n)
    cosine = drawn.tril(-1) + drawn.tril(-1).T + torch.eye(n, dtype=F64)
    grown = (1.5 * cosine).expm1() / 5
    grown.fill_diagonal_(1)
    learned, reference = torch.linalg.cholesky(grown), torch.linalg.cholesky(cosine)
    assert loss(learned, reference, "rank") == pytest.approx(0, abs=1e-12)
    assert loss(learned, reference, "l1") > 1e-3
    order = list(range(n))
    order[0], order[1] = 1, 0
    assert loss(reference[order], reference, "rank") > 0


@fast
@given(classes, st.integers(1, 12), st.sampled_from([0.05, 0.5]), seeds)
def test_fda_is_what_neighbours_and_others_lose(n: int, k: int, tau: float, seed: int) -> None:
    w, t = features(n, 6, seed), features(n, 6, seed + 1)
    k_used, total = min(k, n - 2), 0.0
    for i, (ours, target) in enumerate(zip(cosines(w), cosines(t), strict=True)):
        pairs = sorted(zip(others(target, i), others(ours, i), strict=True), reverse=True)
        border = (pairs[k_used - 1][0] + pairs[k_used][0]) / 2
        for of, sign in ((pairs[:k_used], -1), (pairs[k_used:], 1)):
            cost = [
                [F.softplus(torch.tensor(sign * (s - border) / tau, dtype=F64)) for s in pair]
                for pair in of
            ]
            total += sum(max(0.0, float(own - due)) for due, own in cost) / len(of)
    found = loss(w, t, "fda", temperature=tau, neighbours=k)
    assert found == pytest.approx(total / n, rel=1e-9)


def test_fda_lets_neighbours_come_nearer_and_others_go() -> None:
    """Two groups of three; drawn together, and apart from each other."""
    same, other = torch.full((3, 3), 0.5, dtype=F64), torch.full((3, 3), 0.1, dtype=F64)
    matrix = torch.cat([torch.cat([same, other], 1), torch.cat([other, same], 1)])
    matrix.fill_diagonal_(1)
    closer = matrix + 0.2 * (matrix == 0.5) - 0.05 * (matrix == 0.1)
    reference, learned = torch.linalg.cholesky(matrix), torch.linalg.cholesky(closer)
    assert loss(learned, reference, "fda", neighbours=2) == pytest.approx(0, abs=1e-12)
    assert loss(reference, learned, "fda", neighbours=2) > 0.1


@fast
@given(classes, seeds)
def test_cov_is_of_mean_and_covariance(n: int, seed: int) -> None:
    w, t = F.normalize(features(n, 5, seed)), F.normalize(features(n, 5, seed + 1))
    spread = [(x - x.mean(0)).T @ (x - x.mean(0)) / n for x in (w, t)]
    expected = (w.mean(0) - t.mean(0)).square().sum() + (spread[0] - spread[1]).square().sum()
    assert loss(3 * w, t, "cov") == pytest.approx(expected.item(), rel=1e-9)
    assert loss(t.flip(0), t, "cov") == pytest.approx(0, abs=1e-12)  # whose is whose, it ignores


@fast
@given(classes, seeds)
def test_hsic_is_by_the_centred_kernels(n: int, seed: int) -> None:
    w, t = features(n, 5, seed), features(n, 4, seed + 1)
    h = torch.eye(n, dtype=F64) - 1 / n

    def hsic(a: Tensor, b: Tensor) -> float:
        return torch.trace(cosines(a) @ h @ cosines(b) @ h).item()

    alignment = hsic(w, t) / (hsic(w, w) * hsic(t, t)) ** 0.5
    assert loss(w, t, "hsic_apart") == pytest.approx(alignment, rel=1e-9)
    assert loss(w, t, "hsic") == pytest.approx(1 - alignment, rel=1e-9)


def test_hsic_apart_is_zero_where_nothing_is_shared() -> None:
    """Classes 1 and 2 against 3 and 4 in one, 1 and 3 against 2 and 4 in the other."""
    x = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64)[:, None]
    y = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)[:, None]
    assert loss(x, y, "hsic_apart") == 0
    assert loss(x, x, "hsic_apart") == pytest.approx(1)


@fast
@given(classes, seeds)
def test_anchor_is_the_mean_cosine_distance(n: int, seed: int) -> None:
    w, t = features(n, 5, seed), features(n, 5, seed + 1)
    expected = 1 - F.cosine_similarity(w, t).mean().item()
    assert loss(w, t, "anchor") == pytest.approx(expected, rel=1e-9)


@fast
@given(classes, st.sampled_from(DIVERGENCES), seeds)
def test_zero_at_the_teacher(n: int, divergence: str, seed: int) -> None:
    """Whatever the lengths of the features; the one that pushes apart is at its largest there."""
    reference = features(n, 6, seed)
    learned = reference * features(n, 1, seed + 1).exp()
    expected = 1 if divergence == "hsic_apart" else 0
    assert loss(learned, reference, divergence) == pytest.approx(expected, abs=1e-12)


@fast
@given(classes, st.sampled_from(ROTATED), seeds)
def test_relations_do_not_see_a_rotation(n: int, divergence: str, seed: int) -> None:
    learned, reference = features(n, 6, seed), features(n, 4, seed + 1)
    moved = learned @ rotation(6, seed + 2) * features(n, 1, seed + 3).exp()
    moved_reference = reference @ rotation(4, seed + 4)
    expected = loss(learned, reference, divergence)
    assert loss(moved, moved_reference, divergence) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@fast
@given(classes, st.sampled_from(DIVERGENCES), seeds)
def test_the_order_of_the_classes_does_not_matter(n: int, divergence: str, seed: int) -> None:
    learned, reference = features(n, 6, seed).requires_grad_(), features(n, 6, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + 2))
    found = [
        torch.autograd.grad(similarity_alignment_loss(w, t, divergence=divergence), learned)[0]
        for w, t in ((learned, reference), (learned[order], reference[order]))
    ]
    torch.testing.assert_close(found[0], found[1])


@each
def test_gradients(divergence: str) -> None:
    """A class may be seen through several pairs; the reference is given, learned or not."""
    learned, reference = features(6, 4, 0).requires_grad_(), features(6, 4, 1).requires_grad_()
    index = torch.tensor([0, 2, 3, 4, 5])
    for across in (None, 2) if divergence in RELATIONS else (None,):

        def of(x: Tensor, across: int | None = across) -> Tensor:
            return similarity_alignment_loss(
                x, reference, divergence=divergence, neighbours=2, index=index, across=across
            )

        assert torch.autograd.gradcheck(of, learned)
        of(learned).backward()
    assert reference.grad is None


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    "hard",
    [torch.ones(4, 8), torch.cat([torch.ones(3, 8), -torch.ones(3, 8)]), torch.eye(4, 8).clone()],
    ids=["duplicates", "opposites", "orthogonal"],
)
def test_finite_where_it_is_hard(divergence: str, dtype: torch.dtype, hard: Tensor) -> None:
    ordinary = features(len(hard), 8, 1)
    ordinary[0] = 0
    for learned, reference in ((hard, hard), (hard, ordinary), (ordinary, hard)):
        leaf = learned.to(dtype).clone().requires_grad_()
        value = similarity_alignment_loss(leaf, reference.to(dtype), divergence=divergence)
        assert value.isfinite()
        assert torch.autograd.grad(value, leaf)[0].isfinite().all()


@pytest.mark.parametrize("divergence", RELATIONS)
@pytest.mark.parametrize("across", [None, 9])
def test_blocks_of_rows_have_the_value_and_gradient_of_all_at_once(
    divergence: str, across: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, reference = features(24, 5, 1).requires_grad_(), features(72, 5, 2)
    if MEASURES[divergence].band:
        reference = reference.view(3, 24, 5)
    reference = reference[..., :24, :]
    found = []
    for at_once in (4096, 23):
        monkeypatch.setattr(alignment, "_AT_ONCE", at_once)
        value = similarity_alignment_loss(learned, reference, divergence=divergence, across=across)
        found.append((value, *torch.autograd.grad(value, learned)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-14)


@fast
@given(st.integers(3, 6), st.integers(3, 6), seeds)
def test_across_compares_base_with_novel_alone(b: int, n: int, seed: int) -> None:
    """By the formula of l2, and no other similarity matters."""
    w, t = features(b + n, 6, seed), features(b + n, 6, seed + 1)
    both = (cosines(w) - cosines(t))[:b, b:]
    value = similarity_alignment_loss(w, t, divergence="l2", across=b)
    assert value.item() == pytest.approx(both.square().mean().item(), rel=1e-9)
    tau = 0.1
    rows: list[float] = []
    base, novel = slice(b), slice(b, None)
    for rows_of, columns in ((base, novel), (novel, base)):
        q = (cosines(w)[rows_of, columns] / tau).softmax(1)
        p = (cosines(t)[rows_of, columns] / tau).softmax(1)
        rows += (p * (p / q).log()).sum(1).tolist()
    value = similarity_alignment_loss(w, t, across=b)
    assert value.item() == pytest.approx(sum(rows) / (b + n), rel=1e-9)


@pytest.mark.parametrize("across", [0, 1, 4, 5])
def test_sides_with_too_few_classes_say_nothing(across: int) -> None:
    """Of five; with one class on a side, the other side's rows hold one value each."""
    learned, reference = features(5, 4, 0).requires_grad_(), features(5, 4, 1)
    value = similarity_alignment_loss(learned, reference, across=across)
    (gradient,) = torch.autograd.grad(value, learned)
    assert (value > 0) == (across in (1, 4))
    assert gradient.isfinite().all()


@each
def test_two_classes(divergence: str) -> None:
    """Measures of more say nothing of them."""
    learned, reference = features(2, 4, 0).requires_grad_(), features(2, 4, 1)
    value = similarity_alignment_loss(learned, reference, divergence=divergence)
    (gradient,) = torch.autograd.grad(value, learned)
    assert gradient.isfinite().all()
    if MEASURES[divergence].least > 2:
        assert value.item() == pytest.approx(float(divergence == "hsic_apart"), abs=1e-12)
    else:
        assert value > 0


@pytest.mark.parametrize(
    "wrong", [{"neighbours": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")}]
)
def test_numbers_of_a_measure_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 1 neighbour, and a finite tolerance"):
        similarity_alignment_loss(torch.ones(5, 4), torch.ones(5, 4), **wrong)


def test_what_does_not_fit_is_named() -> None:
    w = torch.ones(5, 4)
    for divergence in (name for name, measure in MEASURES.items() if measure.one_space):
        with pytest.raises(ConfigError, match=f"{divergence} compares features of one space"):
            similarity_alignment_loss(w, torch.ones(5, 3), divergence=divergence)
    for divergence in (name for name in DIVERGENCES if name not in RELATIONS):
        with pytest.raises(ConfigError, match=f"{divergence} compares no pairs"):
            similarity_alignment_loss(w, w, divergence=divergence, across=2)
    with pytest.raises(SARError, match="two matrices"):
        similarity_alignment_loss(w, torch.ones(3, 5, 4))
