"""Calibration errors of tests, from stored predictions: beside accuracies, and as tables."""

from __future__ import annotations

from dataclasses import replace

from sar.ece import BINS, CalibrationErrors, calibration_errors
from sar.errors import DataError
from sar.predictions import read_predictions
from sar.results.presentations import make_tables
from sar.results.record import Record, Results
from sar.results.tables import Kind, Table

_KINDS = {
    "ece": ("calibration error", "Expected calibration error", "bins of equal width"),
    "adaptive": (
        "adaptive calibration error",
        "Adaptive calibration error",
        "bins of equally many images",
    ),
}
_SUFFIX = {"ece": "ece", "adaptive": "adaptive_ece"}


def with_errors(results: Results) -> Results:
    """The same results, each accuracy `x` followed by `x_ece` and `x_adaptive_ece`, if known."""

    def widened(record: Record) -> Record:
        errors = {
            f"{column}_{_SUFFIX[kind]}": error
            for column, found in _errors(record).items()
            for kind, error in found._asdict().items()
        }
        return replace(record, values=record.values | errors)

    return replace(results, records=[widened(record) for record in results.records])


def calibration_tables(results: Results) -> list[Table]:
    """Tables of both errors, laid out as those of accuracies; none without predictions."""
    errors = [(record, _errors(record)) for record in results.records]
    known = [(record, found) for record, found in errors if found]
    return [
        _own(table, kind)
        for kind in _KINDS
        for table in make_tables(
            replace(
                results,
                evaluations=[],
                records=[
                    replace(record, values={c: getattr(e, kind) for c, e in found.items()})
                    for record, found in known
                ],
            )
        )
    ]


def _errors(record: Record) -> dict[str, CalibrationErrors]:
    found = {}
    for column, folder in record.folders.items():
        try:
            predictions = read_predictions(folder)
        except DataError:  # said where intervals are computed
            continue
        if predictions and predictions.are_of(record.values[column]):
            found[column] = calibration_errors(predictions.confidence, predictions.correct)
    return found


def _own(table: Table, kind: str) -> Table:
    """Without what is published, which are accuracies, and without columns that are empty."""
    title, name, bins = _KINDS[kind]
    rows = [replace(r, deviating=frozenset()) for r in table.rows if r.kind is not Kind.PUBLISHED]
    known = {column for row in rows for column in row.cells}
    columns = {column: text for column, text in table.columns.items() if column in known}
    remark = (
        f"{name} in percent: {BINS} {bins}, of the predicted class; less is better. Means and "
        "differences as in the tables of accuracies."
    )
    return replace(
        table,
        title=f"{table.title}: {title}",
        rows=rows,
        columns=columns,
        remarks=[remark],
        errors=frozenset(columns),
    )
