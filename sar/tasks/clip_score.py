"""CLIPScore and RefCLIPScore (Hessel et al., EMNLP 2021): what a CLIP makes of captions."""

from __future__ import annotations

import torch
from torch import Tensor

PREFIX = "A photo depicts "
"""In front of every caption, candidates and references, as published."""
_SCALE = 2.5


def clip_scores(images: Tensor, captions: Tensor) -> Tensor:
    """2.5 max(cos, 0) of images (N, D) and their captions (N, D), both normalized -> (N,)."""
    return _SCALE * (images * captions).sum(dim=-1).clamp(min=0)


def ref_clip_scores(images: Tensor, captions: Tensor, references: Tensor, owner: Tensor) -> Tensor:
    """Harmonic mean of CLIPScore and the caption's greatest cosine with a reference, at least 0.

    Args:
        images, captions: (N, D), normalized. references: (M, D), normalized.
        owner: (M,) long, the row of each reference's image; every image has one.

    Returns:
        (N,), 0 where one of the two is 0.
    """
    cosines = (captions[owner] * references).sum(dim=-1).clamp(min=0)
    nearest = torch.zeros(len(images)).scatter_reduce(0, owner, cosines, "amax")
    scores = clip_scores(images, captions)
    return 2 * scores * nearest / (scores + nearest).clamp(min=torch.finfo(scores.dtype).tiny)
