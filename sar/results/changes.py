"""What a method mends and breaks of zero-shot CLIP's answers, from stored predictions, as tables.

Two methods of the same accuracy may have little in common: one gives zero-shot CLIP's answers
again, the other has errors of its own. The second is worth averaging, and the first is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from sar.predictions import Predictions
from sar.results.folders import is_untrained
from sar.results.record import Record, Results
from sar.results.restated import predictions_of, restated
from sar.results.tables import Table

_OF_ZERO_SHOT = "Accuracy is that of zero-shot CLIP plus what is mended, less what is broken."
_KINDS = {
    "mended": (
        "mended",
        f"Percent of the test images, wrong by zero-shot CLIP and right here. {_OF_ZERO_SHOT}",
    ),
    "broken": (
        "broken",
        f"Percent of the test images, right by zero-shot CLIP and wrong here. {_OF_ZERO_SHOT}",
    ),
    "agreed": (
        "agreement of seeds",
        "Percent of the test images to which two seeds give the same answer, right or wrong.",
    ),
}


def change_tables(results: Results) -> list[Table]:
    """One kind of table after the other, each laid out as those of accuracies.

    None where no predictions are stored; of what is mended and broken none where there is no test
    of zero-shot CLIP on the same images.
    """
    tested = [(record, predictions_of(record)) for record in results.records]
    zero_shot: dict[str, dict[str, Predictions]] = defaultdict(dict)
    for record, found in tested:
        if is_untrained(record.key.trainer):
            for answers in found.values():
                zero_shot[answers.images][record.key.cfg] = answers
    trained = [(record, found) for record, found in tested if not is_untrained(record.key.trainer)]
    by_seed: dict[tuple[Any, ...], dict[int, Mapping[str, Predictions]]] = defaultdict(dict)
    for record, found in trained:
        by_seed[_but_seed(record)][record.key.seed] = found

    def shares(kind: str) -> Iterator[tuple[Record, dict[str, float]]]:
        for record, found in trained:
            seeds = by_seed[_but_seed(record)]
            others = [theirs for seed, theirs in seeds.items() if seed != record.key.seed]
            share = {
                column: _agreed(column, ours, others)
                if kind == "agreed"
                else _changed(kind, ours, _one_of(zero_shot[ours.images], record.key.cfg))
                for column, ours in found.items()
            }
            yield record, {column: value for column, value in share.items() if value is not None}

    return [
        table
        for kind, (title, remark) in _KINDS.items()
        for table in restated(results, shares(kind), title, remark, kind == "broken")
    ]


def _one_of(zero_shot: Mapping[str, Predictions], cfg: str) -> Predictions | None:
    """By configuration: with the same one, or the only answers there are."""
    if len(zero_shot) == 1:
        (only,) = zero_shot.values()
        return only
    return zero_shot.get(cfg)


def _changed(kind: str, ours: Predictions, before: Predictions | None) -> float | None:
    if before is None:
        return None
    now, then = ours.correct, before.correct
    return 100.0 * float(((now & ~then) if kind == "mended" else (~now & then)).mean())


def _but_seed(record: Record) -> tuple[Any, ...]:
    return replace(record.key, seed=0), record.protocol, record.source


def _agreed(
    column: str, ours: Predictions, others: Sequence[Mapping[str, Predictions]]
) -> float | None:
    """With each of the other seeds, on average."""
    shares = [
        100.0 * float((theirs.predicted == ours.predicted).mean())
        for found in others
        if (theirs := found.get(column)) and theirs.images == ours.images
    ]
    return fmean(shares) if shares else None
