"""Cross-dataset and domain generalization: the source, every target and the targets' average."""

from __future__ import annotations

from collections.abc import Sequence

from sar.results import published
from sar.results.protocol import CROSS_DATASET, DOMAIN_GENERALIZATION
from sar.results.record import Record
from sar.results.tables.rows import (
    Scores,
    average,
    group_rows,
    name_methods,
    new_scores,
    remarks,
    with_published,
)
from sar.results.tables.table import Kind, Row, Table

_TITLES = {CROSS_DATASET: "Cross-dataset", DOMAIN_GENERALIZATION: "Domain generalization"}
_MEAN = "accuracy"


def transfer_table(
    records: Sequence[Record], against: Sequence[str] = (), *, protocol: str
) -> Table:
    """One group per source. The average leaves the source out and needs every target.

    Args:
        against: methods that all others' differences to are given, too.
    """
    named = name_methods(records)
    scores = new_scores()
    sources = {record.source for record in records}
    targets = sorted({r.key.dataset for r in records if r.key.dataset != r.source})
    for record in records:
        key = record.key
        label = named[key.trainer, key.cfg, key.shots].label
        scores[record.source][label][key.seed][key.dataset] = record.values[_MEAN]
    methods = {method.label: method for method in named.values()}
    notes = _add_averages(scores, targets)
    rows: list[Row] = []
    for source in sorted(scores):
        for row in group_rows(source, scores[source], against):
            method = methods.get(row.label) if row.kind is Kind.MEASURED else None
            known = (
                published.transfer(protocol, method.trainer, source, targets)
                if method and method.comparable
                else None
            )
            rows += with_published(row, known)
    columns = {
        **{source: f"{source} (source)" for source in sorted(sources) if source not in targets},
        **{target: target for target in targets},
        published.AVERAGE: f"Average of {len(targets)}",
    }
    present = {column for row in rows for column in row.cells}
    return Table(
        protocol,
        _TITLES[protocol],
        ("Source", "Trainer"),
        {column: title for column, title in columns.items() if column in present},
        rows,
        [
            "The average is over the targets, without the source.",
            *remarks(rows, protocol),
            *notes,
        ],
    )


def _add_averages(scores: Scores, targets: Sequence[str]) -> list[str]:
    """Give every seed with all targets its average; names the targets the others lack."""
    notes = []
    for source, group in sorted(scores.items()):
        needed = [target for target in targets if target != source]
        for label, seeds in sorted(group.items()):
            for seed, values in sorted(seeds.items()):
                missing = [target for target in needed if target not in values]
                if missing:
                    notes.append(
                        f"{label} of {source}, seed {seed}, is not in the average: no result on "
                        f"{', '.join(missing)}."
                    )
                elif needed:
                    wanted = [{published.AVERAGE: values[target]} for target in needed]
                    values |= average(wanted)
    return notes
