"""Base-to-new: base, new and H of every dataset, and of their average."""

from __future__ import annotations

from collections.abc import Sequence

from sar.results import published
from sar.results.folders import averaged_over
from sar.results.protocol import BASE2NEW
from sar.results.record import Record
from sar.results.tables.rows import (
    H_REMARK,
    Method,
    Scores,
    average_rows,
    group_rows,
    in_order,
    name_methods,
    new_scores,
    published_row,
    remarks,
    with_published,
)
from sar.results.tables.table import Kind, Row, Table

COLUMNS = {"base": "Base", "new": "New", "h": "H"}


def base_to_new_table(records: Sequence[Record], against: Sequence[str] = ()) -> Table:
    """One group of rows per dataset, then the average over those that have every trainer.

    Args:
        against: methods that all others' differences to are given, too.
    """
    named = name_methods(records)
    scores = new_scores()
    for record in records:
        key = record.key
        label = named[key.trainer, key.cfg, key.shots].label
        scores[key.dataset][label][key.seed] = record.values
    methods = {method.label: method for method in named.values()}
    rows = [
        row for dataset in sorted(scores) for row in _of_dataset(dataset, scores, methods, against)
    ]
    labels = in_order(methods)
    whole = [d for d in sorted(scores) if all(label in scores[d] for label in labels)]
    common = averaged_over(whole)
    if len(common) > 1:
        rows += _of_average(common, scores, labels, methods, against)
    tested = {column for record in records for column in record.values}
    first = H_REMARK if "h" in tested else f"Only the {', '.join(tested)} classes were tested."
    notes = [first, *remarks(rows, BASE2NEW), *average_remarks(scores, labels, whole)]
    shots = {record.key.shots for record in records}
    title = "Base-to-new" + (f", {shots.pop()} shots" if len(shots) == 1 else "")
    return Table(BASE2NEW, title, ("Dataset", "Trainer"), COLUMNS, rows, notes)


def average_remarks(scores: Scores, labels: Sequence[str], whole: Sequence[str]) -> list[str]:
    """Names what keeps datasets out of the average; `whole` are those that have every method."""
    found = []
    if len(whole) < len(scores):
        missing = [f"{m} on {d}" for d in sorted(scores) for m in labels if m not in scores[d]]
        found.append(
            f"The average needs a dataset to have every trainer; that holds for {len(whole)} of "
            f"{len(scores)}. Missing: {', '.join(missing)}."
        )
    if demo := sorted({*whole} - {*averaged_over(whole)}):
        found.append(f"Not in an average with others, as they are drawings: {', '.join(demo)}.")
    return found


def _of_dataset(
    dataset: str, scores: Scores, methods: dict[str, Method], against: Sequence[str]
) -> list[Row]:
    rows = []
    for row in group_rows(dataset, scores[dataset], against):
        method = methods.get(row.label) if row.kind is Kind.MEASURED else None
        known = method and method.comparable and published.base_to_new(method.trainer, dataset)
        rows += with_published(row, known or None)
    return rows


def _of_average(
    datasets: Sequence[str],
    scores: Scores,
    labels: Sequence[str],
    methods: dict[str, Method],
    against: Sequence[str],
) -> list[Row]:
    rows = []
    title = f"Average of {len(datasets)}"
    for row in average_rows(title, [scores[d] for d in datasets], labels, against):
        method = methods.get(row.label) if row.kind is Kind.MEASURED else None
        if not method or not method.comparable:
            rows.append(row)
            continue
        rows += with_published(row, published.base_to_new_average(method.trainer, datasets))
        rows += [
            published_row(row, values, f"{name} on {row.label}")
            for name, values in published.plugins(method.trainer, datasets).items()
        ]
    return rows
