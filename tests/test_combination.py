"""Class weights from a template and a generated embedding: closed form, start, and a trap."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sar.toolbox.combination import FeatureCombination, GateCombination

D = 48
KINDS = [FeatureCombination, GateCombination]
both = pytest.mark.parametrize("kind", KINDS)
worlds = given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))


def world(images: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized image features (B, D), text features (C, D) and embeddings (B, D)."""
    torch.manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        F.normalize(torch.randn(n, D, dtype=torch.float64), dim=-1)
        for n in (images, classes, images)
    )


def moved(kind: Any, seed: int) -> Any:
    """With parameters as large as a long training may make them."""
    torch.manual_seed(seed)
    combination = kind(D).double()
    for parameter in combination.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return combination


@both
@worlds
def test_the_closed_form_is_that_of_the_weights(kind, images, classes, seed):
    image, text, generated = world(images, classes, seed)
    combination = moved(kind, seed)
    weights = combination.weights(text, generated)
    assert weights.shape == (images, classes, D)
    expected = torch.einsum("bd,bcd->bc", image, F.normalize(weights, dim=-1))
    torch.testing.assert_close(combination.cosines(image, text, generated), expected)


def test_what_is_learned_is_what_the_formulas_name():
    feature, gate = (
        {name: tuple(p.shape) for name, p in kind(D).named_parameters()} for kind in KINDS
    )
    assert feature == {
        **{"text.weight": (8, D), "text.bias": (8,)},
        **{"generated.weight": (8, D), "out.weight": (D, 8)},
    }
    assert gate == {"gate.weight": (D, D), "gate.bias": (D,)}


def test_the_closed_form_holds_behind_gates_that_are_nearly_closed():
    image, text, generated = world(3, 4, 0)
    combination = GateCombination(D).double()
    torch.nn.init.constant_(combination.gate.bias, -2.0)
    weights = combination.weights(text, generated)
    assert weights.norm(dim=-1).max() < 0.05
    expected = torch.einsum("bd,bcd->bc", image, F.normalize(weights, dim=-1))
    torch.testing.assert_close(combination.cosines(image, text, generated), expected)


@both
@worlds
def test_it_begins_with_the_template_bit_for_bit(kind, images, classes, seed):
    image, text, generated = (x.float() for x in world(images, classes, seed))
    torch.manual_seed(seed)
    combination = kind(D)
    assert torch.equal(combination.weights(text, generated), text.expand(images, -1, -1))
    scaled = 22.0 * image
    assert torch.equal(combination.cosines(scaled, text, generated), scaled @ text.t())


@both
@worlds
def test_gradients_of_the_closed_form_are_those_of_the_weights(kind, images, classes, seed):
    image, text, generated = world(images, classes, seed)
    combination = moved(kind, seed)
    generated.requires_grad_()
    inputs = [generated, *combination.parameters()]
    weights = F.normalize(combination.weights(text, generated), dim=-1)
    written_out = torch.einsum("bd,bcd->bc", image, weights)
    factors = torch.randn_like(written_out)
    for ours, theirs in zip(
        torch.autograd.grad((combination.cosines(image, text, generated) * factors).sum(), inputs),
        torch.autograd.grad((written_out * factors).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_linear_combination_would_cancel_and_these_do_not():
    image, text, generated = world(4, 6, 0)
    a, b = (torch.randn(D, D, dtype=torch.float64) for _ in "ab")
    other = generated.flip(0)

    def linear(embedding: Tensor) -> Tensor:
        weights = text @ a + (embedding @ b).unsqueeze(1)
        return torch.einsum("bd,bcd->bc", image, weights).softmax(dim=1)

    torch.testing.assert_close(linear(generated), linear(other))
    for kind in KINDS:
        combination = moved(kind, 0)
        for classify in (
            combination.cosines,
            lambda i, t, e, c=combination: torch.einsum("bd,bcd->bc", i, c.weights(t, e)),
        ):
            found, shuffled = (classify(image, text, e).softmax(dim=1) for e in (generated, other))
            assert (found - shuffled).abs().max() > 1e-3
