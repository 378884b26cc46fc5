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
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sar.divergence import row_kl
from sar.errors import ConfigError, SARError

__all__ = ["DIVERGENCES", "sample_classes", "similarity_alignment_loss"]

DIVERGENCES = ("kl", "l1", "l2")
# So many classes are compared at once, with matrices of 64 MiB in fp32; more of them in blocks.
_AT_ONCE = 4096


def similarity_alignment_loss(
    learned: Tensor,
    reference: Tensor,
    *,
    divergence: str = "kl",
    temperature: float = 0.1,
    index: Tensor | None = None,
) -> Tensor:
    """Distance between the class similarities of `learned` and those of `reference`; a scalar.

    learned: (C, D) and reference: (C, D'), floating point of any scale, on one device; row i of
    both belongs to class i. index: (S,) long, distinct classes to compare; None compares all C.
    temperature (tau, in units of cosine) matters to "kl" alone.

    Computed and returned in fp32, whatever the inputs or autocast (float64 stays float64).
    Gradients reach `learned` alone. A zero vector counts as orthogonal to every other. Memory does
    not grow with the square of C.
    Raises ConfigError for an unknown divergence or a temperature that is not positive and finite,
    SARError for unfit shapes or fewer than two classes.
    """
    if divergence not in DIVERGENCES:
        raise ConfigError(f"Unknown divergence {divergence!r}: use one of {', '.join(DIVERGENCES)}")
    if not 0 < temperature < math.inf:
        raise ConfigError(f"Temperature is {temperature}: use a positive number such as 0.1")
    if learned.ndim != 2 or reference.ndim != 2 or len(learned) != len(reference):
        raise SARError(
            f"Learned features are {tuple(learned.shape)}, reference features are "
            f"{tuple(reference.shape)}: pass two matrices with one row for each class"
        )
    if index is not None:
        if index.ndim != 1 or index.dtype != torch.long:
            raise SARError(
                f"Class index is {tuple(index.shape)} of {index.dtype}: pass a 1-D long tensor"
            )
        learned, reference = learned[index], reference[index]  # (S, D), (S, D')
    if len(learned) < 2:
        raise SARError(
            f"Similarity alignment compares pairs of classes, and got {len(learned)} class(es): "
            "pass or sample at least 2"
        )

    def distance(learned: Tensor, reference: Tensor, rows: slice = slice(None)) -> Tensor:
        ours = _others(learned, rows)  # (R, S-1)
        target = _others(reference, rows)  # (R, S-1)
        if divergence == "l1":
            return F.l1_loss(ours, target)
        if divergence == "l2":
            return F.mse_loss(ours, target)
        return row_kl(target / temperature, ours / temperature)

    dtype = torch.promote_types(torch.promote_types(learned.dtype, reference.dtype), torch.float32)
    with torch.autocast(learned.device.type, enabled=False):
        learned, reference = _unit(learned.to(dtype)), _unit(reference.detach().to(dtype))
        if (size := len(learned)) <= _AT_ONCE:
            return distance(learned, reference)
        # The mean over all rows, block by block. Nothing of a block is kept: the backward pass
        # computes it again.
        step = max(1, _AT_ONCE**2 // (16 * size))
        starts = range(0, size, step)
        again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        means = [
            again(distance, learned, reference, slice(start, start + step)) for start in starts
        ]
        rows = learned.new_tensor([min(step, size - start) for start in starts])
        return torch.stack(means) @ rows / size


def least_classes(divergence: str) -> int:
    """How many classes a divergence must compare to say anything."""
    return 3 if divergence == "kl" else 2


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


def _unit(features: Tensor) -> Tensor:
    """Rows of length 1, in the directions of those of (S, D)."""
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # (S, 1)
    # Dividing by 1, not by a tiny epsilon, keeps the gradient of a zero vector finite in fp16.
    return features / norm.where(norm > 0, 1)


def _others(unit: Tensor, rows: slice) -> Tensor:
    """Cosines of some rows with every other row: (S, D) -> (R, S-1), without the diagonal."""
    every = torch.arange(len(unit), device=unit.device)  # (S,)
    others = every[rows, None] != every  # (R, S)
    return (unit[rows] @ unit.T).masked_select(others).view(-1, len(unit) - 1)
