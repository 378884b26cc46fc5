"""Class relations under a hand-crafted and under a learned prompt, compared class by class.

Everything here works on text embeddings (C, D) of the same C classes, row i for class i, of any
floating-point type and scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform
from torch import Tensor
from torch.nn import functional as F

from sar.divergence import row_kl

NEIGHBOURS = 5


@dataclass(frozen=True)
class ClassChange:
    """What a learned prompt did to one class's relations to the others."""

    name: str
    divergence: float
    """This class's part of L_SAR ("kl", in nats): KL(hand-crafted || learned) of its row."""
    nearest: str
    """The most similar other class with the hand-crafted prompt ..."""
    nearest_learned: str
    """... and with the learned one."""
    rank: int
    """Rank of the formerly nearest class under the learned prompt; 1: it still is the nearest."""
    kept: int
    """Number of the `NEIGHBOURS` nearest classes that are still among the nearest."""


@dataclass(frozen=True)
class Relations:
    """All classes' changes under one learned prompt."""

    changes: tuple[ClassChange, ...]
    correlation: float
    """Pearson correlation of the hand-crafted prompt's pairwise similarities with the learned's."""
    mean_similarity: float
    """Mean cosine of all pairs of distinct classes under the learned prompt."""

    @property
    def divergence(self) -> float:
        """Mean over the classes, in nats: L_SAR with "kl"."""
        return float(np.mean([change.divergence for change in self.changes]))

    @property
    def nearest_changed(self) -> float:
        """Fraction of the classes, 0 to 1, whose nearest other class is another one now."""
        return float(np.mean([change.rank > 1 for change in self.changes]))

    @property
    def kept(self) -> float:
        """Fraction of all nearest neighbours that stayed, 0 to 1."""
        room = min(NEIGHBOURS, len(self.changes) - 1)
        return float(np.mean([change.kept / room for change in self.changes]))


def similarities(features: Tensor) -> Tensor:
    """Cosine similarities (C, C), float32, of embeddings (C, D)."""
    unit = F.normalize(features.float(), dim=-1)
    return unit @ unit.T


def compare(
    reference: Tensor, learned: Tensor, names: Sequence[str], temperature: float = 0.1
) -> Relations:
    """How the similarities (C, C) `learned` differ from `reference`; C is at least 3.

    temperature: of the softmax in the divergence, in units of cosine, as in `sar.alignment`.
    """
    size = len(names)
    others = ~torch.eye(size, dtype=torch.bool)
    rows = [matrix[others].view(size, size - 1) for matrix in (reference, learned)]
    before, after = (row / temperature for row in rows)
    divergence = row_kl(before, after, reduction="none").sum(dim=1)

    # The diagonal goes last, so that a class is never its own neighbour.
    ranked = [m.masked_fill(~others, -torch.inf).argsort(dim=1, descending=True) for m in
              (reference, learned)]  # fmt: skip
    room = min(NEIGHBOURS, size - 1)
    changes = []
    for i, (old, new) in enumerate(zip(*(order.tolist() for order in ranked), strict=True)):
        change = ClassChange(
            name=names[i],
            divergence=float(divergence[i]),
            nearest=names[old[0]],
            nearest_learned=names[new[0]],
            rank=new.index(old[0]) + 1,
            kept=len(set(old[:room]) & set(new[:room])),
        )
        changes.append(change)
    pairs = torch.stack([row.flatten() for row in rows])
    return Relations(tuple(changes), float(torch.corrcoef(pairs)[0, 1]), float(rows[1].mean()))


def cluster_order(similarity: Tensor) -> list[int]:
    """An order of the classes that puts similar ones side by side.

    Average-linkage clustering of 1 - cosine (C, C), leaves ordered so that neighbours are close.
    """
    if len(similarity) < 3:
        return list(range(len(similarity)))
    distance = (1 - similarity.double()).clamp_min(0)
    condensed = squareform(((distance + distance.T) / 2).fill_diagonal_(0).numpy(), checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, method="average"), condensed)
    return [int(leaf) for leaf in leaves_list(tree)]
