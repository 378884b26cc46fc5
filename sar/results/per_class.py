"""Accuracies of single classes by their names, and the surest mistakes, from stored predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sar.errors import DataError
from sar.predictions import Predictions, read_predictions
from sar.results.gallery import Mistake, surest
from sar.results.record import Record
from sar.results.tables.rows import in_order

MOST_CLASSES = 400
MOST_MISTAKES = 12


@dataclass
class PerClass:
    """The classes of one dataset and one test."""

    dataset: str
    group: str
    """`base`, `new`, or `accuracy` over all classes."""
    methods: list[str] = field(default_factory=list)
    rows: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)
    """Class, its pictures, and accuracy in percent by method, the mean over seeds; of the last
    method the lowest first."""
    mistakes: list[Mistake] = field(default_factory=list)
    """The surest of the last method's first seed, where the pictures are there."""

    @property
    def method(self) -> str:
        """Whose mistakes they are."""
        return self.methods[-1]


def per_class(records: Sequence[Record]) -> list[PerClass]:
    """An entry for every dataset and test whose predictions and class names are known."""
    found: dict[tuple[str, str], dict[str, list[Predictions]]] = defaultdict(dict)
    shots: dict[str, set[int]] = defaultdict(set)
    for record in records:
        shots[record.key.trainer].add(record.key.shots)
    for record, column, predictions in _predictions(records):
        key = record.key
        several = len(shots[key.trainer]) > 1
        name = f"{key.trainer}, {key.shots} shots" if several else key.trainer
        found[key.dataset, column].setdefault(name, []).append(predictions)
    return [_of(*place, methods) for place, methods in sorted(found.items())]


def _predictions(records: Sequence[Record]) -> Iterator[tuple[Record, str, Predictions]]:
    for record in records:
        # A variant of an ablation is no method of its own.
        for column, folder in () if record.key.variant else record.folders.items():
            try:
                predictions = read_predictions(folder)
            except DataError:  # said where intervals are computed
                continue
            if predictions and predictions.names and predictions.are_of(record.values[column]):
                yield record, column, predictions


def _of(dataset: str, group: str, methods: dict[str, list[Predictions]]) -> PerClass:
    names = next(iter(methods.values()))[0].names
    same = {m: [p for p in several if p.names == names] for m, several in methods.items()}
    order = [method for method in in_order(same) if same[method]]
    accuracies = {method: _accuracies(same[method]) for method in order}
    last = same[order[-1]][0]
    counts = np.bincount(last.label, minlength=len(names)).tolist()
    rows = [
        (name, counts[number], {method: found[number] for method, found in accuracies.items()})
        for number, name in enumerate(names)
        if counts[number]
    ]
    rows.sort(key=lambda row: (row[2].get(order[-1], 0.0), row[0]))
    mistakes = surest(last, MOST_MISTAKES)
    return PerClass(dataset, group, order, rows[:MOST_CLASSES], mistakes)


def _accuracies(several: Sequence[Predictions]) -> dict[int, float]:
    """Class number -> accuracy in percent, the mean over seeds."""
    size = len(several[0].names)
    shares = []
    for one in several:
        counts = np.bincount(one.label, minlength=size)
        right = np.bincount(one.label, weights=one.correct, minlength=size)
        shares.append(100.0 * right / np.maximum(counts, 1))
    return {number: float(np.mean(found)) for number, found in enumerate(zip(*shares, strict=True))}
