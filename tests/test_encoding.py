"""The fast text encoder against CLIP's own blocks over all positions: features and gradients."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_encoder import all_positions, build
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sar import encoding
from sar.encoding import encode_prompts, encode_tokens, layout, shared_prefix_length
from sar.encoding.attention import Fused, WrittenOut
from sar.errors import SARError
from sar.toolbox.clip import CLIP, set_precision, tokenize

NAMES = [
    "cat",
    "red fox",
    "Siberian husky, sled dog",
    "crème brûlée",
    "a very long name of a thing",
]


@pytest.fixture(params=[WrittenOut, Fused], scope="module", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[type]:
    """Both ways to compute attention, whatever the device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "build_attention", request.param)
        yield request.param


@pytest.fixture(scope="module")
def clip_model() -> CLIP:
    """All 77 positions and the true vocabulary, narrow; weights at CLIP's initial scale."""
    return build(width=64, heads=4, layers=4, positions=77, vocabulary=49408)


def in_float64(model: CLIP) -> CLIP:
    """CLIP's LayerNorm computes in fp32; its base class keeps float64."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.__class__ = nn.LayerNorm
    return model.double()


class Problem:
    """C prompts with a common prefix of random vectors, as leaves that collect gradients."""

    def __init__(
        self,
        model: CLIP,
        ends: Sequence[int],
        shared: int,
        *,
        length: int | None = None,
        deep: Sequence[int] = (),
        scale: float = 0.02,
        seed: int = 0,
    ) -> None:
        positions, width = model.positional_embedding.shape
        generator = torch.Generator().manual_seed(seed)

        def leaf(*shape: int) -> Tensor:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
            return values.to(model.text_projection.dtype).requires_grad_()

        self.model, self.eot, self.shared = model, torch.tensor(ends), shared
        self.prefix = leaf(shared, width)
        self.suffix = leaf(len(ends), (length or positions) - shared, width)
        self.deep = [leaf(n, width) for n in deep]
        self.weights = torch.randn(len(ends), model.text_projection.shape[1], generator=generator)

    def prompts(self) -> Tensor:
        return torch.cat([self.prefix.expand(len(self.eot), -1, -1), self.suffix], dim=1)

    def results(self, features: Tensor) -> list[Tensor]:
        """Features, and their gradients in every leaf."""
        leaves = [leaf for leaf in (self.prefix, self.suffix, *self.deep) if leaf.numel()]
        loss = (features * self.weights.to(features.dtype)).sum()
        return [features.detach(), *torch.autograd.grad(loss, leaves)]

    def expected(self) -> list[Tensor]:
        return self.results(all_positions(self.model, self.prompts(), self.eot, self.deep))

    def actual(self, shared: int | None = None) -> list[Tensor]:
        shared = self.shared if shared is None else shared
        features = encode_prompts(
            self.model, self.prompts(), self.eot, shared=shared, deep_prompts=self.deep
        )
        return self.results(features)


def assert_same(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Features within an absolute, gradients within a relative tolerance of their largest entry."""
    assert len(actual) == len(expected)
    for i, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        assert ours.dtype == theirs.dtype
        scale = 1.0 if i == 0 else theirs.abs().max().item()
        assert (ours - theirs).abs().max().item() <= tolerance * scale


ENDS = [9, 6, 20, 9, 7, 6, 9]


@pytest.mark.parametrize("shared", [0, 1, 5, 6])
def test_exact_in_fp32(clip_model: CLIP, shared: int) -> None:
    problem = Problem(clip_model, ENDS, shared)
    assert_same(problem.actual(), problem.expected(), 1e-5)


@pytest.mark.parametrize("deep", [[4], [4, 4, 4], [2, 1]])
@pytest.mark.parametrize("shared", [0, 3, 5, 6])
def test_deep_prompts_are_exact(clip_model: CLIP, shared: int, deep: list[int]) -> None:
    """Inside the shared prefix, across its end and without one."""
    problem = Problem(clip_model, ENDS, shared, deep=deep)
    assert_same(problem.actual(), problem.expected(), 1e-5)


def test_exact_at_the_width_of_vit_b16() -> None:
    problem = Problem(build(512, 8, 3, 77, 16), [8, 10, 7], shared=5, deep=[4], scale=0.5)
    assert_same(problem.actual(), problem.expected(), 1e-5)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), ends=st.lists(st.integers(0, 11), min_size=1, max_size=8))
