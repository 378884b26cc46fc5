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
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from sar.results.plots.style import GREY, POINTS, Plot, panels
from sar.results.presentations import make_tables
from sar.storage.files import write_file
from sar.storage.texts import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = EXPERIMENTS / "drift.json"
BEGIN, END = "<!-- drift: written by tools/drift.py -->", "<!-- end of drift -->"
STUDY, FREE = "regularizer", "CoOp, averaged"
FIRST = ("ZeroshotCLIP", "CoOp")
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


def numbers_of(results: Results, group: str = "") -> dict[str, dict[str, float]]:
    """Label -> its numbers, from the first table of each kind: the average over datasets.

    Of the rows of a `group`, by default the last.
    """
    numbers: dict[str, dict[str, float]] = defaultdict(dict)
    first = make_tables(results)[0]
    group = group or first.groups()[-1]
    for row in first.rows:
        if row.group == group:
            numbers[row.label] |= {column: float(c.mean) for column, c in row.cells.items()}
    kinds = {"mended": "mended", "broken": "broken", "agreement of seeds": "agreed"}
    for table in change_tables(results):
        for row in table.rows:
            if row.group == group and "new" in row.cells:
                kind = kinds[table.title.rpartition(": ")[2]]
                numbers[row.label].setdefault(kind, float(row.cells["new"].mean))
    return numbers


def measured(selection: Path, average: Path) -> list[Moved]:
    """Zero-shot CLIP, CoOp, its averages by falling share, then `SETTINGS`."""
    ablation, averaged = whole(selection), whole(average)
    settings, shares = numbers_of(ablation, STUDY), numbers_of(averaged)
    for folder, numbers, wanted in (
        (selection, settings, SETTINGS),
        (average, shares, FIRST),
    ):
        if missing := [label for label in wanted if label not in numbers]:
            raise DataError(f"{folder} has no result of {', '.join(missing)}; see --help")
    coop = trainings(average, "CoOp")
    free = sorted((label for label in shares if label.startswith(FREE)), reverse=True)
    return [
        Moved("ZeroshotCLIP", 0.0, shares["ZeroshotCLIP"]),
        Moved("CoOp", drift(coop), shares["CoOp"]),
        *(Moved(label, drift(coop, float(label.split()[-1])), shares[label]) for label in free),
        *(
            Moved(label, drift(trainings(selection / variant, "SAR_CoOp")), settings[label])
            for label, variant in ablation.studies[STUDY].items()
            if label in SETTINGS
        ),
    ]


def recorded(record: Path) -> list[Moved]:
    """What `measured` gave. Raises DataError for a file that holds something else."""
    try:
        moved = [
            Moved(str(one["label"]), float(one["drift"]), dict(one["numbers"]))
            for one in read_json(record)
        ]
        text = table(moved)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{record} cannot be used: {one_line(repr(error))}; {EXPECTED}") from error
    drawn = all({"base", "new"} <= one.numbers.keys() for one in moved)
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
    """Base and new accuracy against drift; each family a line."""
    zero, coop, *others = moved
    free = [one for one in others if one.label.startswith(FREE)]
    lines = {"zero-shot CLIP, free average, CoOp": [zero, *reversed(free), coop]}
    for one in others[len(free) :]:
        lines.setdefault(one.family, []).append(one)
        lines[one.family].sort(key=lambda one: one.drift)

    def draw() -> Figure:
        canvas, axes = panels(2, 2, (4.4, 3.8))
        for axis, column in zip(axes, ("base", "new"), strict=True):
            looks: list[dict[str, Any]] = [{"color": GREY, "marker": "X", "linestyle": "--"}]
            looks += [{"color": colour, "marker": marker} for colour, marker in POINTS]
            for (label, of), look in zip(lines.items(), looks, strict=False):
                drifts, values = zip(*((one.drift, one.numbers[column]) for one in of), strict=True)
                axis.plot(drifts, values, label=label, linewidth=1.6, markersize=5, **look)
            axis.set_xlabel("drift of the relations among new classes (nats)")
            axis.set_ylabel(f"{column} accuracy, %")
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
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
