"""How far learned text features are from a teacher's, in one measure or another.

Most compare *relations*: `ours` and `target` (R, K) are cosines of R classes with K others, learned
and the teacher's, and the measure is a mean over the rows. Three compare the *features* of S
classes themselves, of length 1. All are zero where learned and teacher agree, but `hsic_apart`,
which is zero where they have nothing in common.

    l1     mean |s_w - s_t|                        l2     mean (s_w - s_t)^2
    kl     KL(softmax(s_t / tau) || softmax(s_w / tau)), the mean over the rows
    cross  the same with cos(w_i, t_j), learned against frozen, in the place of cos(w_i, w_j)
    hinge  mean max(0, |s_w - m| - k d): m, d are mean and standard deviation of a similarity over
           several teachers (templates), and what they leave open is free
    rank   mean over r of max(0, max_{q > r} s_w[q] - s_w[r]), the others of a row in the teacher's
           order: how far each lies below one that should lie below it
    fda    mean over a row's k nearest in the teacher, plus the mean over the rest, of
           max(0, c(s_w) - c(s_t)), c(s) = log(1 + exp(-+(s - b) / tau)), minus for neighbours; b
           lies half-way between the k-th and the next
    cov    |mean(w) - mean(t)|^2 + |cov(w) - cov(t)|_F^2
    hsic   1 - HSIC(w, t) / sqrt(HSIC(w, w) HSIC(t, t)) of linear kernels, 1 less their centred
           kernel alignment; hsic_apart: that alignment itself
    anchor mean 1 - cos(w_i, t_i): each class of its own, no relations

kl, l1, l2 and cross are SAR's (`sar.alignment`). The others are reconstructions of what relatives
of SAR do, written on equal terms with it: fda after Proxy-FDA (arXiv 2505.24088), cov after TCPT
(CVPR 2026), hsic_apart after DeKg (ICLR 2025), hinge after SEPT (arXiv 2601.20867), anchor after
KgCoOp (arXiv 2303.13283).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """Settings of some measures: tau in units of cosine, k nearest classes, k deviations."""

    temperature: float
    neighbours: int
    tolerance: float


@dataclass(frozen=True)
class Divergence:
    """A measure, and what it is of."""

    of: Callable[[Any, Any, Scale], Tensor]
    """Takes `ours` and `target`, or the learned and the teacher's features, (S, D) and (S, D')."""
    features: bool = False
    """It compares features, not relations."""
    crossed: bool = False
    """`ours` are cosines of learned with frozen features."""
    band: bool = False
    """`target` is a pair: mean and standard deviation over several teachers."""
    one_space: bool = False
    """Learned and teacher's features must be of one space."""
    least: int = 2
    """The number of classes that must be compared at least for it to say anything."""


def row_kl(target: Tensor, ours: Tensor, reduction: str = "batchmean") -> Tensor:
    """KL(softmax(target) || softmax(ours)) of the rows of two matrices (R, C) of logits.

    reduction: "batchmean" is the mean over the rows, "sum" their sum; "none" keeps the terms of
    these sums, (R, C).
    """
    learned, expected = F.log_softmax(ours, dim=1), F.log_softmax(target, dim=1)
    return F.kl_div(learned, expected, log_target=True, reduction=reduction)


def _kl(ours: Tensor, target: Tensor, scale: Scale) -> Tensor:
    return row_kl(target / scale.temperature, ours / scale.temperature)


def _l1(ours: Tensor, target: Tensor, scale: Scale) -> Tensor:
    return F.l1_loss(ours, target)


def _l2(ours: Tensor, target: Tensor, scale: Scale) -> Tensor:
    return F.mse_loss(ours, target)


def _hinge(ours: Tensor, target: tuple[Tensor, Tensor], scale: Scale) -> Tensor:
    mean, deviation = target
    return F.relu((ours - mean).abs() - scale.tolerance * deviation).mean()


def _rank(ours: Tensor, target: Tensor, scale: Scale) -> Tensor:
    ordered = ours.gather(1, target.argsort(dim=1))  # from the least similar to the most
    return F.relu(ordered.cummax(dim=1).values - ordered).mean()


def _fda(ours: Tensor, target: Tensor, scale: Scale) -> Tensor:
    k = min(scale.neighbours, target.shape[1] - 1)  # there is always another
    nearest = target.topk(k + 1, dim=1)
    border = nearest.values[:, -2:].mean(dim=1, keepdim=True)  # (R, 1)
    near = torch.zeros_like(target).scatter(1, nearest.indices[:, :k], 1.0)  # (R, K)
    side = (1 - 2 * near) / scale.temperature

    def cost(cosines: Tensor) -> Tensor:
        return F.softplus(side * (cosines - border))

    worse = F.relu(cost(ours) - cost(target))
    return (worse * (near / k + (1 - near) / (target.shape[1] - k))).sum(dim=1).mean()


def _cov(learned: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    off = learned.mean(dim=0) - teacher.mean(dim=0)  # (D,)
    spread = torch.cov(learned.T, correction=0) - torch.cov(teacher.T, correction=0)  # (D, D)
    return off.square().sum() + spread.square().sum()


def _alignment(learned: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    """Alignment of centred linear kernels, 0 to 1; needs no matrix of all pairs of classes."""
    ours, theirs = learned - learned.mean(dim=0), teacher - teacher.mean(dim=0)

    norm = torch.linalg.vector_norm(ours.T @ ours) * torch.linalg.vector_norm(theirs.T @ theirs)
    return (ours.T @ theirs).square().sum() / norm.where(norm > 0, 1)


def _hsic(learned: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    return 1 - _alignment(learned, teacher, scale)


def _anchor(learned: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    return 1 - (learned * teacher).sum(dim=1).mean()


MEASURES = {
    "kl": Divergence(_kl, least=3),
    "l1": Divergence(_l1),
    "l2": Divergence(_l2),
    "cross": Divergence(_kl, crossed=True, one_space=True, least=3),
    "hinge": Divergence(_hinge, band=True),
    "rank": Divergence(_rank, least=3),
    "fda": Divergence(_fda, least=3),
    "cov": Divergence(_cov, features=True, one_space=True),
    "hsic": Divergence(_hsic, features=True, least=3),
    "hsic_apart": Divergence(_alignment, features=True, least=3),
    "anchor": Divergence(_anchor, features=True, one_space=True),
}
