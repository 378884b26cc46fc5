"""What tools/experiment.py records, and reading it back: tables, of which pages are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sar.errors import DataError
from sar.results import Results
from sar.results.cli import complete
from sar.results.plots import Plot
from sar.results.presentations import make_plots
from sar.results.protocol import ABLATION
from sar.results.tables import Kind, Row, Table
from sar.results.tables.base2new import COLUMNS
from sar.results.tables.rows import H_REMARK
from sar.results.tables.summary import tables_in
from sar.results.tables.table import GAIN
from sar.storage.texts import read_json

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
DOCS = EXPERIMENTS.parent / "docs"
SUMMARY, CALIBRATION, CHANGES = "summary.json", "calibration.json", "changes.json"


def whole(folder: Path) -> Results:
    """What an output folder has. Raises DataError where some of its runs are not counted."""
    found = complete(folder)
    if found.problems:
        first = found.problems[0]
        raise DataError(
            f"{folder} is not whole: {len(found.problems)} of its runs are not counted, such as "
            f"{first.directory}: {first.reason}. `sarclip results` lists them; finish or remove "
            "them first"
        )
    return found


def read(record: Path, name: str = SUMMARY) -> list[Table]:
    """The tables of a record's file; none where it has no such file.

    Raises:
        DataError: the file is damaged, or there is not even a `SUMMARY`.
    """
    file, expected = record / name, "expected a folder that tools/experiment.py wrote"
    if name != SUMMARY and not file.is_file():
        return []
    try:
        return tables_in(read_json(file, expected))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} holds no tables; {expected}") from error


def read_ablation(record: Path) -> list[Table]:
    """The tables of an ablation's record.

    Raises:
        DataError: as `read` does, and for a record of another protocol.
    """
    tables = read(record)
    if (found := {table.protocol for table in tables}) != {ABLATION}:
        of = ", ".join(sorted(found)) or "nothing"
        raise DataError(f"{record} is a record of {of}; expected one of sarclip protocol ablation")
    return tables


def first_plot(table: Table) -> Plot:
    """The first figure of a table; raises DataError if it allows none."""
    if not (plots := make_plots(table)):
        raise DataError(f"{table.title} lacks accuracies on base or new classes: nothing to draw")
    return plots[0]


def averages(tables: Iterable[Table]) -> list[Table]:
    """Tables of averages over datasets; of others the rows of their average."""
    found = []
    for table in tables:
        rows = [row for row in table.rows if row.group.startswith("Average of ")]
        if rows or "average of " in table.title:
            found.append(replace(table, rows=rows or table.rows))
    return found


def of_ablation(table: Table) -> Table:
    """A table of settings, without differences between them, as `sarclip results` prints it."""
    remarks = [
        H_REMARK,
        "ZeroshotCLIP: nothing is trained, seeds have no effect.",
        "H gain: H minus that of the plain trainer, paired over the seeds both have.",
    ]
    rows = [row for row in table.rows if row.kind is Kind.MEASURED]
    columns = {**COLUMNS, GAIN: "H gain"}
    return replace(
        table, headings=("Study", "Setting"), columns=columns, rows=rows, remarks=remarks
    )


def merged(tables: Sequence[Table]) -> Table:
    """One table of several: each row once, behind the others of its group."""
    groups: dict[str, dict[tuple[str, str], Row]] = {}
    for table in tables:
        for row in table.rows:
            groups.setdefault(row.group, {}).setdefault((row.label, row.kind.value), row)
    rows = [row for group in groups.values() for row in group.values()]
    columns = {key: text for table in tables for key, text in table.columns.items()}
    return replace(tables[0], columns=columns, rows=rows)
