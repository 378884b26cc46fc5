"""Recall at k of image-text retrieval, as CLIP_benchmark counts it.

Image to text: the share of images of which at least one caption is among the k captions nearest to
the image. Text to image: the share of captions whose image is among the k images nearest to the
caption. All captions and images of the split are candidates. Equal scores count against a hit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KS = (1, 5, 10)
_AT_ONCE = 1024


@dataclass(frozen=True)
class Recalls:
    """In percent, for each of `KS`."""

    image_to_text: tuple[float, ...]
    text_to_image: tuple[float, ...]

    @property
    def rsum(self) -> float:
        """The sum of all, 600 at most."""
        return sum(self.image_to_text) + sum(self.text_to_image)


def recalls(images: Tensor, captions: Tensor, owner: Tensor) -> Recalls:
    """Recalls by inner products.

    Args:
        images: features (N, D), each with at least one caption. captions: features (M, D).
        owner: (M,) long, the row of each caption's image.
    """
    rows = torch.arange(len(images), device=owner.device)
    of_images = []
    for some in rows.split(_AT_ONCE):
        scores = images[some] @ captions.t()  # (n, M)
        own = owner == some.unsqueeze(1)
        best = scores.masked_fill(~own, float("-inf")).amax(dim=1, keepdim=True)
        of_images.append(((scores >= best) & ~own).sum(dim=1))
    of_captions = []
    for some, theirs in zip(captions.split(_AT_ONCE), owner.split(_AT_ONCE), strict=True):
        scores = some @ images.t()  # (m, N)
        best = scores.gather(1, theirs.unsqueeze(1))
        of_captions.append((scores >= best).sum(dim=1) - 1)  # without itself
    return Recalls(_shares(torch.cat(of_images)), _shares(torch.cat(of_captions)))


def _shares(better: Tensor) -> tuple[float, ...]:
    """Of the numbers of candidates before the first right one: percent below each k."""
    return tuple(100 * (better < k).double().mean().item() for k in KS)
