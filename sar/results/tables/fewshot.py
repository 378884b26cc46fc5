"""Few-shot: accuracy over all classes by the number of shots."""

from __future__ import annotations

from collections.abc import Sequence

from sar.results.folders import averaged_over, is_untrained
from sar.results.protocol import FEW_SHOT
from sar.results.record import Record
from sar.results.tables.base2new import average_remarks
from sar.results.tables.rows import (
    average_rows,
    group_rows,
    in_order,
    name_methods,
    new_scores,
    remarks,
)
from sar.results.tables.table import Table


def few_shot_table(records: Sequence[Record], against: Sequence[str] = ()) -> Table:
    """One group of rows per dataset, then their average; what is not trained has 0 shots.

    Args:
        against: methods that all others' differences to are given, too.
    """
    named = name_methods(records, by_shots=False)
    scores = new_scores()
    for record in records:
        key = record.key
        label = named[key.trainer, key.cfg, key.shots].label
        shots = 0 if is_untrained(key.trainer) else key.shots
        scores[key.dataset][label][key.seed][str(shots)] = record.values["accuracy"]
    rows = [row for d in sorted(scores) for row in group_rows(d, scores[d], against)]
    labels = in_order(method.label for method in named.values())
    whole = [d for d in sorted(scores) if all(label in scores[d] for label in labels)]
    common = averaged_over(whole)
    if len(common) > 1:
        title = f"Average of {len(common)}"
        rows += average_rows(title, [scores[d] for d in common], labels, against)
    numbers = sorted({int(column) for row in rows for column in row.cells})
    columns = {str(n): f"{n} shot" + "s" * (n != 1) for n in numbers}
    notes = [
        "Accuracy over all classes.",
        *remarks(rows, FEW_SHOT),
        *average_remarks(scores, labels, whole),
    ]
    if len(common) > 1:
        notes.append("An average is given for numbers of shots that all its datasets have.")
    return Table(FEW_SHOT, "Few-shot", ("Dataset", "Trainer"), columns, rows, notes)
