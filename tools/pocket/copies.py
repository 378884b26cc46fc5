"""Near-copies: sets take drawings from each other, and one hand draws a thing in several styles.

Drawings are compared by the correlation of their ink within the bounding box, as they are and as
in a mirror, so that padding, colour and direction do not hide a copy. Drawings of one concept that
correlate above COPY, or that one hand calls by one name, count as one *unit*: an independent
drawing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from drawings import Drawing
from torch import Tensor
from torch.nn import functional as F

COPY = 0.9  # correlation of ink above which two drawings of one concept are copies
GRID = 24  # cells per side in which ink is compared
JOINED_SHARE, JOINED_COUNT = 0.35, 20  # copies of things that make two families one


def ink(pixels: np.ndarray, batch: int = 4096) -> Tensor:
    """(N, GRID * GRID) half-precision ink in the bounding box: zero mean, unit norm."""
    parts = []
    for start in range(0, len(pixels), batch):
        part = torch.from_numpy(pixels[start : start + batch]).float() / 255
        alpha = part[..., 3]
        dark = alpha * (1.2 - part[..., :3].mean(-1))
        parts.append(_normalized(dark, alpha > 0.1).half())
    return torch.cat(parts)


def _normalized(dark: Tensor, inked: Tensor) -> Tensor:
    size = dark.shape[-1]
    bounds = []
    for axis in (1, 2):  # over rows: extent in x; over columns: extent in y
        line = inked.any(axis).float()
        first, last = line.argmax(1), size - line.flip(1).argmax(1)
        bounds.append(((first + last) / size - 1, ((last - first) / size).clamp(min=1 / size)))
    (x, width), (y, height) = bounds
    zero = torch.zeros_like(x)
    transform = torch.stack(
        [torch.stack([width, zero, x], 1), torch.stack([zero, height, y], 1)], 1
    )
    grid = F.affine_grid(transform, [len(dark), 1, 2 * GRID, 2 * GRID], align_corners=False)
    moved = F.grid_sample(dark[:, None], grid, align_corners=False)
    flat = F.avg_pool2d(moved, 2).flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True), dim=1)


def mirrored(features: Tensor) -> Tensor:
    """The `ink` (N, GRID * GRID) of the same drawings with left and right exchanged."""
    return features.unflatten(1, (GRID, GRID)).flip(2).flatten(1)


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """(N, M) correlations of two groups' ink, the larger of both directions."""
    return torch.maximum(one @ other.T, one @ mirrored(other).T)


def units(
    drawings: Sequence[Drawing], features: Tensor, kind_of: Mapping[str, str]
) -> tuple[list[int], Counter]:
    """The unit of every drawing, and of how many things two families share a copy.

    Only things count for families: the signs of interfaces are alike in all sets.
    """
    of_concept: dict[str, list[int]] = defaultdict(list)
    for number, drawing in enumerate(drawings):
        of_concept[drawing.concept].append(number)
    parent = list(range(len(drawings)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    shared: Counter = Counter()
    for concept, numbers in of_concept.items():
        first: dict[tuple[str, str], int] = {}
        for number in numbers:
            key = (drawings[number].hand, drawings[number].base)
            parent[root(number)] = root(first.setdefault(key, number))
        part = features[numbers].float()
        found: set[tuple[str, str]] = set()
        for a, b in (likeness(part, part) > COPY).triu(1).nonzero().tolist():
            one, other = drawings[numbers[a]], drawings[numbers[b]]
            parent[root(numbers[b])] = root(numbers[a])
            if one.family != other.family:
                found.add((min(one.family, other.family), max(one.family, other.family)))
        if kind_of[concept] == "thing":
            shared.update(found)
    return [root(number) for number in range(len(drawings))], shared


def joined_families(
    drawings: Sequence[Drawing], shared: Counter, kind_of: Mapping[str, str]
) -> dict[str, str]:
    """The family of every family: those that share copies of many of the things both draw join."""
    concepts: dict[str, set[str]] = defaultdict(set)
    for drawing in drawings:
        if kind_of[drawing.concept] == "thing":
            concepts[drawing.family].add(drawing.concept)
    name = {drawing.family: drawing.family for drawing in drawings}
    for (one, other), count in sorted(shared.items()):
        both = len(concepts[one] & concepts[other])
        if count >= JOINED_COUNT and count >= JOINED_SHARE * both:
            old, new = max(name[one], name[other]), min(name[one], name[other])
            name = {family: new if now == old else now for family, now in name.items()}
    return name
