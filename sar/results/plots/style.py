"""How all figures look, and what one is; matplotlib is imported when one is drawn.

Colours are those of Okabe and Ito, which readers with any colour vision can tell apart; shape,
fill or place always says the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sar.command_line.extras import extra
from sar.results.folders import is_untrained
from sar.results.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, GREY, FAINT = "#222222", "#767676", "#E4E4E4"
METRICS = {"base": ("Base", BLUE, "o"), "new": ("New", ORANGE, "s"), "h": ("H", INK, "D")}
"""Column -> name, colour and marker; the figures are of all three."""
LINE: dict[str, Any] = {"linewidth": 1.6, "markersize": 5, "capsize": 2, "elinewidth": 1}
ERROR_BARS = {"ecolor": INK, "elinewidth": 1, "capsize": 2}
_METHODS = (BLUE, VERMILION, GREEN, "#CC79A7", "#56B4E9", ORANGE)
_MARKERS = ("o", "s", "^", "D", "v", "P")
# Another marker in every round through the colours, so that each pair occurs once.
POINTS = tuple(
    (colour, _MARKERS[(i + turn) % len(_MARKERS)])
    for turn in range(len(_MARKERS))
    for i, colour in enumerate(_METHODS)
)
"""Colour and marker of the first, second, ... of several points."""
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "sarclip",
    "text.parse_math": False,  # a dollar sign in a name is one
}


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn: `name` serves as a file name, `alt` says the numbers in words."""

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure]

    def image(self, kind: str = "svg") -> bytes:
        """The figure as svg, png or pdf; the same input gives the same bytes."""
        with extra("report"):
            from matplotlib import rc_context

        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with rc_context(_STYLE):
            buffer = io.BytesIO()
            self.draw().savefig(buffer, format=kind, dpi=160, metadata=metadata)
        return buffer.getvalue()


def panels(
    count: int, columns: int, size: tuple[float, float], beside: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """`count` axes in rows of `columns`, each of `size` (inches); the figure needs no display.

    With `beside`, the width of one more, that is the last one: at the right, as high as the figure.
    """
    from matplotlib.figure import Figure

    rows, widths = -(-count // columns), [size[0]] * columns + [beside] * bool(beside)
    figure = Figure(figsize=(sum(widths), size[1] * rows), layout="constrained")
    grid = figure.add_gridspec(rows, len(widths), width_ratios=widths)
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(count)]
    if beside:
        axes.append(figure.add_subplot(grid[:, -1]))
    return figure, axes


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """Label the x axis of the lowest panel of each column."""
    for axis in axes[-columns:]:
        axis.set_xlabel(text)


def legend_above(figure: Figure, axis: Axes) -> None:
    """One legend for the whole figure, above it, in rows of at most five."""
    from matplotlib.lines import Line2D

    handles, labels = axis.get_legend_handles_labels()
    # matplotlib names lines before bars; here bars are what a figure is about.
    order = sorted(range(len(labels)), key=lambda i: isinstance(handles[i], Line2D))
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper center",
        ncols=min(len(labels), 5),
    )


def looks(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and marker for each trainer; with SAR the line is solid and the marker filled.

    What is not trained is grey.
    """
    trained = [label for label in labels if not is_untrained(label)]
    plain = list(dict.fromkeys(label.removeprefix("SAR_") for label in trained))
    grey = {**LINE, "color": GREY, "marker": "X", "linestyle": ":"}
    found: dict[str, dict[str, Any]] = {label: grey for label in labels if label not in trained}
    for label in trained:
        i = plain.index(label.removeprefix("SAR_"))
        colour, sar = _METHODS[i % len(_METHODS)], label.startswith("SAR_")
        found[label] = {
            **LINE,
            "color": colour,
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": "-" if sar else "--",
            "markerfacecolor": colour if sar else "white",
        }
    return found


def error_bars(ci95: bool) -> str:
    """What the error bars say."""
    if ci95:
        return "Error bars: 95 % confidence interval of the mean over seeds (Student's t)."
    return "Error bars: sample standard deviation over seeds (n - 1); none for a single seed."


def in_words(rows: Iterable[Row], columns: dict[str, str]) -> str:
    """The numbers of a figure as text, for who cannot see it."""
    lines = []
    for row in rows:
        cells = [f"{title} {row.mean(c)}" for c, title in columns.items() if c in row.cells]
        lines.append(f"{row.label}: {', '.join(cells)}")
    return "; ".join(lines) + "."


def metric_names() -> dict[str, str]:
    """Column -> name of base, new and H."""
    return {column: name for column, (name, _, _) in METRICS.items()}
