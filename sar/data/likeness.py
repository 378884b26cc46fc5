"""Which pictures are the same, byte for byte or nearly, and which show nothing.

A picture is compared by a copy of SIZE x SIZE pixels. Re-encoded, resized or slightly retouched
copies differ by a few of 255 steps in it, other photographs by tens.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sar.data.checks import sha256
from sar.errors import DataError
from sar.picture import read_seen

SIZE = 12
EMPTY = 2.0
"""Standard deviation, of 255 steps, below which a picture counts as one colour all over."""
NEAR = 6.0
"""Root mean square difference, of 255 steps, below which two pictures are nearly equal ..."""
_OF_CONTRAST = 0.12
"""... and the greatest share of their contrast: a small thing on white is mostly white."""
_ROWS = 1000  # compared with all others at a time


@dataclass(frozen=True)
class Look:
    """One picture at a glance."""

    path: str
    content: str = ""
    """SHA-256 of the file."""
    small: NDArray[np.float32] | None = None
    """(3 * SIZE * SIZE,) its small copy; None: it cannot be read."""
    problem: str = ""

    @property
    def contrast(self) -> float:
        """Standard deviation of the small copy around its mean colour."""
        if self.small is None:
            return 0.0
        pixels = self.small.reshape(-1, 3)
        return float((pixels - pixels.mean(axis=0)).std())

    @property
    def empty(self) -> bool:
        """Whether it can be read and shows nothing."""
        return not self.problem and self.contrast < EMPTY


def look(path: str) -> Look:
    """Reads a picture as people see it; what is wrong with it is in `Look.problem`."""
    try:
        image = read_seen(path).resize((SIZE, SIZE), Image.Resampling.BOX)
        content = sha256(Path(path))
    except (DataError, OSError) as error:
        return Look(path, problem=str(error))
    return Look(path, content, np.asarray(image, dtype=np.float32).ravel())


def looks(paths: Sequence[str]) -> Iterator[Look]:
    """`look` at each in its order, several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(look, paths)


def equal(found: Iterable[Look]) -> list[list[str]]:
    """Paths of files with the same bytes, together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for one in found:
        if one.content:
            groups[one.content].append(one.path)
    return [paths for paths in groups.values() if len(paths) > 1]


def nearly_equal(some: Sequence[Look], others: Sequence[Look]) -> list[tuple[str, str, float]]:
    """Pairs of one of `some` and one of `others`, and how far apart they are; the nearest first.

    Files of the same bytes and pictures that show nothing are left out.
    """
    some, others = ([one for one in group if one.contrast >= EMPTY] for group in (some, others))
    if not some or not others:
        return []
    right, contrast = _stacked(others), np.array([one.contrast for one in others])
    pairs = []
    for start in range(0, len(some), _ROWS):
        left = _stacked(some[start : start + _ROWS])
        square = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
        distance = np.sqrt(np.maximum(square, 0) / left.shape[1])
        for row, column in np.argwhere(distance < np.minimum(NEAR, _OF_CONTRAST * contrast)):
            one, other = some[start + row], others[column]
            if one.content != other.content:
                pairs.append((one.path, other.path, float(distance[row, column])))
    return sorted(pairs, key=lambda pair: pair[2])


def _stacked(found: Sequence[Look]) -> NDArray[np.float32]:
    # In single precision differences of large sums of squares are off by less than a step.
    return np.stack([one.small for one in found if one.small is not None]) - 128
