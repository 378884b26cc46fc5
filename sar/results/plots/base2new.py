"""Base-to-new: bars of base and new accuracy, and what SAR changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sar.results.plots.differences import difference_plot, differences_of
from sar.results.plots.style import (
    ERROR_BARS,
    INK,
    METRICS,
    Plot,
    error_bars,
    in_words,
    label_below,
    legend_above,
    metric_names,
    panels,
)
from sar.results.tables import Kind, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = (("base", -0.2, "white"), ("new", 0.2, INK))
"""Column, place and colour of the number in the bar."""


def base_to_new_plots(table: Table, ci95: bool) -> Iterator[Plot]:
    if not table.is_full(METRICS):
        return  # one half of the classes alone
    *datasets, whole = table.groups()  # the last is the average, or the only dataset
    averaged = any(row.average for row in table.rows)
    yield Plot(
        "base_new",
        f"Base and new accuracy: {whole}",
        in_words(table.measured(whole), metric_names()),
        _caption(table, [whole], ci95),
        lambda: _draw(table, [whole], ci95),
    )
    groups = datasets if averaged else [*datasets, whole]
    if len(groups) > 1:
        yield Plot(
            "base_new_by_dataset",
            "Base and new accuracy by dataset",
            "Bars of base and new accuracy; the numbers are those of the base-to-new table.",
            _caption(table, groups, ci95),
            lambda: _draw(table, groups, ci95),
        )
    if differences := differences_of(table):
        yield difference_plot("base_new_differences", differences, metric_names(), ci95)


def _caption(table: Table, groups: Sequence[str], ci95: bool) -> str:
    text = f"Bars: mean accuracy over seeds; diamonds: H. {error_bars(ci95)}"
    strokes = any(r.kind is Kind.PUBLISHED and r.group in groups for r in table.rows)
    return text + " Vertical strokes: published numbers." * strokes


def _draw(table: Table, groups: Sequence[str], ci95: bool) -> Figure:
    columns = min(3, len(groups))
    most = max(len(table.measured(group)) for group in groups)
    size = (7.2, 1.1 + 0.36 * most) if columns == 1 else (11.4 / columns, 0.75 + 0.36 * most)
    figure, axes = panels(len(groups), columns, size)
    for axis, group in zip(axes, groups, strict=True):
        published = {
            row.label.removesuffix(", published"): row
            for row in table.rows
            if row.group == group and row.kind is Kind.PUBLISHED
        }
        _draw_group(axis, table.measured(group), published, ci95)
        axis.set_title(group)
    label_below(axes, columns, "accuracy, %")
    legend_above(figure, axes[0])
    return figure


def _draw_group(axis: Axes, rows: Sequence[Row], published: dict[str, Row], ci95: bool) -> None:
    for column, offset, ink in _BARS:
        name, colour, _ = METRICS[column]
        at = [i + offset for i in range(len(rows))]
        axis.barh(
            at,
            [row.cells[column].mean for row in rows],
            0.38,
            color=colour,
            label=name,
            xerr=[row.spread(column, ci95) or math.nan for row in rows],
            error_kw=ERROR_BARS,
        )
        known = [
            (published[row.label], y)
            for row, y in zip(rows, at, strict=True)
            if row.label in published
        ]
        if known:
            axis.plot(
                [row.cells[column].mean for row, _ in known],
                [y for _, y in known],
                linestyle="none",
                marker="|",
                markersize=8,
                markeredgewidth=1.8,
                color=INK,
                label="published" if column == "base" else None,
            )
        for row, y in zip(rows, at, strict=True):
            axis.text(1.5, y, f"{row.cells[column].mean:.1f}", va="center", fontsize=7, color=ink)
    axis.plot(
        [row.cells["h"].mean for row in rows],
        range(len(rows)),
        "D",
        markersize=4.5,
        markerfacecolor="white",
        markeredgecolor=INK,
        label="H (number at the right)",
    )
    for i, row in enumerate(rows):
        axis.text(112, i, f"{row.cells['h'].mean:.1f}", va="center", ha="right", fontsize=7)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.set_xlim(0, 112)
    axis.set_xticks(range(0, 101, 20))
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
