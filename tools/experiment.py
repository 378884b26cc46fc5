"""A record in experiments/ of what an output folder has.

    python tools/experiment.py output/NAME [--against ROW ...] [--changes]

Writes into experiments/NAME: `results.json` (of every seed, with calibration errors),
`summary.json` (the numbers of the tables, with differences of all rows `--against` a row),
`calibration.json` (those of the tables of calibration errors), and with `--changes` `changes.json`
(what is mended and broken of zero-shot CLIP's answers). Of an ablation these differences and the
last two files are of the averages over datasets alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sar.results import collect
from sar.results.calibration import calibration_tables, with_errors
from sar.results.changes import change_tables
from sar.results.presentations import make_tables
from sar.results.protocol import ABLATION
from sar.results.tables import Kind, Table
from sar.results.tables.summary import summary_of
from sar.storage.files import make_folder, write_file

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def lines(records: Sequence[object]) -> str:
    """A JSON list with an entry on each line."""
    return "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n"


def _is_single(table: Table) -> bool:
    """Whether it is of one dataset of an ablation."""
    return table.protocol == ABLATION and "average of " not in table.title


def averages(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if not _is_single(table)]


def without_differences(table: Table) -> Table:
    return replace(table, rows=[row for row in table.rows if row.kind is not Kind.DIFFERENCE])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a record into experiments/.")
    parser.add_argument("output", type=Path, help="of sarclip protocol")
    parser.add_argument("--against", action="append", default=[], metavar="ROW")
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS)
    args = parser.parse_args()
    found = collect(args.output)
    found.against = args.against
    files: dict[str, Sequence[object]] = {
        "results.json": [record.as_dict() for record in with_errors(found).records],
        "summary.json": summary_of(
            without_differences(table) if _is_single(table) else table
            for table in make_tables(found)
        ),
        "calibration.json": summary_of(averages(calibration_tables(found))),
    }
    if args.changes:
        found.against = ()
        files["changes.json"] = summary_of(averages(change_tables(found)))
    folder = args.experiments / args.output.name
    make_folder(folder)
    for name, records in files.items():
        write_file(folder / name, lines(records))


if __name__ == "__main__":
    main()
