"""How a generated prompt embedding p (AAPE) and text features t_c of a template give class weights.

    feature  w_c = t_c + V relu(A t_c + B p + b)
    gate     w_c = t_c * (1 + tanh(G p))
    token    p shifts the word in front of the class name, and w_c is the text encoder's output

*A reconstruction*: known is that the embedding is "combined with a class template, then projected".
It cannot be linear in [t_c; p]: A t_c + B p shifts the weights of all classes alike, the logits of
an image by one number, and the softmax not at all.

V, G and the shift start as zeros, so that the logits begin as zero-shot CLIP's, bit for bit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sar.toolbox.aggregation import hidden_width, zero

_LEAST = 1e-6  # of a squared norm that is divided by


class Combination(nn.Module):
    """Class weights, and logits without writing them out: B images, C classes, width D."""

    def weights(self, text: Tensor, generated: Tensor) -> Tensor:
        """Normalized (C, D) and (B, D) -> class weights (B, C, D), not normalized."""
        raise NotImplementedError

    def cosines(self, image: Tensor, text: Tensor, generated: Tensor) -> Tensor:
        """Inner products (B, C) of images (B, D) and normalized `weights`."""
        raise NotImplementedError


class FeatureCombination(Combination):
    """The template's feature, moved by a two-layer perceptron of both.

    The first layer is the sum of one on either side. Inner products and norms need no (B, C, D):
    with h the hidden layer, w.f = t.f + (V'f).h and |w|^2 = 1 + 2 (V't).h + h'(V'V)h.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = hidden_width(dim)
        self.text = nn.Linear(dim, hidden)
        self.generated = nn.Linear(dim, hidden, bias=False)
        self.out = zero(nn.Linear(hidden, dim, bias=False))  # a bias would move all classes alike

    def _hidden(self, text: Tensor, generated: Tensor) -> Tensor:
        return F.relu(self.text(text) + self.generated(generated).unsqueeze(1))  # (B, C, h)

    def weights(self, text: Tensor, generated: Tensor) -> Tensor:
        return text + self.out(self._hidden(text, generated))

    def cosines(self, image: Tensor, text: Tensor, generated: Tensor) -> Tensor:
        hidden, out = self._hidden(text, generated), self.out.weight  # (B, C, h), (D, h)
        moved = torch.einsum("bch,bh->bc", hidden, image @ out)
        growth = ((2 * text @ out + hidden @ (out.t() @ out)) * hidden).sum(dim=-1)
        return (image @ text.t() + moved) * (1 + growth).clamp_min(_LEAST).rsqrt()


class GateCombination(Combination):
    """The template's feature, each entry weakened or strengthened (from 0 to 2 times)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = zero(nn.Linear(dim, dim))

    def weights(self, text: Tensor, generated: Tensor) -> Tensor:
        return text * (1 + torch.tanh(self.gate(generated))).unsqueeze(1)

    def cosines(self, image: Tensor, text: Tensor, generated: Tensor) -> Tensor:
        gate = torch.tanh(self.gate(generated))
        growth = (2 * gate + gate.square()) @ text.square().t()
        dot = image @ text.t() + (image * gate) @ text.t()
        return dot * (1 + growth).clamp_min(_LEAST).rsqrt()
