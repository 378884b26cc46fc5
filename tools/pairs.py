"""Which similarities among classes a training moves: the table "pairs" of docs/regularizers.md.

    python tools/pairs.py OUTPUT

OUTPUT is the output folder of `sarclip protocol base2new --trainers CoOp,SAR_CoOp`, with its
checkpoints. The page says what is seen in the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from drift import trainings
from ending import run
from marks import write_between
from recorded import DOCS
from tabulate import tabulate
from torch import Tensor

from sar.inspection.models import Embeddings, embeddings, read_training
from sar.inspection.relations import NEIGHBOURS, similarities

BEGIN, END = "<!-- pairs: written by tools/pairs.py -->", "<!-- end of pairs -->"
AVERAGED = "CoOp, averaged 0.5"
COLUMNS = ("near", "far", "correlation")
Numbers = dict[str, dict[str, float]]
"""Kind of pairs -> column -> number."""


def moved(before: Tensor, after: Tensor, base: Tensor) -> Numbers:
    """What became of the similarities `before` (C, C); `base` (C,) says which classes are.

    near, far: mean change of similarity to a class's `NEIGHBOURS` nearest before, and to all
    others. correlation: Pearson's, of the similarities before and after.
    """
    others = ~torch.eye(len(base), dtype=torch.bool)
    order = before.masked_fill(~others, -torch.inf).argsort(dim=1, descending=True)
    near = torch.zeros_like(others).scatter(1, order[:, :NEIGHBOURS], True)
    row, column = base[:, None], base[None]
    kinds = {"base-base": row & column, "base-new": row ^ column, "new-new": ~(row | column)}
    change = after - before
    return {
        kind: {
            "near": float(change[pairs & others & near].mean()),
            "far": float(change[pairs & others & ~near].mean()),
            "correlation": float(
                torch.corrcoef(torch.stack([m[pairs & others] for m in (before, after)]))[0, 1]
            ),
        }
        for kind, pairs in kinds.items()
    }


def of_training(folder: Path) -> dict[str, Numbers]:
    """Label of the features -> how they moved; of CoOp its free average, too."""
    training = read_training(folder)
    names = set(embeddings(training, "base").names)
    found: Embeddings = embeddings(training, "all")
    base = torch.tensor([name in names for name in found.names])
    before = similarities(found.reference)
    features = {found.trainer: found.learned}
    if found.trainer == "CoOp":
        unit = torch.nn.functional.normalize
        features[AVERAGED] = unit(found.learned, dim=-1) + unit(found.reference, dim=-1)
    return {label: moved(before, similarities(of), base) for label, of in features.items()}


def mean_of(found: Iterable[Numbers]) -> Numbers:
    """Of several trainings, number by number."""
    every = list(found)
    return {
        kind: {column: fmean(one[kind][column] for one in every) for column in COLUMNS}
        for kind in every[0]
    }


def table(seeds: Mapping[str, Sequence[Numbers]]) -> str:
    """Label -> one `Numbers` for each seed; ± is the deviation over them, where there are more."""

    def cell(label: str, kind: str, column: str) -> str:
        values = [of[kind][column] for of in seeds[label]]
        signed, digits = ("", 2) if column == "correlation" else ("+", 3)
        mean = f"{fmean(values):{signed}.{digits}f}"
        return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean

    lines = [
        [label, kind, *(cell(label, kind, column) for column in COLUMNS)]
        for label, of in seeds.items()
        for kind in of[0]
    ]
    return tabulate(
        lines, ["features", "pairs", *COLUMNS], tablefmt="github", disable_numparse=True
    )


def measured(output: Path) -> dict[str, list[Numbers]]:
    """Label -> the mean over datasets, of every seed."""
    found: dict[str, dict[str, list[Numbers]]] = {}
    for trainer in ("CoOp", "SAR_CoOp"):
        for folder in trainings(output, trainer):
            for label, numbers in of_training(folder).items():
                found.setdefault(label, {}).setdefault(folder.name, []).append(numbers)
    return {label: [mean_of(of) for of in seeds.values()] for label, seeds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the table of pairs.")
    parser.add_argument("output", type=Path, help="of sarclip protocol base2new")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    text = table(measured(args.output))
    write_between(args.docs / "regularizers.md", BEGIN, END, f"\n{text}\n")
    print(text)


if __name__ == "__main__":
    run(main)
