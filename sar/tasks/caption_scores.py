"""All scores of captions, over a set of images and over each domain of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sar.tasks.captioned import Captioned
from sar.tasks.cider import cider_d
from sar.tasks.clip_score import PREFIX, clip_scores, ref_clip_scores
from sar.tasks.encoder import Encoder, owner_of


def reference_features(data: Captioned, encoder: Encoder) -> Tensor:
    """(M, D) of all captions that the images have, one image's after another's."""
    return encoder.texts([PREFIX + text for of_one in data.captions for text in of_one])


def caption_scores(
    texts: Sequence[str], data: Captioned, images: Tensor, references: Tensor, encoder: Encoder
) -> dict[str, dict[str, float]]:
    """Means, times 100 as they are usually given: "all" and each domain -> score -> number.

    Args:
        texts: a caption for each image. images: their features (N, D). references: of
            `reference_features`.
    """
    owner = owner_of(torch.tensor([len(of_one) for of_one in data.captions]))
    said = encoder.texts([PREFIX + text for text in texts])
    scores = {
        "CIDEr-D": torch.tensor(cider_d(texts, data.captions)),
        "CLIPScore": clip_scores(images, said),
        "RefCLIPScore": ref_clip_scores(images, said, references, owner),
    }
    groups = {"all": torch.ones(len(texts), dtype=torch.bool)}
    for domain in dict.fromkeys(data.domains):
        if domain:
            groups[domain] = torch.tensor([one == domain for one in data.domains])
    return {
        group: {name: 100 * of_each[rows].mean().item() for name, of_each in scores.items()}
        for group, rows in groups.items()
    }
