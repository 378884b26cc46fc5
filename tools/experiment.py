"""A record in experiments/ of what an output folder has.

    python tools/experiment.py output/NAME [--against ROW ...] [--changes] [--beside ROW=MODEL ...]

Writes into experiments/NAME: `results.json` (of every seed, with calibration errors),
`summary.json` (the numbers of the tables, with differences of all rows `--against` a row),
`calibration.json` (those of the tables of calibration errors), and with `--changes` `changes.json`
(what is mended and broken of zero-shot CLIP's answers). Of an ablation these differences and the
last two files are of the averages over datasets alone. `--beside` adds rows of base-to-new to the
summary that are in another output folder, such as `"10 epochs=output/coop-10-epochs:CoOp"` or, of
an ablation's, `"hsic=output/regularizers:divergence_hsic_weight_2.0/SAR_CoOp"`: differences are
paired, since tests on the same images have the same resamples wherever they lie.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ending import run
from recorded import CALIBRATION, CHANGES, EXPERIMENTS, SUMMARY, whole

from sar.errors import DataError
from sar.results import Results
from sar.results.calibration import calibration_tables, with_errors
from sar.results.changes import change_tables
from sar.results.presentations import compare_with
from sar.results.protocol import ABLATION, BASE2NEW
from sar.results.record import Record
from sar.results.tables import Kind, Table
from sar.results.tables.summary import summary_of
from sar.storage.files import make_folder, write_file

DIGITS = 6  # behind the point: pages round once


def lines(records: Sequence[object]) -> str:
    """A JSON list with an entry on each line."""
    return "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n"


def _is_single(table: Table) -> bool:
    """Whether it is of one dataset of an ablation."""
    return table.protocol == ABLATION and "average of " not in table.title


def without_singles(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if not _is_single(table)]


def without_differences(table: Table) -> Table:
    return replace(table, rows=[row for row in table.rows if row.kind is not Kind.DIFFERENCE])


def row_beside(text: str) -> tuple[str, Path, str]:
    """Type of an option that takes ROW=FOLDER:MODEL."""
    label, _, model = text.partition("=")
    folder, _, name = model.rpartition(":")
    if not (label and folder and name):
        raise argparse.ArgumentTypeError(f"expected ROW=FOLDER:MODEL, found {text!r}")
    return label, Path(folder), name


def beside(results: Results, label: str, folder: Path, name: str) -> list[Record]:
    """The records of a model in another folder, as a row, on the datasets of `results`.

    Raises:
        DataError: there are none, or there is such a row already.
    """
    if label in {record.key.trainer for record in results.records}:
        raise DataError(
            f"{results.root} has a row {label} itself; give the one of {folder} another name"
        )
    datasets = {record.key.dataset for record in results.records}
    found: dict[str, list[Record]] = {}
    for record in whole(folder).records:
        if record.key.dataset in datasets:
            model = "/".join(filter(None, (record.key.variant, record.key.trainer)))
            key = replace(record.key, trainer=label, variant="")
            found.setdefault(model, []).append(replace(record, protocol=BASE2NEW, key=key))
    if name not in found:
        there = ", ".join(sorted(found)) or "nothing"
        raise DataError(
            f"there is no {name} in {folder} on {', '.join(sorted(datasets))}; there is {there}"
        )
    return found[name]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a record into experiments/.")
    parser.add_argument("output", type=Path, help="of sarclip protocol")
    parser.add_argument("--against", action="append", default=[], metavar="ROW")
    parser.add_argument("--changes", action="store_true")
    parser.add_argument(
        "--beside", action="append", default=[], type=row_beside, metavar="ROW=FOLDER:MODEL"
    )
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS)
    args = parser.parse_args()
    found = whole(args.output)
    others = [record for row in args.beside for record in beside(found, *row)]
    together = replace(found, records=found.records + others)
    tables = compare_with(together, args.against)
    found.against = args.against
    files: dict[str, Sequence[object]] = {
        "results.json": [record.as_dict() for record in with_errors(found).records],
        SUMMARY: summary_of(
            [without_differences(table) if _is_single(table) else table for table in tables],
            DIGITS,
        ),
        CALIBRATION: summary_of(without_singles(calibration_tables(found)), DIGITS),
    }
    if args.changes:
        found.against = ()
        files[CHANGES] = summary_of(without_singles(change_tables(found)), DIGITS)
    folder = args.experiments / args.output.resolve().name
    make_folder(folder)
    for name, records in files.items():
        write_file(folder / name, lines(records))


if __name__ == "__main__":
    run(main)