def test_exact_in_float64(data: st.DataObject, ends: list[int]) -> None:
    """Any lengths, any prefix, any deep prompts, any bucket cost; large weights, no slack."""
    first, last = min(ends), max(ends)
    shared = data.draw(st.integers(0, first), "shared")
    length = data.draw(st.integers(last + 1, 12), "length")
    deep = data.draw(st.lists(st.integers(0, first - 1), max_size=2), "deep") if first else []
    cost = data.draw(st.sampled_from([0, 3, 1000]), "cost")
    problem = Problem(TINY, ends, shared, length=length, deep=deep, scale=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BUCKET_COST_CPU", cost)
        assert_same(problem.actual(), problem.expected(), 1e-12)


TINY = in_float64(build(width=16, heads=2, layers=3, positions=12, vocabulary=16))


def test_a_shared_prefix_gives_what_truncation_gives(clip_model: CLIP) -> None:
    problem = Problem(clip_model, ENDS, shared=5, deep=[4])
    assert_same(problem.actual(), problem.actual(shared=0), 1e-5)


@pytest.mark.parametrize("deep", [[], [4, 4]])
def test_groups_of_prompts_with_a_prefix_each(clip_model: CLIP, deep: list[int]) -> None:
    """As in CoCoOp, where the context depends on the image: the same texts, once per image."""
    groups = [Problem(clip_model, ENDS, shared=5, deep=deep, seed=seed) for seed in range(3)]
    prompts, eot, deep_prompts = [g.prompts() for g in groups], groups[0].eot, groups[0].deep
    leaves = [leaf for g in groups for leaf in (g.prefix, g.suffix)] + deep_prompts

    def results(features: Tensor) -> list[Tensor]:
        loss = sum((f * g.weights).sum() for f, g in zip(features, groups, strict=True))
        return [features.detach(), *torch.autograd.grad(loss, leaves, retain_graph=True)]

    expected = torch.stack([all_positions(clip_model, p, eot, deep_prompts) for p in prompts])
    actual = encode_prompts(
        clip_model, torch.stack(prompts), eot, shared=5, deep_prompts=deep_prompts
    )
    assert_same(results(actual), results(expected), 1e-5)


def test_class_specific_contexts(clip_model: CLIP) -> None:
    """shared=0 reads every class's own context; a shared prefix reads row 0 alone."""
    problem = Problem(clip_model, ENDS, shared=0)
    *_, gradient = problem.actual()
    for row, end in zip(gradient, ENDS, strict=True):
        assert row[: end + 1].abs().amax(dim=1).min() > 0
        assert row[end + 1 :].abs().max() == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_low_precision_weights_as_stored(precision: str) -> None:
    """The error against fp32 is that of CLIP's own pass in the same precision."""
    exact, rounded = (build(64, 4, 4, 77, 16) for _ in range(2))
    set_precision(rounded, precision)
    reference, low = (Problem(m, ENDS, 5, deep=[4, 4], scale=0.5) for m in (exact, rounded))
    for truth, ours, theirs in zip(reference.expected(), low.actual(), low.expected(), strict=True):
        assert ours.dtype == theirs.dtype == rounded.text_projection.dtype
        own_error = (theirs.float() - truth).norm()
        assert (ours.float() - truth).norm() <= 1.5 * own_error


def test_autocast(clip_model: CLIP) -> None:
    problem = Problem(clip_model, ENDS, 5, deep=[4, 4], scale=0.5)
    truth = problem.expected()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = problem.actual(), problem.expected()
    for exact, a, b in zip(truth, ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert (a.float() - exact).norm() <= 1.5 * (b.float() - exact).norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda(clip_model: CLIP) -> None:
    problem = Problem(clip_model, ENDS, 5, deep=[4])
    expected, *_ = problem.expected()
    model = build(64, 4, 4, 77, 49408).cuda()
    features = encode_prompts(
        model,
        problem.prompts().cuda(),
        problem.eot,
        shared=5,
        deep_prompts=[problem.deep[0].cuda()],
    )
    torch.testing.assert_close(features.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("templates", [["a photo of a {}."], ["{}", "the {} of a thing."]])
def test_encode_tokens_is_encode_text(clip_model: CLIP, templates: list[str]) -> None:
    tokens = tokenize([template.format(name) for template in templates for name in NAMES])
    features = encode_tokens(clip_model, clip_model.token_embedding, tokens)
    torch.testing.assert_close(features, clip_model.encode_text(tokens), rtol=0, atol=1e-5)


def test_encode_tokens_of_an_fp16_clip() -> None:
    """CLIP's fp16 conversion leaves the token embedding in fp32."""
    model = build(64, 4, 4, 77, 49408)
    set_precision(model, "fp16")
    tokens = tokenize(NAMES)
    features = encode_tokens(model, model.token_embedding, tokens)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features, model.encode_text(tokens), rtol=0, atol=2e-2)


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_graphs_are_built_only_where_needed(clip_model: CLIP, needs_gradient: bool) -> None:
    problem = Problem(clip_model, ENDS, 5)
    prompts = problem.prompts()
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    guard = contextlib.nullcontext() if needs_gradient else torch.no_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), guard:
        features = encode_prompts(clip_model, prompts, problem.eot, shared=5)
    assert features.requires_grad == needs_gradient
    assert bool(saved) == needs_gradient


@pytest.mark.parametrize(
    ("cost", "rows"),
    [
        (0, 5 + 30 * 3 + 40 * 5 + 10 * 16),  # the prefix once, then each class to its EOT
        (60, 5 + 70 * 5 + 10 * 16),  # 30 classes are padded by 2 tokens each: not worth a bucket
        (1000, 5 + 80 * 16),
    ],
)
def test_computed_positions(
    clip_model: CLIP, monkeypatch: pytest.MonkeyPatch, cost: int, rows: int
) -> None:
    monkeypatch.setattr(layout, "BUCKET_COST_CPU", cost)
    ends = [7] * 30 + [9] * 40 + [20] * 10
    seen: list[int] = []
    block = clip_model.transformer.resblocks[0]
    hook = block.mlp.register_forward_pre_hook(lambda _, x: seen.append(x[0][..., 0].numel()))
    with hook, torch.no_grad():
        prompts = Problem(clip_model, ends, shared=5).prompts()
        encode_prompts(clip_model, prompts, torch.tensor(ends), shared=5)
    assert seen == [rows]


class Operations(TorchDispatchMode):
    """Counts what computes anything: each costs a GPU the launch of a kernel at least."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += not operation.is_view
        return operation(*args, **(kwargs or {}))


def test_few_operations_in_one_bucket(
    clip_model: CLIP, monkeypatch: pytest.MonkeyPatch, way: type
) -> None:
    """As a GPU computes it: fewer than CLIP's own blocks have for all positions."""
    monkeypatch.setattr(layout, "BUCKET_COST_CPU", layout.BUCKET_COST_ACCELERATOR)
    counts = []
    for encode in (Problem.expected, Problem.actual):
        with Operations() as operations:
            encode(Problem(clip_model, ENDS, 5, deep=[4]))
        counts.append(operations.count)
    usual, ours = counts
    assert (ours < usual) == (way is Fused)


def test_shared_prefix_length() -> None:
    def length(*texts: str, n_ctx: int = 0) -> int:
        return shared_prefix_length(tokenize(list(texts)), n_ctx)

    assert length("cat", "dog") == 1  # the start token
    assert length("X X X X cat.", "X X X X red fox.", n_ctx=4) == 5
    assert length("X X of a cat.", "X X of a dog.", n_ctx=2) == 5  # common words behind them
    assert length("X X big cat.", "X X big dog.", n_ctx=2) == 4
    assert length("big", "big cat") == 2  # the EOT of the first class is not shared
    assert length("big cat") == 3  # one class shares all but its EOT
    assert (
        length("W X Y cat", "A B C dog", n_ctx=3) == 4
    )  # the context counts, whatever stands there


def prompts_of(classes: int, positions: int, width: int = 64) -> Tensor:
    return torch.zeros(classes, positions, width)


@pytest.mark.parametrize(
    ("prompts", "eot", "options", "message"),
    [
        (prompts_of(2, 78), [5, 6], {}, "at most 77 positions"),
        (prompts_of(2, 77, 32), [5, 6], {}, "width 64"),
        (prompts_of(2, 77)[0], [5, 6], {}, "width 64"),
        (prompts_of(2, 77), [5, 6, 7], {}, "one position for each"),
        (prompts_of(0, 77), [], {}, "at least one class"),
        (prompts_of(2, 10), [5, 10], {}, "prompts have 10"),
        (prompts_of(2, 77), [5, 49407], {}, "not the token ids"),
        (prompts_of(2, 77), [5, -1], {}, "from -1 to 5"),
        (prompts_of(2, 77), [5, 6], {"shared": 6}, "first EOT is at 5"),
        (prompts_of(2, 77), [5, 6], {"shared": -1}, "-1 shared positions"),
        (prompts_of(2, 77), [5, 6], {"deep_prompts": [torch.zeros(1, 64)] * 4}, "at most 3"),
        (prompts_of(2, 77), [5, 6], {"deep_prompts": [torch.zeros(5, 64)]}, "n < 5"),
        (prompts_of(2, 77), [5, 6], {"deep_prompts": [torch.zeros(2, 32)]}, "Deep prompt 0"),
    ],
)
def test_clear_errors(
    clip_model: CLIP, prompts: Tensor, eot: list[int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SARError, match=message):
        encode_prompts(clip_model, prompts, torch.tensor(eot, dtype=torch.long), **options)
