"""Which of the prompts' positions are computed, and in what order of rows.

First the P positions that all classes share, then the classes, each from there to its end of text.
Classes of the same number of tokens lie together in a bucket, so that attention needs views, not
copies. A class may be padded to the length of a longer one, to share its bucket.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# A bucket of its own saves its classes padding, but costs small operations in every layer. Both
# are counted in tokens: a bucket is opened where it saves more than this. On a CPU anything from 0
# to 20 measures the same; on an H200 3000 is best (docs/speed.md).
BUCKET_COST_CPU = 8
BUCKET_COST_ACCELERATOR = 3000


@dataclass(frozen=True)
class Layout:
    """Where the T computed rows come from; index tensors are int64, on the prompts' device."""

    sizes: tuple[tuple[int, int], ...]
    """Classes and rows of each: (1, P) for the shared positions, then (n, S) for every bucket."""
    source: Tensor
    """(T,) place of each row among the C * L positions of all prompts."""
    position: Tensor
    """(T,) position in its prompt."""
    attended: Tensor
    """(T,) place of each row when the shared rows are repeated in front of every class."""
    eot: Tensor
    """(C,) row of each class's end of text."""

    @property
    def shared(self) -> int:
        """P."""
        return self.sizes[0][1]

    @property
    def rows(self) -> list[int]:
        """The number of rows of each entry of `sizes`."""
        return [classes * length for classes, length in self.sizes]


def build_layout(ends: Sequence[int], length: int, shared: int, device: torch.device) -> Layout:
    """The rows for prompts of `length` positions that end at `ends` and share the first ones."""
    cost = BUCKET_COST_CPU if device.type == "cpu" else BUCKET_COST_ACCELERATOR
    sizes, indices = _planned(tuple(ends), length, shared, cost)
    packed = torch.from_numpy(indices)  # one copy to the device, which nothing waits for
    if device.type == "cuda":
        packed = packed.pin_memory()
    packed = packed.to(device, non_blocking=True)
    rows = sum(classes * length for classes, length in sizes)
    return Layout(sizes, *packed.split([rows, rows, rows, len(ends)]))


@lru_cache(maxsize=64)  # a method's own classes are the same in every step
def _planned(
    ends: tuple[int, ...], length: int, shared: int, cost: int
) -> tuple[tuple[tuple[int, int], ...], "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """`Layout.sizes`, and its index tensors behind one another."""
    lengths = [end + 1 - shared for end in ends]
    padded = _padded_lengths(lengths, cost)
    members: dict[int, list[int]] = {}
    for i, own in enumerate(lengths):
        members.setdefault(padded[own], []).append(i)

    source = [np.arange(shared)]
    attended = [np.arange(shared)]
    eot = np.empty(len(ends), dtype=np.int64)
    start = before = 0
    for own, classes in members.items():
        indices, nth = np.array(classes), np.arange(len(classes))
        within = np.arange(own)
        source.append((indices[:, None] * length + shared + within).ravel())
        attended.append((before + nth[:, None] * (shared + own) + shared + within).ravel())
        eot[indices] = shared + start + nth * own + np.array([lengths[i] - 1 for i in classes])
        start += len(classes) * own
        before += len(classes) * (shared + own)
    sizes = ((1, shared), *((len(classes), own) for own, classes in members.items()))
    rows = np.concatenate(source)
    return sizes, np.concatenate([rows, rows % length, *attended, eot])


def _padded_lengths(lengths: list[int], cost: int) -> dict[int, int]:
    """The length to compute for each length: its own, or a longer one where that costs less."""
    padded: dict[int, int] = {}
    longer = max(lengths)
    for length, count in sorted(Counter(lengths).items(), reverse=True):
        if count * (longer - length) > cost:
            longer = length
        padded[length] = longer
    return padded
