"""The confusion matrix as a picture."""

from __future__ import annotations

import math

from torch import Tensor

from sar.classifier.scores import Scores
from sar.command_line.extras import extra

with extra("report"):
    from matplotlib.figure import Figure

_MOST_LABELS = 70
_MOST_NUMBERS = 20
_LONGEST = 30  # characters of a name


def _names(scores: Scores, classes: Tensor) -> list[str]:
    """As plain text, the longest cut: else nothing would be left of the picture."""
    names = [scores.names[i] for i in classes]
    shown = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    return [name.replace("$", r"\$") for name in shown]


def draw(scores: Scores, title: str) -> Figure:
    """Rows are true classes that have pictures, columns all that were predicted, in percent."""
    counts = scores.confusion
    rows = counts.sum(dim=1).nonzero().flatten()
    columns = (counts.sum(dim=0) + counts.sum(dim=1)).nonzero().flatten()
    share = counts[rows].double()
    share = 100 * (share / share.sum(dim=1, keepdim=True))[:, columns]
    size = min(14.0, max(4.5, 2.5 + 0.35 * len(columns)))
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(share.numpy(), vmin=0, vmax=100, cmap="Blues")
    axis.set_title(title, fontsize=11)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if len(columns) <= _MOST_LABELS:
        font = max(4.0, min(9.0, 300 / len(columns)))
        axis.set_xticks(range(len(columns)), _names(scores, columns), rotation=90, fontsize=font)
        axis.set_yticks(range(len(rows)), _names(scores, rows), fontsize=font)
    if len(columns) <= _MOST_NUMBERS:
        for y, row in enumerate(share.tolist()):
            for x, value in enumerate(row):
                if not math.isclose(value, 0):
                    colour = "white" if value > 50 else "black"
                    axis.text(x, y, f"{value:.0f}", ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axis, shrink=0.8, label="% of the true class")
    return figure
