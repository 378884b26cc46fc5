"""How far probabilities are from accuracies, a temperature that mends it, and "I don't know".

Negative labels: X. Jiang et al., Negative Label Guided OOD Detection with Pretrained
Vision-Language Models, ICLR 2024; here the novel names, in the learned prompt.
"""

from __future__ import annotations

import torch
from scipy.optimize import minimize_scalar
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn import functional as F

from sar.errors import DataError
from sar.predictions.ece import CalibrationErrors, calibration_errors

KEEP = 0.95
"""Share of held-out pictures of trained classes that a threshold lets pass."""
_LOG_RANGE = (-3.0, 3.0)  # of a temperature, to the base e


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which softmax(logits / T) has the least cross-entropy.

    logits (N, C), labels (N,); N at least 1. Between e^-3 and e^3.
    """
    scores = logits.double()

    def loss(log: float) -> float:
        return F.cross_entropy(scores / torch.tensor(log).exp(), labels).item()

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(torch.tensor(found.x).exp())


def known_share(output: Tensor, classes: int) -> Tensor:
    """(N,) probability that a picture shows one of the classes and none of the negative labels.

    output (N, C + M): logits of the classes, then of M negative labels.
    """
    return output.double().softmax(dim=1)[:, :classes].sum(dim=1)


def threshold(known: Tensor, keep: float = KEEP) -> float:
    """The greatest value that a share `keep` of (N,) shares reaches."""
    return float(known.double().quantile(1 - keep, interpolation="lower"))


def errors(probabilities: Tensor, labels: Tensor) -> CalibrationErrors:
    """Calibration errors of probabilities (N, C) for labels (N,)."""
    confidence, predicted = probabilities.double().max(dim=1)
    return calibration_errors(confidence.numpy(), (predicted == labels).numpy())


def detection(known: Tensor, unknown: Tensor) -> tuple[float, float]:
    """AUROC, and the share of unknown pictures that pass when 95 % of the known do; in percent.

    known (N,), unknown (M,): scores, greater for what is known.

    Raises:
        DataError: none of one kind.
    """
    if not len(known) or not len(unknown):
        raise DataError("AUROC needs pictures of classes that are known and of others")
    # Of all pairs of one of each, those in which the known one is above; ties count half.
    above = mannwhitneyu(known.double().numpy(), unknown.double().numpy(), method="asymptotic")
    passing = (unknown.double() >= threshold(known)).double().mean()
    return 100.0 * float(above.statistic) / (len(known) * len(unknown)), 100.0 * float(passing)


def openworld_auc(
    base_right: Tensor, new_right: Tensor, base_newness: Tensor, new_newness: Tensor
) -> float:
    """OpenworldAUC in percent (C. Hua et al., ICML 2025).

    The share of all pairs of a base and a new picture in which both are classified rightly among
    the classes of their kind and the new one has the greater newness. Equal ones count half.

    Args:
        base_right, new_right: (B,) and (N,) bool. base_newness, new_newness: (B,) and (N,).
    """
    base = base_newness[base_right].double().sort().values
    new = new_newness[new_right].double().contiguous()
    below = torch.searchsorted(base, new, right=False)
    up_to = torch.searchsorted(base, new, right=True)
    pairs = (below + up_to).double().sum() / 2
    return 100.0 * float(pairs) / (len(base_right) * len(new_right))
