"""The SAR loss: align how similar the classes are to each other (arXiv 2502.11969).

Learned prompts must relate the classes to one another as hand-crafted prompts of the frozen text
encoder do. For the sampled classes S, with learned features w_i and reference features t_i:

    s_w[i, j] = cos(w_i, w_j)        s_t[i, j] = cos(t_i, t_j)        i != j, both in S

    kl:  mean_i KL( softmax_{j != i}(s_t[i, j] / tau) || softmax_{j != i}(s_w[i, j] / tau) )
    l1:  mean_{i != j} |s_w[i, j] - s_t[i, j]|
    l2:  mean_{i != j} (s_w[i, j] - s_t[i, j])^2

The paper names the idea; these formulas are a reconstruction of it. l1 and l2 are zero exactly if
the off-diagonal similarities agree. kl is zero exactly if they agree up to one constant common to
all pairs: each row is known up to a constant, and symmetry makes these constants equal. With two
classes each row holds one value, so kl says nothing and is zero.

These and the measures of SAR's relatives are written down in `sar.divergence`.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sar.divergence import MEASURES, Scale
from sar.errors import ConfigError, SARError

__all__ = ["DIVERGENCES", "sample_classes", "similarity_alignment_loss"]

DIVERGENCES = tuple(MEASURES)
# So many classes are compared at once, with matrices of 64 MiB in fp32; more of them in blocks.
_AT_ONCE = 4096


def similarity_alignment_loss(
    learned: Tensor,
    reference: Tensor,
    *,
    divergence: str = "kl",
    temperature: float = 0.1,
    neighbours: int = 5,
    tolerance: float = 1.0,
    index: Tensor | None = None,
    across: int | None = None,
) -> Tensor:
    """Distance between the class similarities of `learned` and those of `reference`; a scalar.

    learned: (C, D) and reference: (C, D'), floating point of any scale, on one device; row i of
    both belongs to class i. "hinge" takes several references (T, C, D'). index: (S,) long, distinct
    classes to compare; None compares all C. temperature (tau, in units of cosine), neighbours and
    tolerance: of the measures that have them (`sar.divergence`). across: only pairs of one of the
    first `across` compared classes with a later one count; 0 where such pairs are too few.

    Computed and returned in fp32, whatever the inputs or autocast (float64 stays float64).
    Gradients reach `learned` alone. A zero vector counts as orthogonal to every other. Memory does
    not grow with the square of C.
    Raises ConfigError for an unknown divergence, one that does not fit `reference` or `across`, a
    temperature that is not positive and finite, or neighbours or a tolerance below what there is;
    SARError for unfit shapes or fewer than two classes. Two classes are too few for some measures
    (`sar.divergence.Divergence.least`), which are 0 then.
    """
    if divergence not in DIVERGENCES:
        raise ConfigError(f"Unknown divergence {divergence!r}: use one of {', '.join(DIVERGENCES)}")
    if not 0 < temperature < math.inf:
        raise ConfigError(f"Temperature is {temperature}: use a positive number such as 0.1")
    if neighbours < 1 or not 0 <= tolerance < math.inf:
        raise ConfigError(
            f"There are {neighbours} neighbours and a tolerance of {tolerance}: use at least 1 "
            "neighbour, and a finite tolerance from 0"
        )
    measure, scale = MEASURES[divergence], Scale(temperature, neighbours, tolerance)
    if index is not None:
        if index.ndim != 1 or index.dtype != torch.long:
            raise SARError(
                f"Class index is {tuple(index.shape)} of {index.dtype}: pass a 1-D long tensor"
            )
        learned, reference = learned[index], reference[..., index, :]  # (S, D), (S, D')
    _check(learned, reference, divergence, across)

    def distance(learned: Tensor, reference: Tensor, rows: slice, columns: slice | None) -> Tensor:
        pairs = partial(_cosines, rows=rows, columns=columns)
        ours = pairs(learned, reference) if measure.crossed else pairs(learned)  # (R, K)
        target = _band(reference, pairs) if measure.band else pairs(reference)  # (R, K)
        return measure.of(ours, target, scale)

    dtype = torch.promote_types(torch.promote_types(learned.dtype, reference.dtype), torch.float32)
    with torch.autocast(learned.device.type, enabled=False):
        learned, reference = _unit(learned.to(dtype)), _unit(reference.detach().to(dtype))
        if measure.features:
            return measure.of(learned, reference, scale)
        parts = _parts(len(learned), across, measure.least)
        if len(parts) == 1:
            return distance(learned, reference, *parts[0])
        if not parts:
            return learned.sum() * 0
        # The mean over all rows, block by block. Nothing of a block is kept: the backward pass
        # computes it again.
        again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        means = [again(distance, learned, reference, *part) for part in parts]
        rows = learned.new_tensor([part[0].stop - part[0].start for part in parts])
        return torch.stack(means) @ rows / rows.sum()


def sample_classes(n: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` distinct classes of `n`, ascending: (size,) long, on the generator's device.

    size 0, or size >= n, means all classes; nothing is drawn then. Use a private CPU generator:
    the global random state stays untouched and every device samples the same classes.
    Raises ConfigError for a negative size or size 1, which leaves no pair to compare.
    """
    if size < 0 or size == 1:
        raise ConfigError(f"Sample size is {size}: use 0 (all classes) or at least 2")
    if size == 0 or size >= n:
        return torch.arange(n, device=generator.device)
    drawn = torch.randperm(n, generator=generator, device=generator.device)[:size]
    return drawn.sort().values


def _check(learned: Tensor, reference: Tensor, divergence: str, across: int | None) -> None:
    measure = MEASURES[divergence]
    several = reference.ndim == 3 and measure.band
    shapes = f"Learned features are {tuple(learned.shape)}, reference features are "
    shapes += f"{tuple(reference.shape)}"
    matrices = learned.ndim == 2 and (several or reference.ndim == 2)
    if not matrices or len(learned) != reference.shape[-2]:
        raise SARError(f"{shapes}: pass two matrices with one row for each class")
    if len(learned) < 2:
        raise SARError(
            f"Similarity alignment compares pairs of classes, and got {len(learned)} class(es): "
            "pass or sample at least 2"
        )
    if measure.one_space and learned.shape[-1] != reference.shape[-1]:
        raise ConfigError(f"{shapes}: {divergence} compares features of one space alone")
    if measure.features and across is not None:
        raise ConfigError(f"{divergence} compares no pairs of classes, so none can be chosen")


def _parts(size: int, across: int | None, least: int) -> list[tuple[slice, slice | None]]:
    """Rows, and the columns they are compared with; None: all of them but a row's own."""
    sides: list[tuple[int, int, slice | None]] = [(0, size, None)] * (size >= least)
    if across is not None:
        sides = [
            (first, stop, slice(start, end))
            for first, stop, start, end in ((0, across, across, size), (across, size, 0, across))
            if end - start >= least - 1
        ]
    step = size if size <= _AT_ONCE else max(1, _AT_ONCE**2 // (16 * size))
    return [
        (slice(start, min(start + step, stop)), columns)
        for first, stop, columns in sides
        for start in range(first, stop, step)
    ]


def _unit(features: Tensor) -> Tensor:
    """Vectors of length 1, in the directions of those of (..., S, D)."""
    norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True)  # (..., S, 1)
    # Dividing by 1, not by a tiny epsilon, keeps the gradient of a zero vector finite in fp16.
    return features / norm.where(norm > 0, 1)


def _cosines(
    unit: Tensor, other: Tensor | None = None, *, rows: slice, columns: slice | None
) -> Tensor:
    """Cosines of some rows of (S, D) with rows of (S, D), by default its own: (R, K)."""
    other = unit if other is None else other
    if columns is not None:
        return unit[rows] @ other[columns].T
    every = torch.arange(len(unit), device=unit.device)  # (S,)
    others = every[rows, None] != every  # (R, S)
    return (unit[rows] @ other.T).masked_select(others).view(-1, len(unit) - 1)


def _band(reference: Tensor, pairs: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (R, K) of the cosines of (T, S, D), one teacher at a time."""
    teachers = reference if reference.ndim == 3 else reference[None]
    mean = pairs(teachers[0])
    squares = torch.zeros_like(mean)
    for number, teacher in enumerate(teachers[1:], start=2):
        off = (found := pairs(teacher)) - mean
        mean = mean + off / number
        squares = squares + off * (found - mean)
    return mean, (squares / len(teachers)).sqrt()
