"""Ablation: the sweep over the weight, and all variants."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sar.results.folders import is_untrained
from sar.results.plots.style import (
    INK,
    LINE,
    METRICS,
    Plot,
    error_bars,
    in_words,
    legend_above,
    metric_names,
    panels,
)
from sar.results.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ablation_plots(table: Table, ci95: bool) -> Iterator[Plot]:
    where = table.title.removeprefix("Ablation, ")
    name = where.replace(", ", "_").replace(" ", "_")
    for trainer, weights in _sweeps(table).items():
        yield Plot(
            "_".join(filter(None, ("weight", trainer.replace(" ", "_"), name))),
            f"Weight of the loss: {', '.join(filter(None, (trainer, where)))}",
            in_words(weights.values(), metric_names()),
            f"Mean over seeds. {error_bars(ci95)} Dotted: the trainer without SAR.",
            partial(_draw_weights, table, trainer, weights, ci95),
        )
    yield Plot(
        f"variants_{name}",
        f"All variants: {where}",
        in_words(table.rows, metric_names()),
        f"Mean over seeds. {error_bars(ci95)}",
        partial(_draw_variants, table, ci95),
    )


def _sweeps(table: Table) -> dict[str, dict[str, Row]]:
    """SAR trainer (empty if there is only one) -> weight -> row, where there are several."""
    found: dict[str, dict[str, Row]] = {}
    for row in table.rows:
        weight, _, trainer = row.label.partition(", ")
        if row.group == "weight" and weight.replace(".", "", 1).isdecimal():
            found.setdefault(trainer, {})[weight] = row
    return {trainer: weights for trainer, weights in found.items() if len(weights) > 1}


def _draw_weights(table: Table, trainer: str, weights: dict[str, Row], ci95: bool) -> Figure:
    figure, (axis,) = panels(1, 1, (7.2, 4.0))
    rows = list(weights.values())
    baselines = [row for row in table.measured("baseline") if not is_untrained(row.label)]
    plain = [row for row in baselines if trainer in ("", f"SAR_{row.label}")]
    for column, (label, colour, marker) in METRICS.items():
        axis.errorbar(
            range(len(rows)),
            [row.cells[column].mean for row in rows],
            yerr=[row.spread(column, ci95) or 0 for row in rows],
            color=colour,
            marker=marker,
            label=label,
            **LINE,
        )
        for row in plain[:1]:
            mean = row.cells[column].mean
            axis.axhline(mean, color=colour, linestyle=":", linewidth=1.4)
            axis.annotate(
                f"{row.label} {label}",
                (1, mean),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=INK,
            )
    axis.set_xticks(range(len(rows)), list(weights))
    axis.set_xlim(-0.3, len(rows) - 0.7)
    axis.set_xlabel("weight of the alignment loss")
    axis.set_ylabel("accuracy, %")
    legend_above(figure, axis)
    return figure


def _draw_variants(table: Table, ci95: bool) -> Figure:
    rows, groups = table.rows, table.groups()
    at = [i + 0.6 * groups.index(row.group) for i, row in enumerate(rows)]
    figure, (axis,) = panels(1, 1, (7.2, 1.2 + 0.23 * (at[-1] + 1)))
    for column, (label, colour, marker) in METRICS.items():
        axis.errorbar(
            [row.cells[column].mean for row in rows],
            at,
            xerr=[row.spread(column, ci95) or 0 for row in rows],
            color=colour,
            marker=marker,
            label=label,
            **{**LINE, "linestyle": "none"},
        )
    names = [row.label if row.label == row.group else f"{row.group}: {row.label}" for row in rows]
    axis.set_yticks(at, names)
    axis.set_ylim(at[-1] + 0.7, -0.7)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("accuracy, %")
    legend_above(figure, axis)
    return figure
