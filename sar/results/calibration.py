"""Calibration errors of tests, from stored predictions: beside accuracies, and as tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from sar.predictions.ece import BINS, CalibrationErrors, calibration_errors, gaps_by_bin
from sar.results.record import Record, Results
from sar.results.resampled import Resampled
from sar.results.restated import predictions_of, restated
from sar.results.tables import Table
from sar.results.tables.evaluated import calibration_of_evaluations

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
    """Tables of both errors, laid out as those of accuracies; none where neither predictions nor
    evaluations are known."""
    return [
        table
        for kind, (_, _, bins) in _KINDS.items()
        for table in calibration_of_evaluations(
            results.evaluations, _SUFFIX[kind], f"{BINS} {bins}, of the predicted class"
        )
    ] + _of_predictions(results)


def _of_predictions(results: Results) -> list[Table]:
    errors = _resampled(results)
    return [
        table
        for kind, (title, name, bins) in _KINDS.items()
        for table in restated(
            results,
            [(record, {c: getattr(e, kind) for c, e in found.items()}) for record, found in errors],
            title,
            f"{name} in percent: {BINS} {bins}, of the predicted class; less is better."
            + " Intervals: resamples moved by their mean excess." * (kind == "ece"),
        )
    ]


def _resampled(results: Results) -> list[tuple[Record, dict[str, CalibrationErrors]]]:
    """The errors of all records, the ECE on the resamples that the accuracies have."""
    found: list[tuple[Record, dict[str, CalibrationErrors]]] = []
    alike = defaultdict(list)
    for record in results.records:
        errors = _errors(record)
        found.append((record, errors))
        for column, predictions in predictions_of(record).items():
            if isinstance(record.values[column], Resampled):
                alike[predictions.images].append((errors, column, predictions))
    for images, tested in alike.items():
        import numpy as np

        from sar.results.bootstrap import calibration

        draws = calibration(
            tested[0][2].label,
            np.stack([gaps_by_bin(p.confidence, p.correct) for *_, p in tested], axis=1),
            np.array([errors[column].ece for errors, column, _ in tested]),
            seed=int(images, 16),
        )
        for (errors, column, _), drawn in zip(tested, draws.T, strict=True):
            error = errors[column]
            errors[column] = error._replace(ece=Resampled(error.ece, drawn.copy()))
    return found


def _errors(record: Record) -> dict[str, CalibrationErrors]:
    return {
        column: calibration_errors(found.confidence, found.correct)
        for column, found in predictions_of(record).items()
    }
