"""Cross-dataset and domain generalization: every target, and what SAR changes there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sar.results.plots.differences import difference_plot
from sar.results.plots.style import (
    FAINT,
    Plot,
    error_bars,
    in_words,
    legend_above,
    looks,
    panels,
)
from sar.results.published import AVERAGE
from sar.results.tables import Kind, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEP = 0.13  # inches between the markers of two trainers


def transfer_plots(table: Table, ci95: bool) -> Iterator[Plot]:
    sources = table.groups()
    for source in sources:
        rows = table.measured(source)
        name = table.protocol.replace("-", "_") + f"_{source}" * (len(sources) > 1)
        yield Plot(
            name,
            f"{table.title}: trained on {source}",
            in_words(rows, table.columns),
            f"Mean accuracy over seeds. {error_bars(ci95)}",
            partial(_draw, table, rows, ci95),
        )
        differences = {
            row.label: [
                Row(column, row.label, {"accuracy": cell}, row.kind)
                for column, cell in row.cells.items()
                if column != AVERAGE
            ]
            for row in table.rows
            if row.group == source and row.kind is Kind.DIFFERENCE
        }
        if differences:
            yield difference_plot(f"{name}_differences", differences, {"accuracy": ""}, ci95)


def _draw(table: Table, rows: Sequence[Row], ci95: bool) -> Figure:
    columns = list(table.columns)
    figure, (axis,) = panels(1, 1, (7.2, 1.0 + len(columns) * (0.15 + _STEP * len(rows))))
    styles = looks([row.label for row in rows])
    step = _STEP / (0.15 + _STEP * len(rows))
    for k, row in enumerate(rows):
        offset = (k - (len(rows) - 1) / 2) * step
        known = [(i, column) for i, column in enumerate(columns) if column in row.cells]
        axis.errorbar(
            [row.cells[column].mean for _, column in known],
            [i + offset for i, _ in known],
            xerr=[row.spread(column, ci95) or 0 for _, column in known],
            label=row.label,
            **{**styles[row.label], "linestyle": "none"},
        )
    for i in range(1, len(columns)):
        axis.axhline(i - 0.5, color=FAINT, linewidth=0.8)
    axis.set_yticks(range(len(columns)), list(table.columns.values()))
    axis.set_ylim(len(columns) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("accuracy, %")
    legend_above(figure, axis)
    return figure
