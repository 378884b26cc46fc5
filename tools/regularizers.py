"""The tables of docs/regularizers.md and its figure docs/regularizers.png.

    python tools/regularizers.py [RECORD ...]

A RECORD is a folder of tools/experiment.py, of `sarclip protocol ablation` with studies that
the page is about; by default the two of experiments/. Those on the same datasets become one table,
so that a row of one's own needs nobody else's pictures. What is between the page's marks is
replaced; the rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ending import run
from marks import write_between
from recorded import (
    CALIBRATION,
    DOCS,
    EXPERIMENTS,
    averages,
    first_plot,
    merged,
    of_ablation,
    read,
    read_ablation,
)

from sar.errors import DataError
from sar.predictions.ece import BINS
from sar.protocols.ablation import BASELINE
from sar.protocols.studies import COMPARISONS
from sar.results import Results, to_text
from sar.results.tables import Kind, Row, Table
from sar.storage.files import write_file

BEGIN, END = "<!-- tables: written by tools/regularizers.py -->", "<!-- end of tables -->"
RECORDS = [EXPERIMENTS / name for name in ("regularizers", "regularizers-report")]
ERROR = ": calibration error"
ERRORS = {"base_ece": "ECE base", "new_ece": "ECE new"}
REMARK = (
    f"ECE: expected calibration error, {BINS} bins of equal width; less is better. Its resamples "
    "are moved by their mean excess."
)


def comparisons(records: Sequence[Path]) -> list[Table]:
    """A table for each set of datasets: averages of the comparing studies and of the baseline.

    Raises:
        DataError: a record is of no ablation, or has no comparing study.
    """
    found: dict[str, list[Table]] = {}
    for record in records:
        errors = {table.title: table for table in averages(read(record, CALIBRATION))}
        averaged = averages(read_ablation(record))
        if not any(row.group in COMPARISONS for table in averaged for row in table.rows):
            raise DataError(
                f"{record} has no average over datasets of any study of the page: "
                f"{', '.join(COMPARISONS)}"
            )
        for table in averaged:
            beside = _rows(errors[table.title + ERROR]) if table.title + ERROR in errors else {}
            rows = [_with_errors(row, beside.get(name)) for name, row in _rows(table).items()]
            found.setdefault(table.title, []).append(replace(table, rows=rows))
    tables = [of_ablation(merged(tables)) for tables in found.values()]
    return [
        replace(table, columns=table.columns | ERRORS, remarks=[*table.remarks, REMARK])
        for table in tables
    ]


def _rows(table: Table) -> dict[tuple[str, str], Row]:
    """Those of the page, in the order of the studies."""
    there = {(r.group, r.label): r for r in table.rows if r.kind is Kind.MEASURED}
    asked = [(study, label) for study, settings in COMPARISONS.items() for label in settings]
    base = [name for name in there if name[0] == BASELINE]
    own = [name for name in there if name[0] in COMPARISONS and name not in asked]
    return {name: there[name] for name in (*base, *asked, *own) if name in there}


def _with_errors(row: Row, errors: Row | None) -> Row:
    beside = {f"{column}_ece": cell for column, cell in errors.cells.items()} if errors else {}
    return replace(row, cells=row.cells | beside)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of docs/regularizers.md.")
    parser.add_argument("records", type=Path, nargs="*", default=RECORDS)
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    tables = comparisons(args.records)
    text = to_text(Results(EXPERIMENTS), "markdown", tables=tables)
    first = tables[0]
    others = [row for row in first.rows if row.group != "regularizer"]  # see tools/curves.py
    image = first_plot(replace(first, rows=others)).image("png")
    write_between(args.docs / "regularizers.md", BEGIN, END, text)
    write_file(args.docs / "regularizers.png", image)


if __name__ == "__main__":
    run(main)
