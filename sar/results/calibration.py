"""Expected calibration error: how far confidence is from accuracy, from stored predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sar.errors import DataError
from sar.extras import extra
from sar.predictions import Predictions, read_predictions
from sar.results.presentations import make_tables
from sar.results.record import Record, Results
from sar.results.tables import Kind, Table

if TYPE_CHECKING:
    from torch import Tensor

BINS = 15
_REMARKS = [
    f"Expected calibration error in percent: {BINS} bins of equal width, of the predicted class; "
    "less is better. Means and differences as in the tables of accuracies."
]


def ece(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error in percent: |confidence - accuracy|, averaged over BINS bins.

    Bins are of equal width, and weighted by their pictures.

    Args:
        confidence: (N,) probability of the predicted class. right: (N,) whether it is the true one.

    Raises:
        MissingPackageError: torchmetrics is not installed.
    """
    with extra("calibration"):
        from torchmetrics.functional.classification import binary_calibration_error
    # Of the predicted class alone: whether it is right is a binary question.
    error = binary_calibration_error(confidence, right.long(), n_bins=BINS)
    return 100.0 * float(error)


def with_errors(results: Results) -> Results:
    """The same results, each accuracy `x` followed by its error `x_ece`, where it is known."""

    def widened(record: Record) -> Record:
        errors = {f"{column}_ece": error for column, error in _errors(record).items()}
        return replace(record, values=record.values | errors)

    return replace(results, records=[widened(record) for record in results.records])


def calibration_tables(results: Results) -> list[Table]:
    """Tables of errors, laid out as those of accuracies.

    Raises:
        DataError: no test has left its predictions. MissingPackageError: no torchmetrics.
    """
    with extra("calibration"):  # said before anything about the results
        import torchmetrics  # noqa: F401
    errors = [replace(record, values=_errors(record)) for record in results.records]
    if not (known := [record for record in errors if record.values]):
        raise DataError("no test has left its predictions (see docs/results.md); test again")
    return [_own(table) for table in make_tables(replace(results, records=known))]


def _errors(record: Record) -> dict[str, float]:
    found = {c: read_predictions(folder) for c, folder in record.folders.items()}
    right = {
        column: predictions
        for column, predictions in found.items()
        if predictions and predictions.are_of(record.values[column])
    }
    return {column: _error(predictions) for column, predictions in right.items()}


def _error(predictions: Predictions) -> float:
    import torch

    return ece(torch.from_numpy(predictions.confidence), torch.from_numpy(predictions.correct))


def _own(table: Table) -> Table:
    """Without what is published, which are accuracies, and without columns that are empty."""
    rows = [replace(r, deviating=frozenset()) for r in table.rows if r.kind is not Kind.PUBLISHED]
    known = {column for row in rows for column in row.cells}
    columns = {column: title for column, title in table.columns.items() if column in known}
    title = f"{table.title}: calibration error"
    return replace(table, title=title, rows=rows, columns=columns, remarks=_REMARKS)
