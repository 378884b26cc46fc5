"""How far settings move the relations of unseen classes, and what that is worth: table and figure.

    python tools/drift.py [SELECTION AVERAGE]

SELECTION is the output folder of `sarclip protocol ablation --studies regularizer`, AVERAGE that of
`sarclip protocol base2new --trainers ZeroshotCLIP,CoOp --averaged 0.25,0.5,0.75` on the same
datasets, both with their checkpoints. What is measured there is written into
experiments/drift.json. From that docs/drift.png is drawn, and the table of docs/regularizers.md
written between its marks. The page says what is seen in them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ending import run
from marks import write_between
from recorded import DOCS, EXPERIMENTS, whole
from tabulate import tabulate

from sar.errors import DataError, one_line
from sar.results import Results
from sar.results.changes import change_tables
from sar.results.plots.style import GREY, INK, LINE, POINTS, Plot, panels
from sar.results.presentations import make_tables
from sar.results.statistics import Summary
from sar.storage.files import write_file
from sar.storage.texts import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = EXPERIMENTS / "drift.json"
BEGIN, END = "<!-- drift: written by tools/drift.py -->", "<!-- end of drift -->"
STUDY, FREE, ZERO = "regularizer", "CoOp, averaged", "ZeroshotCLIP"
FIRST = (ZERO, "CoOp")
SHOWN = ("base", "new")
EXPECTED = "expected experiments/drift.json, as tools/drift.py writes it from two output folders"
TEMPERATURE = 0.1  # TRAINER.SAR's default
SETTINGS = (
    *(f"kl, weight {weight}" for weight in ("0.25", "1", "4")),
    "anchor, weight 2",
    "hsic, weight 2",
    "cross, weight 2",
    *(f"hsic_apart, weight {weight}" for weight in ("0.125", "0.5")),
)


@dataclass(frozen=True)
class Moved:
    """One setting, on average over seeds and datasets."""

    label: str
    drift: float
    """L_SAR ("kl") of the new classes' features against the hand-crafted ones, in nats."""
    numbers: Mapping[str, float]
    """base, new, h, mended, broken, agreed, in percent; the last three of new classes."""
    gains: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """base, new: over zero-shot CLIP, in percent points: mean, deviation over seeds, and the ends
    of the 95 % interval over classes and images, where they are known."""

    @property
    def family(self) -> str:
        return self.label.partition(", weight")[0]


def drift(trainings: Sequence[Path], share: float = 1.0) -> float:
    """Of features a `share` of the way from the hand-crafted to the learned ones."""
    import torch

    from sar.inspection.models import embeddings, read_training
    from sar.inspection.relations import compare, similarities

    found = []
    for folder in trainings:
        model = embeddings(read_training(folder), "new")
        unit = torch.nn.functional.normalize
        path = torch.lerp(unit(model.reference, dim=-1), unit(model.learned, dim=-1), share)
        before, after = similarities(model.reference), similarities(path)
        found.append(compare(before, after, model.names, TEMPERATURE).divergence)
    return fmean(found)


def trainings(folder: Path, trainer: str) -> list[Path]:
    """Of base-to-new, below its output folder; raises DataError if there is none."""
    pattern = f"train_base/*/*/{trainer}/*/seed*"
    if not (found := sorted(folder.glob(pattern))):
        raise DataError(
            f"no training {pattern} in {folder}; expected the output folder of a protocol whose "
            f"trainers include {trainer}, with its checkpoints"
        )
    return found


def settings_in(results: Results, group: str = "") -> dict[str, Moved]:
    """Label -> what is known of it without its drift: of the average over datasets.

    Of the rows of a `group` of the first table, by default the last.
    """
    results.against = [ZERO]
    first = make_tables(results)[0]
    group = group or first.groups()[-1]
    rows = {row.label: row.cells for row in first.rows if row.group == group}
    numbers = {
        label: {column: float(cell.mean) for column, cell in cells.items()}
        for label, cells in rows.items()
        if " - " not in label
    }
    kinds = {"mended": "mended", "broken": "broken", "agreement of seeds": "agreed"}
    for table in change_tables(results):
        for row in table.rows:
            if row.group == group and row.label in numbers and "new" in row.cells:
                kind = kinds[table.title.rpartition(": ")[2]]
                numbers[row.label].setdefault(kind, float(row.cells["new"].mean))
    return {
        label: Moved(label, 0.0, of, _gains(rows.get(f"{label} - {ZERO}", {})))
        for label, of in numbers.items()
    }


def _gains(minus: Mapping[str, Summary]) -> dict[str, tuple[float, ...]]:
    return {
        column: (float(cell.mean), cell.std or 0.0, *(cell.interval() or ()))
        for column, cell in minus.items()
        if column in SHOWN
    }


