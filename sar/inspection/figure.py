"""One figure: class similarities by prompt, and what each learned prompt changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sar.command_line.extras import extra
from sar.inspection.relations import Relations, cluster_order

with extra("report"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LABELS = 70
_COLOURS = ("#d95f02", "#1b9e77", "#7570b3", "#e7298a")
"""ColorBrewer's Dark2: told apart by the colour-blind."""


def draw(
    title: str,
    names: Sequence[str],
    reference: Tensor,
    learned: Mapping[str, Tensor],
    relations: Mapping[str, Relations],
) -> Figure:
    """Heatmaps of similarities (C, C), the hand-crafted prompt's and each learned one's.

    Upper row: similarities, classes ordered by clustering the hand-crafted ones. Lower row: the
    divergence of each class, and learned minus hand-crafted.
    """
    order = cluster_order(reference)
    labels = [names[i] for i in order]
    columns = 1 + len(learned)
    figure = Figure(figsize=(4.1 * columns + 0.8, 8.6), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    figure.suptitle(title, fontsize=13)

    off_diagonal = reference[~torch.eye(len(names), dtype=torch.bool)]
    low, high = (float(off_diagonal.quantile(q)) for q in (0.005, 0.995))
    for axis, (trainer, matrix) in zip(
        axes[0], {"hand-crafted prompt": reference, **learned}.items(), strict=True
    ):
        image = axis.imshow(_arranged(matrix, order), vmin=low, vmax=high, cmap="viridis")
        found = relations.get(trainer)
        below = f"\ncorrelation with hand-crafted {found.correlation:.2f}" if found else "\n"
        axis.set_title(f"{trainer}{below}", fontsize=11)
        _bare(axis)
    _label(axes[0][0], labels)
    figure.colorbar(image, ax=list(axes[0]), shrink=0.75, label="cosine similarity", extend="both")

    changes = {trainer: matrix - reference for trainer, matrix in learned.items()}
    # Of the similarities, not of the changes: what is small is to look small, and the same in
    # every figure.
    reach = (high - low) / 2
    for axis, (trainer, change) in zip(axes[1][1:], changes.items(), strict=True):
        image = axis.imshow(_arranged(change, order), vmin=-reach, vmax=reach, cmap="RdBu_r")
        changed = relations[trainer].nearest_changed
        axis.set_title(
            f"{trainer} minus hand-crafted\n{changed:.0%} have another nearest class",
            fontsize=11,
        )
        _bare(axis)
    figure.colorbar(
        image, ax=list(axes[1]), shrink=0.75, label="change of similarity", extend="both"
    )
    _divergences(axes[1][0], relations)
    return figure


def _divergences(axis: Axes, relations: Mapping[str, Relations]) -> None:
    """Each class's divergence, sorted; the area below a line is what SAR minimizes."""
    colours = itertools.cycle(_COLOURS)
    for (trainer, found), colour in zip(relations.items(), colours, strict=False):
        values = sorted((change.divergence for change in found.changes), reverse=True)
        label = f"{trainer} (mean {found.divergence:.3f})"
        axis.plot(range(1, len(values) + 1), values, color=colour, lw=2, label=label)
        axis.fill_between(range(1, len(values) + 1), values, color=colour, alpha=0.15, lw=0)
    axis.set_title("alignment divergence of each class,\nfrom the largest", fontsize=11)
    axis.set_xlabel("classes")
    axis.set_ylabel("KL divergence (nats)")
    axis.set_ylim(bottom=0)
    axis.set_xlim(1, max(len(found.changes) for found in relations.values()))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)


def _arranged(matrix: Tensor, order: Sequence[int]) -> np.ndarray[Any, Any]:
    shown = matrix[order][:, order].clone()
    shown.fill_diagonal_(float("nan"))  # every class is its own copy; no information there
    return shown.numpy()


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _label(axis: Axes, labels: Sequence[str]) -> None:
    if len(labels) <= _MOST_LABELS:
        axis.set_yticks(range(len(labels)), labels, fontsize=max(3.5, min(9, 260 / len(labels))))
        axis.tick_params(length=0)
