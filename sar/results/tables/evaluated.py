"""What models make of pictures whose classes are known: all classes in one label space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sar.results.evaluations import Evaluation
from sar.results.tables.rows import H_REMARK, group_rows, new_scores, remarks
from sar.results.tables.table import Row, Table

EVALUATION = "evaluation"
HEADLINE = frozenset({"joint", "new", "h", "auroc", "rejected"})
"""The columns that a summary shows."""
_COLUMNS = {
    "joint": "Joint",
    "base": "Base",
    "new": "New",
    "h": "H",
    "auc": "OpenworldAUC",
    "ece_before": "ECE at T = 1",
    "ece": "ECE",
    "auroc": "AUROC",
    "fpr95": "FPR95",
    "kept": "Known kept",
    "rejected": "Unknown told",
}
_MEANING = {
    "joint": "Joint: of all pictures, those whose class was named among all classes; a class that "
    "a model does not have is never named.",
    "base": "Base, New: of their pictures, among their classes alone.",
    "h": H_REMARK,
    "auc": "OpenworldAUC: pairs of a base and a new picture, both labelled rightly, the new one "
    "with more probability in new classes.",
    "ece": "ECE: expected calibration error of all pictures of the model's classes.",
    "ece_before": "ECE is at the temperature T that was fitted on held-out pictures.",
    "auroc": "AUROC, FPR95: pictures of other classes against those of the model's; Known kept, "
    "Unknown told: what the threshold of --unknown makes of both.",
}


def evaluation_tables(found: Sequence[Evaluation]) -> list[Table]:
    """Evaluations in which all classes are known, and those with unknown pictures."""
    parts = {
        "Evaluation": [e for e in found if not e.has_unknown],
        "Evaluation with unknown pictures": [e for e in found if e.has_unknown],
    }
    return [_table(title, some) for title, some in parts.items() if some]


def _table(title: str, found: Sequence[Evaluation]) -> Table:
    """One group of rows for each place of pictures and number of classes."""
    labels, scores = _labels(found), new_scores()
    for one in found:
        group = f"{Path(one.pictures).name}, {one.classes} class" + "es" * (one.classes > 1)
        scores[group][labels[one.folder]][one.seed] = one.values
    rows: list[Row] = [row for group in sorted(scores) for row in group_rows(group, scores[group])]
    there = {column for row in rows for column in row.cells}
    columns = {key: heading for key, heading in _COLUMNS.items() if key in there}
    notes = [text for key, text in _MEANING.items() if key in there]
    notes += remarks(rows, EVALUATION)
    return Table(
        EVALUATION,
        title,
        ("Pictures", "Method"),
        columns,
        rows,
        notes,
        frozenset({"ece", "ece_before", "fpr95"}),
    )


def _labels(found: Sequence[Evaluation]) -> dict[Path, str]:
    """Folder -> method, with what tells it from others; its folder where nothing does."""
    trained = [one for one in found if one.shots]
    datasets, shots = {one.trained_on for one in trained}, {one.shots for one in trained}
    clips = {one.clip for one in found}

    def label(one: Evaluation) -> str:
        parts = [one.method]
        if one.shots:
            parts += [f"on {one.trained_on}"] * (len(datasets) > 1)
            parts += [f"{one.shots} shots" if one.shots > 0 else "all shots"] * (len(shots) > 1)
        return ", ".join([*parts, *[one.clip] * (len(clips) > 1)])

    names = {one.folder: label(one) for one in found}
    same = Counter((one.pictures, one.classes, names[one.folder], one.seed) for one in found)
    return {
        one.folder: name + f" ({one.folder.name})" * (same[key] > 1)
        for one in found
        for name in [names[one.folder]]
        for key in [(one.pictures, one.classes, name, one.seed)]
    }
