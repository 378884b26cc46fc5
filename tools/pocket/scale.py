"""The scale of the logits at which drawings are most likely among the classes of their dataset."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

LARGEST = 100.0  # CLIP's own limit


def fitted_scale(answers: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The scale s at which softmax(s * cosines) gives the targets the highest likelihood.

    Args:
        answers: of each dataset the cosines (N, C) of drawings and class names, and targets (N,).
    """
    given = list(answers)

    def slope(scale: float) -> float:
        """Of the negative log-likelihood, which is convex: it rises with the scale."""
        total = 0.0
        for cosines, target in given:
            expected = ((scale * cosines).softmax(1) * cosines).sum(1)
            total += float((expected - cosines.gather(1, target[:, None])[:, 0]).sum())
        return total

    low, high = 0.0, LARGEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2
