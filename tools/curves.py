"""The picture of the README: new against base accuracy of each regularizer, as its weight grows.

    python tools/curves.py SELECTION AVERAGE [--output docs/curves.png]

SELECTION is the output folder of `sarclip protocol ablation --studies regularizer`, AVERAGE that of
`sarclip protocol base2new --trainers CoOp --averaged 0.25,0.5,0.75` on the same datasets: what is
had without any training beyond CoOp's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sar.results import collect
from sar.results.plots.style import GREY, INK, LINE, POINTS, Plot, in_words, metric_names, panels
from sar.results.tables import Row
from sar.results.tables.ablation import BASELINES, ablation_tables
from sar.results.tables.base2new import base_to_new_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = Path(__file__).resolve().parents[1] / "docs" / "curves.png"
STUDY = "regularizer"
Families = dict[str, list[Row]]


def families(rows: Sequence[Row]) -> Families:
    """Measure -> its rows by growing weight; rows are called "kl, weight 1"."""
    found: dict[str, dict[float, Row]] = {}
    for row in rows:
        measure, _, weight = row.label.partition(", weight ")
        found.setdefault(measure, {})[float(weight)] = row
    return {measure: [of[w] for w in sorted(of)] for measure, of in found.items()}


def curves(measures: Families, average: Sequence[Row], stars: Sequence[Row]) -> Plot:
    """Each measure a line in the order of its weights, the free average a broken one."""
    rows = [*stars, *(row for of in measures.values() for row in of), *average]
    return Plot(
        "curves",
        "New against base accuracy",
        in_words(rows, metric_names()),
        "Mean and deviation over seeds",
        lambda: _draw(measures, average, stars),
    )


def _draw(measures: Families, average: Sequence[Row], stars: Sequence[Row]) -> Figure:
    figure, (axis,) = panels(1, 1, (8.0, 4.6))
    for row in stars:
        base, new = row.cells["base"].mean, row.cells["new"].mean
        axis.plot(base, new, marker="*", markersize=13, color=INK, linestyle="none", zorder=4)
        axis.annotate(
            row.label, (base, new), xytext=(0, 9), textcoords="offset points", ha="center"
        )
    for (measure, of), (colour, marker) in zip(measures.items(), cycle(POINTS), strict=False):
        _line(axis, of, label=measure, color=colour, marker=marker)
    _line(axis, average, label="free average", color=GREY, marker="X", linestyle="--")
    axis.set_xlabel("base accuracy, %")
    axis.set_ylabel("new accuracy, %")
    figure.legend(loc="outside right upper", title="weight grows\nalong a line")
    return figure


def _line(axis: Axes, rows: Sequence[Row], **look: Any) -> None:
    base, new = ([row.cells[column].mean for row in rows] for column in ("base", "new"))
    across, along = ([row.spread(column) or 0.0 for row in rows] for column in ("base", "new"))
    axis.errorbar(base, new, xerr=across, yerr=along, **{**LINE, "elinewidth": 0.6, **look})


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw docs/curves.png.")
    parser.add_argument("selection", type=Path, help="of sarclip protocol ablation")
    parser.add_argument("average", type=Path, help="of sarclip protocol base2new --averaged")
    parser.add_argument("--output", type=Path, default=CURVES, help="default: %(default)s")
    args = parser.parse_args()
    found = collect(args.selection)
    table = ablation_tables(found.records, {STUDY: found.studies[STUDY]})[0]
    averages = [
        row
        for row in base_to_new_table(collect(args.average).records).rows
        if row.average and ", averaged" in row.label
    ]
    plot = curves(families(table.measured(STUDY)), averages, table.measured(BASELINES))
    args.output.write_bytes(plot.image("png"))
    print(plot.alt)


if __name__ == "__main__":
    main()
