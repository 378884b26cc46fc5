"""What SAR changes, dataset by dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sar.results.plots.style import (
    BLUE,
    ERROR_BARS,
    INK,
    VERMILION,
    Plot,
    error_bars,
    in_words,
    label_below,
    panels,
)
from sar.results.tables import Kind, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Differences = dict[str, list[Row]]
""""SAR_X - X" -> one row a dataset."""


def differences_of(table: Table) -> Differences:
    """The rows of differences, without the average."""
    found: Differences = {}
    for row in table.rows:
        if row.kind is Kind.DIFFERENCE and not row.average:
            found.setdefault(row.label, []).append(row)
    return found


def difference_plot(
    name: str, differences: Differences, columns: dict[str, str], ci95: bool
) -> Plot:
    """One panel for each pair of trainers (below each other) and column (side by side)."""
    words = [
        f"{label} on {row.group}: {in_words([row], columns).partition(': ')[2]}"
        for label, rows in differences.items()
        for row in rows
    ]
    return Plot(
        name,
        "What SAR changes, by dataset",
        f"Differences in percent points. {' '.join(words)}",
        f"Accuracy with SAR minus without, paired over seeds, largest first. {error_bars(ci95)}"
        + " Thick lines: 95 % interval over classes and images." * _has_intervals(differences),
        lambda: _draw(differences, columns, ci95),
    )


def _has_intervals(differences: Differences) -> bool:
    cells = [cell for rows in differences.values() for row in rows for cell in row.cells.values()]
    return any(cell.is_resampled for cell in cells)


def _draw(differences: Differences, columns: dict[str, str], ci95: bool) -> Figure:
    most = max(map(len, differences.values()))
    width = 11.4 / len(columns) if len(columns) > 1 else 7.2
    count = len(differences) * len(columns)
    figure, axes = panels(count, len(columns), (width, 0.7 + 0.24 * most))
    cells = [(label, rows, c) for label, rows in differences.items() for c in columns]
    ends = [abs(r.cells[c].mean) + (r.spread(c, ci95) or 0) for _, rows, c in cells for r in rows]
    outer = [abs(x) for _, rows, c in cells for r in rows for x in r.cells[c].interval() or ()]
    limit = 1.2 * max(*ends, *outer, 1.0)
    for axis, (label, rows, column) in zip(axes, cells, strict=True):
        _draw_panel(axis, rows, column, limit, ci95)
        title = columns[column]
        axis.set_title(f"{label}: {title}" if title else label)
    label_below(axes, len(columns), "difference, percent points")
    return figure


def _draw_panel(axis: Axes, rows: Sequence[Row], column: str, limit: float, ci95: bool) -> None:
    ordered = sorted(rows, key=lambda row: -row.cells[column].mean)
    for i, row in enumerate(ordered):
        mean, spread = row.cells[column].mean, row.spread(column, ci95)
        positive = mean >= 0
        axis.barh(
            i,
            mean,
            0.7,
            color=BLUE if positive else VERMILION,
            xerr=spread,
            error_kw=ERROR_BARS,
        )
        if ends := row.cells[column].interval():
            axis.plot(ends, (i + 0.27, i + 0.27), color=INK, linewidth=2.2, alpha=0.45)
        # On the far side of the zero line, behind an error bar that crosses it.
        room = max((spread or 0) - abs(mean), 0) + 0.03 * limit
        axis.text(
            -room if positive else room,
            i,
            f"{round(mean, 1) + 0.0:+.1f}",  # no -0.0
            va="center",
            ha="right" if positive else "left",
            fontsize=7,
            color=INK,
        )
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_xlim(-limit, limit)
    axis.set_ylim(len(ordered) - 0.4, -0.6)
    axis.set_yticks(range(len(ordered)), [row.group for row in ordered])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
