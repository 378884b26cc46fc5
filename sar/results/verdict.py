"""The one sentence that a report opens with."""

from __future__ import annotations

from collections.abc import Sequence

from sar.predictions.chance import does_not_know, near_chance
from sar.results.folders import averaged_over, is_untrained
from sar.results.protocol import ABLATION
from sar.results.provenance import Provenance
from sar.results.record import Results
from sar.results.tables import Kind, Row, Table
from sar.results.tables.evaluated import EVALUATION


def verdict(tables: Sequence[Table], results: Results, runs: Sequence[Provenance]) -> str:
    """What the results say, in a sentence; empty if they say nothing.

    That a CLIP does not know the pictures comes before anything else.
    """
    if unknown := not_known(results, runs):
        return f"{unknown[0].upper()}{unknown[1:]}."
    for table in tables:
        if table.protocol != ABLATION and (said := _of(table)):
            return said
    return ""


def not_known(results: Results, runs: Sequence[Provenance]) -> str:
    """A sentence on the first dataset on which zero-shot CLIP hardly does better than guessing."""
    counts = {run.place.directory: run.counts for run in runs}
    for record in results.records:
        if not is_untrained(record.key.trainer):
            continue
        for column, folder in record.folders.items():
            seen = counts.get(folder, {})
            classes, accuracy = seen.get("classes", 0), record.values[column]
            if near_chance(accuracy, classes, seen.get("test", 0)):
                what = f"the pictures of {record.key.dataset}"
                if column in ("base", "new"):
                    what += f" ({column} classes)"
                return does_not_know(what, accuracy, classes)
    return ""


def group_of(table: Table) -> str:
    """The group of rows that sums a table up: the average, or what has no other beside it."""
    averages = [row.group for row in table.rows if row.average]
    return averages[-1] if averages else averaged_over(table.groups())[-1]


def _of(table: Table) -> str:
    group = group_of(table)
    rows = [row for row in table.rows if row.group == group]
    where = f"{group[0].lower()}{group[1:]}" if any(row.average for row in rows) else group
    differences = [row for row in rows if row.kind is Kind.DIFFERENCE]
    sar = [row for row in differences if row.label.startswith("SAR_")]
    if found := (sar or differences):
        return f"{_difference(table, found[0])} ({where}, seeds: {found[0].seeds()})."
    measured = [row for row in rows if row.kind is Kind.MEASURED and row.cells]
    if not measured:
        return ""
    column, title = _last(table, measured[0])
    best = max(measured, key=lambda row: row.cells[column].mean if column in row.cells else -1.0)
    return f"{best.label} is best with {title} {best.mean(column)} % ({where})."


def _difference(table: Table, row: Row) -> str:
    """What one method changes about another, and whether that is beyond chance."""
    label, _, plain = row.label.partition(" - ")
    column, title = _last(table, row)
    mean, interval = row.cells[column].mean, row.cells[column].interval()
    how = "is above" if mean > 0 else "is below" if mean < 0 else "equals"
    said = f"{label} {how} {plain} by {abs(mean):.2f} points of {title}"
    if others := [c for c in table.columns if c in row.cells and c != column]:
        said += ": " + ", ".join(f"{table.columns[c]} {row.mean(c)}" for c in others[:3])
    if interval is None:
        return said
    sure = interval[0] > 0 or interval[1] < 0
    word = "beyond" if sure else "within"
    return f"{said}; {word} what other pictures and classes would change, {row.interval(column)}"


def _last(table: Table, row: Row) -> tuple[str, str]:
    """The column that sums the others up, and its heading."""
    there = [key for key in table.columns if key in row.cells]
    column = there[0] if table.protocol == EVALUATION else there[-1]
    return column, table.columns[column]
