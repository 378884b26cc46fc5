"""Tables of another number than accuracy, computed from stored predictions, in the same layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sar.errors import DataError
from sar.predictions import Predictions, read_predictions
from sar.results.presentations import make_tables
from sar.results.record import Record, Results
from sar.results.tables import Kind, Table


def predictions_of(record: Record) -> dict[str, Predictions]:
    """Column -> what was predicted in its test; without tests that have left nothing readable."""
    found = {}
    for column, folder in record.folders.items():
        try:
            predictions = read_predictions(folder)
        except DataError:  # said where intervals are computed
            continue
        if predictions and predictions.are_of(record.values[column]):
            found[column] = predictions
    return found


def restated(
    results: Results,
    values: Iterable[tuple[Record, Mapping[str, float]]],
    title: str,
    remark: str,
    less_is_better: bool = True,
) -> list[Table]:
    """The tables of `results`, with other `values` of its records in place of accuracies.

    What is published, which are accuracies, and columns without a value are left out.
    """
    records = [replace(record, values=dict(numbers)) for record, numbers in values if numbers]
    tables = []
    for table in make_tables(replace(results, evaluations=[], records=records)):
        rows = [
            replace(row, deviating=frozenset())
            for row in table.rows
            if row.kind is not Kind.PUBLISHED
        ]
        known = {column for row in rows for column in row.cells}
        columns = {column: text for column, text in table.columns.items() if column in known}
        tables.append(
            replace(
                table,
                title=f"{table.title}: {title}",
                rows=rows,
                columns=columns,
                remarks=[f"{remark} Means and differences as in the tables of accuracies."],
                errors=frozenset(columns) if less_is_better else frozenset(),
            )
        )
    return tables
