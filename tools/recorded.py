"""What tools/experiment.py wrote, read back: tables, from which pages and pictures are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sar.results.tables import Kind, Row, Table
from sar.results.tables.base2new import COLUMNS
from sar.results.tables.rows import H_REMARK
from sar.results.tables.summary import tables_in
from sar.results.tables.table import GAIN

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
DOCS = EXPERIMENTS.parent / "docs"
SUMMARY, CALIBRATION, CHANGES = "summary.json", "calibration.json", "changes.json"


def read(record: Path, name: str = SUMMARY) -> list[Table]:
    """The tables of a record's file; none where it has no such file."""
    file = record / name
    return tables_in(json.loads(file.read_text("utf-8"))) if file.is_file() else []


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
