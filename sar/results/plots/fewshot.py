"""Few-shot: accuracy against the number of shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sar.results.plots.style import (
    GREY,
    Plot,
    error_bars,
    in_words,
    label_below,
    legend_above,
    looks,
    panels,
)
from sar.results.tables import Kind, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def few_shot_plots(table: Table, ci95: bool) -> Iterator[Plot]:
    *datasets, whole = table.groups()
    yield Plot(
        "few_shot",
        "Accuracy by the number of shots",
        f"{whole}. {in_words(table.measured(whole), table.columns)}",
        f"Mean accuracy over seeds. {error_bars(ci95)} Dotted: without training.",
        lambda: _draw(table, [whole, *datasets], ci95),
    )


def _draw(table: Table, groups: Sequence[str], ci95: bool) -> Figure:
    shots = [column for column in table.columns if column != "0"]
    columns = min(3, len(groups))
    figure, axes = panels(
        len(groups), columns, (7.2, 3.8) if columns == 1 else (11.4 / columns, 2.7)
    )
    styles = looks([row.label for row in table.rows if row.kind is Kind.MEASURED])
    for axis, group in zip(axes, groups, strict=True):
        for row in table.measured(group):
            known = [(i, column) for i, column in enumerate(shots) if column in row.cells]
            if not known:
                axis.axhline(row.cells["0"].mean, color=GREY, linestyle=":", label=row.label)
                continue
            axis.errorbar(
                [i for i, _ in known],
                [row.cells[column].mean for _, column in known],
                yerr=[row.spread(column, ci95) or 0 for _, column in known],
                label=row.label,
                **styles[row.label],
            )
        axis.set_xticks(range(len(shots)), shots)
        axis.set_title(group)
    label_below(axes, columns, "shots per class")
    for axis in axes[::columns]:
        axis.set_ylabel("accuracy, %")
    legend_above(figure, axes[0])
    return figure
