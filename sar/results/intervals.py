"""Gives accuracies their resamples: over classes and images, from what the tests predicted."""

from __future__ import annotations

from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from sar.errors import DataError
from sar.predictions import PREDICTIONS_FILE, Predictions, read_predictions
from sar.results.record import Record, Results
from sar.results.resampled import Resampled
from sar.results.statistics import harmonic_mean

_Tested = list[tuple[Record, str, Predictions]]
"""Records, their columns, and what was predicted there."""


def add_resamples(results: Results) -> None:
    """Replace accuracies by `Resampled` ones, where the test left its predictions.

    Accuracies on the same images are known on the same resamples, so that differences between them
    are paired. Where the runs of one dataset were tested on different images, none are.
    """
    if find_spec("numpy") is None:
        return  # tables from the source tree alone
    tests: dict[tuple[str, str, str, str], _Tested] = defaultdict(list)
    for record in results.records:
        for column, folder in record.folders.items():
            if found := _predictions(folder, record.values[column], results):
                place = (record.protocol, record.source, record.key.dataset, column)
                tests[place].append((record, column, found))
    alike: dict[str, _Tested] = defaultdict(list)
    for (_, _, dataset, column), tested in tests.items():
        if len({found.images for _, _, found in tested}) > 1:
            folders = " and ".join(str(folder) for folder in _examples(tested))
            results.notes.append(
                f"{dataset}, {column}: no intervals, as its runs were tested on different images "
                f"(see {folders})"
            )
        else:
            alike[tested[0][2].images] += tested
    for tested in alike.values():
        _resample(tested)
    for record in results.records:
        values = record.values
        if "h" in values:
            values["h"] = harmonic_mean(values["base"], values["new"])


def _predictions(folder: Path, accuracy: float, results: Results) -> Predictions | None:
    """Those in the folder, if they are of the result that counts."""
    try:
        found = read_predictions(folder)
    except DataError as error:
        results.notes.append(str(error))
        return None
    if found and not found.are_of(accuracy):
        results.notes.append(
            f"{folder / PREDICTIONS_FILE} is of another test: {found.accuracy:.2f} %, the log says "
            f"{accuracy:.2f} %"
        )
        return None
    return found


def _examples(tested: _Tested) -> list[Path]:
    """A folder for each set of images."""
    folders = {found.images: record.folders[column] for record, column, found in tested}
    return list(folders.values())


def _resample(tested: _Tested) -> None:
    """Of tests on the same images. These decide the resamples, whatever else is compared."""
    import numpy as np

    from sar.results.bootstrap import accuracies

    _, _, first = tested[0]
    correct = np.stack([found.correct for _, _, found in tested], axis=1)
    draws = accuracies(first.label, correct, seed=int(first.images, 16))
    for (record, column, _), drawn in zip(tested, draws.T, strict=True):
        record.values[column] = Resampled(record.values[column], drawn.copy())
