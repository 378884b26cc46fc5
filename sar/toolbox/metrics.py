"""Accuracy of a batch of predictions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def compute_accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Fraction of samples whose label is among the k best classes, in percent.

    Args:
        output: (B, C) scores, or a tuple that begins with them. target: (B,) labels.

    Returns:
        One tensor of shape (1,) per k.
    """
    if isinstance(output, tuple | list):
        output = output[0]
    best = output.topk(max(topk), dim=1).indices
    hits = best.eq(target.unsqueeze(1)).to(torch.float32)
    return [hits[:, :k].sum().mul(100.0 / len(target)).reshape(1) for k in topk]
