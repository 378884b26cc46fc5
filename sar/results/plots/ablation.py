"""Ablation: new against base accuracy, the sweep over the weight, and all settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from sar.results.folders import is_untrained
from sar.results.plots.gains import Gain, draw_gains
from sar.results.plots.style import (
    GREY,
    INK,
    LINE,
    METRICS,
    POINTS,
    Plot,
    error_bars,
    in_words,
    label_below,
    legend_above,
    metric_names,
    panels,
)
from sar.results.statistics import harmonic_mean
from sar.results.tables import Row, Table
from sar.results.tables.ablation import BASELINES
from sar.results.tables.table import GAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = 7  # of a legend, as far as it is one column


def ablation_plots(table: Table, ci95: bool) -> Iterator[Plot]:
    if not table.is_full(METRICS):
        return  # one half of the classes alone
    where = table.title.removeprefix("Ablation, ")
    name = where.replace(", ", "_").replace(" ", "_")
    studies = [group for group in table.groups() if group != BASELINES]
    if studies:
        yield Plot(
            f"tradeoff_{name}",
            f"New against base accuracy: {where}",
            in_words(table.rows, metric_names()),
            f"Mean over seeds. {error_bars(ci95)} Stars: the trainers without SAR. Grey line: the "
            f"sweep over the weight. Dotted: equal H.{_of_gains(table)}",
            partial(_draw_tradeoff, table, studies, ci95),
        )
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
        if row.group == "weight":
            found.setdefault(trainer, {})[weight] = row
    return {trainer: weights for trainer, weights in found.items() if len(weights) > 1}


def _of_gains(table: Table) -> str:
    if not (gained := [row for row in table.rows if GAIN in row.cells]):
        return ""
    broad = ", broad bars: 95 % intervals over classes and images"
    known = any(row.cells[GAIN].is_resampled for row in gained)
    return f" Right: gain in H over the trainer without SAR{broad * known}."


def _draw_tradeoff(table: Table, studies: list[str], ci95: bool) -> Figure:
    """One panel per study, all with the same axes; beside them all gains in H, or else legends."""
    gained = any(GAIN in row.cells for row in table.rows)
    figure, axes = panels(len(studies), 3, (2.9, 2.8), beside=4.2 * gained)
    base, new = zip(*map(_base_and_new, table.rows), strict=True)
    middle = (min(base) + max(base)) / 2
    top = max(new) + 1.5
    longest = 0 if gained else max(len(table.measured(study)) for study in studies)
    lines = longest if longest <= _LINES else -(-longest // 2)
    low = min(new) - 1.2 * max(1, *(row.spread("new", ci95) or 0 for row in table.rows))
    # The legends stand below all points.
    bottom = top - (top - low) / (1 - min(0.065 * lines, 0.5))
    gains: list[Gain] = []
    for i, (axis, study) in enumerate(zip(axes, studies, strict=False)):
        axis.set_title(study)
        axis.set_xlim(min(base) - 1, max(base) + 1)
        axis.set_ylim(bottom, top)
        _draw_equal_h(axis)
        for weights in _sweeps(table).values():
            curve = zip(*map(_base_and_new, weights.values()), strict=True)
            axis.plot(*curve, color=GREY, linewidth=1, alpha=0.6)
        for row in table.measured(BASELINES):
            _draw_point(axis, row, ci95, color=INK, marker="*", markersize=9)
            axis.annotate(
                row.label,
                _base_and_new(row),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center" if _base_and_new(row)[0] > middle else "left",
            )
        for row, (colour, marker) in zip(table.measured(study), cycle(POINTS), strict=False):
            look = {"color": colour, "marker": marker}
            _draw_point(axis, row, ci95, label=row.label, **look)
            if GAIN in row.cells:
                gains.append(Gain(f"{study}: {row.label}", row.cells[GAIN], look, study))
        if not gained:
            axis.legend(
                loc="lower left",
                fontsize=8 if longest <= _LINES else 6,
                ncols=1 + (len(table.measured(study)) > _LINES),
                handlelength=0.8,
                columnspacing=0.8,
                borderaxespad=0.1,
            )
        if i % 3:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("new accuracy, %")
    label_below(axes[: len(studies)], 3, "base accuracy, %")
    if gains:
        draw_gains(axes[-1], gains, "the plain trainer", ci95)
    return figure


def _draw_point(axis: Axes, row: Row, ci95: bool, **look: Any) -> None:
    axis.errorbar(
        *_base_and_new(row),
        xerr=row.spread("base", ci95) or 0,
        yerr=row.spread("new", ci95) or 0,
        **{**LINE, "linestyle": "none", **look},
    )


def _base_and_new(row: Row) -> tuple[float, float]:
    return row.cells["base"].mean, row.cells["new"].mean


def _draw_equal_h(axis: Axes) -> None:
    """Lines on which H is the same, named where they leave the panel on the right."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    bases = [left + (right - left) * i / 50 for i in range(51)]
    for h in range(2, int(harmonic_mean(right, high)) + 1, 2):
        # H = 2bn / (b + n), solved for n
        line = [(base, h * base / (2 * base - h)) for base in bases if 2 * base > h]
        if low < (new := line[-1][1]) < high:
            axis.plot(*zip(*line, strict=True), ":", color=GREY, linewidth=0.7, zorder=0)
            axis.annotate(
                f"H {h}",
                (right, new),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=GREY,
            )


def _draw_weights(table: Table, trainer: str, weights: dict[str, Row], ci95: bool) -> Figure:
    figure, (axis,) = panels(1, 1, (7.2, 4.0))
    rows = list(weights.values())
    baselines = [row for row in table.measured(BASELINES) if not is_untrained(row.label)]
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
