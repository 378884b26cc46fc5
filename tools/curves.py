"""The picture of the README: new against base accuracy of each regularizer, as its weight grows.

    python tools/curves.py [--output docs/curves.png]

Made from the records in experiments/: SAR's relatives and weights, what is had without training
anything (averages) and the other alternatives, all on demo_objects and demo_travel.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ending import run
from recorded import DOCS, EXPERIMENTS, averages, read

from sar.errors import DataError
from sar.results.plots.gains import Gain, draw_gains
from sar.results.plots.style import GREY, INK, LINE, POINTS, Plot, in_words, metric_names, panels
from sar.results.tables import Kind, Row
from sar.results.tables.table import GAIN
from sar.storage.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COOP = "CoOp"
STARS = ("ZeroshotCLIP", COOP)
STUDIES = ("regularizer", "weight", "divergence")
"""Of the ablations; rows are called "l1, weight 10", those of SAR's own weight "8"."""
OTHERS = {
    f"{COOP}, averaged ": "free average",
    "LogitsCoOp": "KL on logits",
    "ShrunkCoOp": "shrunk context",
    "MeanCoOp": "mean over epochs",
}
"""Beginning of a row's label -> its family; what follows is the number that grows."""
TRAINED = "CoOp's epochs"


@dataclass(frozen=True)
class Point:
    """One setting: a family and the number that grows along its line."""

    family: str
    number: float
    row: Row
    """Its accuracies, and if it is known the gain in H over CoOp."""

    @property
    def label(self) -> str:
        return f"{self.family} {self.number:g}" if self.number else self.family


def setting(row: Row) -> Point | None:
    """Of an ablation's row; None for those of other studies."""
    measure, _, weight = row.label.partition(", weight ")
    if row.group not in STUDIES or row.kind is not Kind.MEASURED:
        return None
    if row.group == "weight":
        measure, weight = "kl", row.label.split()[0]
    return Point(measure.replace(" of base classes", ", base classes"), float(weight), row)


def other(row: Row) -> Point | None:
    """Of a row without any alignment; None for others."""
    if row.label.endswith(" epochs"):
        return Point(TRAINED, float(row.label.removesuffix(" epochs")), row)
    for beginning, family in OTHERS.items():
        if row.label.startswith(beginning) and row.kind is Kind.MEASURED:
            return Point(family, float(row.label.removeprefix(beginning) or 0), row)
    return None


def with_gain(rows: Sequence[Row]) -> list[Row]:
    """Measured rows, with the difference of H to CoOp where there is one."""
    gains = {row.label: row.cells["h"] for row in rows if row.kind is Kind.DIFFERENCE}
    return [
        replace(row, cells=row.cells | {GAIN: gains[name]})
        if (name := f"{row.label} - {COOP}") in gains
        else row
        for row in rows
    ]


def families(points: Iterable[Point | None]) -> dict[str, list[Point]]:
    """Family -> its points by growing number, each number once."""
    found: dict[str, dict[float, Point]] = {}
    for point in points:
        if point:
            found.setdefault(point.family, {}).setdefault(point.number, point)
    return {family: [of[n] for n in sorted(of)] for family, of in found.items()}


def measured(experiments: Path) -> tuple[list[Row], dict[str, list[Point]]]:
    """Zero-shot CLIP and CoOp, then everything that is a line.

    Raises DataError where the former have no record.
    """
    rows = {
        name: [
            row
            for table in averages(read(experiments / name))
            for row in table.rows
            if {"base", "new"} <= row.cells.keys()
        ]
        for name in ("regularizers", "ablation", "average", "alternatives")
    }
    ablations = [row for name in ("regularizers", "ablation") for row in rows[name]]
    alone = [row for name in ("average", "alternatives") for row in with_gain(rows[name])]
    labels = {row.label: row for row in reversed(rows["average"])}
    if missing := [label for label in STARS if label not in labels]:
        raise DataError(
            f"{experiments / 'average'} has no averages on base and new classes of "
            f"{', '.join(missing)}; expected a record of tools/experiment.py with them"
        )
    stars = [labels[label] for label in STARS]
    trained = Point(TRAINED, 50, stars[-1])
    lines = families([*map(setting, ablations), *map(other, alone), trained])
    return stars, lines


def curves(stars: Sequence[Row], lines: dict[str, list[Point]]) -> Plot:
    """Each family a line in the order of its numbers, and the gain in H of each point."""
    rows = [*stars, *(replace(p.row, label=p.label) for of in lines.values() for p in of)]
    return Plot(
        "curves",
        "New against base accuracy",
        in_words(rows, metric_names()),
        "Left: mean and deviation over seeds. Right: mean, deviation over seeds and 95 % interval",
        lambda: _draw(stars, lines),
    )


def _draw(stars: Sequence[Row], lines: dict[str, list[Point]]) -> Figure:
    figure, (plane, gains) = panels(2, 2, (5.8, 6.6))
    colours = ({"color": c, "marker": m} for c, m in cycle(POINTS))
    looks = dict(zip(lines, colours, strict=False))
    looks["free average"] = {"color": GREY, "marker": "X", "linestyle": "--"}
    for family, of in lines.items():
        _line(plane, [point.row for point in of], label=family, **looks[family])
    for row in stars:
        _line(plane, [row], marker="*", markersize=13, color=INK, linestyle="none", zorder=4)
        at = (row.cells["base"].mean, row.cells["new"].mean)
        plane.annotate(row.label, at, xytext=(0, 9), textcoords="offset points", ha="center")
    plane.set_xlabel("base accuracy, %")
    plane.set_ylabel("new accuracy, %")
    plane.set_title("Bars: deviation over 3 seeds")
    figure.legend(
        *plane.get_legend_handles_labels(),
        title="The number at the right grows along a line",
        loc="outside lower center",
        ncols=9,
    )
    known = (p for of in lines.values() for p in of if GAIN in p.row.cells)
    draw_gains(gains, [Gain(p.label, p.row.cells[GAIN], looks[p.family]) for p in known], COOP)
    return figure


def _line(axis: Axes, rows: Sequence[Row], **look: Any) -> None:
    base, new = ([row.cells[column].mean for row in rows] for column in ("base", "new"))
    across, along = ([row.spread(column) or 0.0 for row in rows] for column in ("base", "new"))
    axis.errorbar(base, new, xerr=across, yerr=along, **{**LINE, "elinewidth": 0.6, **look})


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw docs/curves.png.")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS)
    parser.add_argument("--output", type=Path, default=DOCS / "curves.png")
    args = parser.parse_args()
    plot = curves(*measured(args.experiments))
    write_file(args.output, plot.image("png"))
    print(plot.alt)


if __name__ == "__main__":
    run(main)
