"""Other classes and other images: the two-level bootstrap of accuracies and calibration errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_AT_A_TIME = 2_000_000  # images drawn at once, which take 50 MB


def accuracies(
    label: NDArray[np.int32], correct: NDArray[np.bool_], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """What M models' accuracies would be on other classes and images like these.

    In every resample as many classes as there are are drawn with replacement, then of each drawn
    class as many of its images as it has, with replacement. All models are tested on the same
    resamples, and so are those of another call with the same `label` and `seed`.

    Args:
        label: (N,) the true class of each image. correct: (N, M) what each model got right.

    Returns:
        (resamples, M) percent.
    """
    order = np.argsort(label, kind="stable")
    hits = correct[order].astype(np.float64)
    parts = [
        counts @ hits / counts.sum(axis=1, keepdims=True)
        for counts in _counts(label[order], np.random.default_rng(seed), resamples)
    ]
    return 100.0 * np.concatenate(parts)


def calibration(
    label: NDArray[np.int32],
    gaps: NDArray[np.float64],
    error: NDArray[np.float64],
    seed: int,
    resamples: int = RESAMPLES,
) -> NDArray[np.float64]:
    """What M models' calibration errors would be on the resamples of `accuracies`.

    An error adds amounts without their signs, so that whatever resampling adds to a bin makes it
    larger: all resamples of a model are moved by as much as their mean is above its error.

    Args:
        gaps: (N, M, B) confidence less truth of each image, in its bin (`gaps_by_bin`).
        error: (M,) percent.

    Returns:
        (resamples, M) percent.
    """
    order = np.argsort(label, kind="stable")
    _, models, bins = gaps.shape
    flat = gaps[order].reshape(len(label), -1)
    parts = [
        abs((counts @ flat).reshape(-1, models, bins)).sum(axis=2)
        / counts.sum(axis=1, keepdims=True)
        for counts in _counts(label[order], np.random.default_rng(seed), resamples)
    ]
    drawn = 100.0 * np.concatenate(parts)
    return drawn - drawn.mean(axis=0) + error


def _counts(
    label: NDArray[np.int32], rng: np.random.Generator, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """(r, N) how often each image of the sorted classes is drawn, some resamples at a time."""
    _, start, size = np.unique(label, return_index=True, return_counts=True)
    images = len(label)
    step = max(1, _AT_A_TIME // images)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(len(size), size=(rows, len(size)))
        sizes = size[drawn].ravel()
        within = rng.random(sizes.sum()) * np.repeat(sizes, sizes)
        image = np.repeat(start[drawn].ravel(), sizes) + within.astype(np.int64)
        row = np.repeat(np.arange(rows), size[drawn].sum(axis=1))
        counts = np.bincount(row * images + image, minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)
