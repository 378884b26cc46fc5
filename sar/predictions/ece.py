"""How far probabilities are from accuracies: expected calibration error (ECE), and an adaptive one.

ECE: M. Pakdaman Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning,
AAAI 2015. Adaptive: J. Nixon et al., Measuring Calibration in Deep Learning, CVPR workshops 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15


class CalibrationErrors(NamedTuple):
    """|confidence - accuracy| in percent, averaged over BINS bins weighted by their images."""

    ece: float
    """Bins of equal width."""
    adaptive: float
    """Bins of equally many images."""

    def __str__(self) -> str:
        return f"ECE {self.ece:.2f}%, adaptive ECE {self.adaptive:.2f}% ({BINS} bins)"


def calibration_errors(confidence: NDArray[Any], right: NDArray[Any]) -> CalibrationErrors:
    """Both errors of N images, at least one.

    Args:
        confidence: (N,) probability of the predicted class, 0 to 1. right: (N,) whether it is true.
    """
    import numpy as np

    sure, true = confidence.astype(np.float64), right.astype(np.float64)
    gaps = np.bincount(_bins(confidence), weights=sure - true)
    order = confidence.argsort(kind="stable")
    parts = np.array_split((sure - true)[order], BINS)
    adaptive = sum(abs(float(part.sum())) for part in parts)
    return CalibrationErrors(100 * float(abs(gaps).sum()) / len(sure), 100 * adaptive / len(sure))


def gaps_by_bin(confidence: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """(N, BINS + 2) confidence less truth of each image, in the column of its bin; 0 elsewhere.

    The ECE is the sum over columns of what they sum up to, without signs, divided by N.
    """
    import numpy as np

    gaps = np.zeros((len(confidence), BINS + 2))
    gaps[np.arange(len(gaps)), _bins(confidence)] = confidence.astype(np.float64) - right
    return gaps


def _bins(confidence: NDArray[Any]) -> NDArray[Any]:
    """(N,) the bin of equal width of each image."""
    import numpy as np

    # As torchmetrics has it: torch.linspace counts down from 1 in the upper half, by a step in
    # float32, and certainty is a bin of its own.
    count, step = np.arange(BINS + 1), float(np.float32(1) / np.float32(BINS))
    edges = np.where(count <= BINS // 2, count * step, 1 - (BINS - count) * step).astype(np.float32)
    return np.searchsorted(edges, confidence.astype(np.float32), side="right")