def measured(selection: Path, average: Path) -> list[Moved]:
    """Zero-shot CLIP, CoOp, its averages by falling share, then `SETTINGS`."""
    ablation, averaged = whole(selection), whole(average)
    settings, shares = settings_in(ablation, STUDY), settings_in(averaged)
    for folder, there, wanted in (
        (selection, settings, SETTINGS),
        (average, shares, FIRST),
    ):
        if missing := [label for label in wanted if label not in there]:
            raise DataError(f"{folder} has no result of {', '.join(missing)}; see --help")
    coop = trainings(average, "CoOp")
    free = sorted((label for label in shares if label.startswith(FREE)), reverse=True)
    return [
        shares[ZERO],
        replace(shares["CoOp"], drift=drift(coop)),
        *(replace(shares[one], drift=drift(coop, float(one.split()[-1]))) for one in free),
        *(
            replace(settings[label], drift=drift(trainings(selection / variant, "SAR_CoOp")))
            for label, variant in ablation.studies[STUDY].items()
            if label in SETTINGS
        ),
    ]


def recorded(record: Path) -> list[Moved]:
    """What `measured` gave. Raises DataError for a file that holds something else."""
    try:
        moved = [
            Moved(
                str(one["label"]),
                float(one["drift"]),
                dict(one["numbers"]),
                {column: tuple(map(float, one["gains"][column])) for column in one["gains"]},
            )
            for one in read_json(record)
        ]
        text = table(moved)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{record} cannot be used: {one_line(repr(error))}; {EXPECTED}") from error
    gains = [one.gains.get(column, ()) for one in moved[1:] for column in SHOWN]
    drawn = all(len(gain) in (2, 4) and all(map(math.isfinite, gain)) for gain in gains)
    if [one.label for one in moved[:2]] != list(FIRST) or not drawn or "nan" in text:
        raise DataError(f"{record} has not all that is drawn; {EXPECTED}")
    return moved


def table(moved: Sequence[Moved]) -> str:
    headings = {
        "base": "base",
        "new": "new",
        "h": "H",
        "mended": "new: mended",
        "broken": "new: broken",
        "agreed": "new: seeds agree",
    }
    lines = [
        [one.label, f"{one.drift:.3f}"]
        + [f"{one.numbers[key]:.1f}" if key in one.numbers else "" for key in headings]
        for one in moved
    ]
    columns = ["features", "drift", *headings.values()]
    return tabulate(lines, columns, tablefmt="github", disable_numparse=True)


def figure(moved: Sequence[Moved]) -> Plot:
    """What base and new accuracy gain over zero-shot CLIP against drift; each family a line."""
    _, coop, *others = moved
    free = [one for one in others if one.label.startswith(FREE)]
    lines = {"free average, CoOp": [*reversed(free), coop]}
    for one in others[len(free) :]:
        lines.setdefault(one.family, []).append(one)
        lines[one.family].sort(key=lambda one: one.drift)

    def draw() -> Figure:
        canvas, axes = panels(2, 2, (4.8, 4.2))
        for axis, column in zip(axes, SHOWN, strict=True):
            looks: list[dict[str, Any]] = [{"color": GREY, "marker": "X", "linestyle": "--"}]
            looks += [{"color": colour, "marker": marker} for colour, marker in POINTS]
            for (label, of), look in zip(lines.items(), looks, strict=False):
                gains = [one.gains[column] for one in of]
                drifts = [one.drift for one in of]
                means, spreads = ([gain[i] for gain in gains] for i in (0, 1))
                axis.errorbar(drifts, means, spreads, label=label, **{**LINE, **look})
                for at, (_, _, *ends) in zip(drifts, gains, strict=True):
                    if len(of) > 1:  # those of single points would hide each other
                        broad = {"color": look["color"], "linewidth": 5, "alpha": 0.25}
                        axis.plot([at] * len(ends), ends, **broad)
            axis.axhline(0, color=INK, linewidth=0.8)
            axis.set_xlabel("drift of the relations among new classes (nats)")
            axis.set_ylabel(f"{column} accuracy minus zero-shot CLIP's, percent points")
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
        return canvas

    return Plot("drift", "Accuracy against drift", table(moved), "", draw)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write docs/drift.png and its table.",
        usage="%(prog)s [-h] [--record RECORD] [--docs DOCS] [SELECTION AVERAGE]",
    )
    parser.add_argument("outputs", type=Path, nargs="*", metavar="SELECTION AVERAGE")
    parser.add_argument("--record", type=Path, default=RECORD, help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    if len(args.outputs) not in (0, 2):
        parser.error(f"expected two folders, SELECTION and AVERAGE, found {len(args.outputs)}")
    moved = measured(*args.outputs) if args.outputs else recorded(args.record)
    image = figure(moved).image("png")
    write_between(args.docs / "regularizers.md", BEGIN, END, f"\n{table(moved)}\n")
    if args.outputs:
        found = [asdict(one) for one in moved]
        write_file(args.record, json.dumps(found, indent=1) + "\n")
    write_file(args.docs / "drift.png", image)
    print(table(moved))


if __name__ == "__main__":
    run(main)
