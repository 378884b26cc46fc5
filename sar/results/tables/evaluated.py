"""What models make of pictures whose classes are known: all classes in one label space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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


_KINDS = {
    f"{kind}{state}": heading + " at T = 1" * bool(state)
    for kind, heading in (("joint", "Joint"), ("base", "Base"), ("new", "New"))
    for state in ("_before", "")
}
_OF_KINDS = (
    "Joint: all pictures, among all classes; Base, New: theirs, among their classes alone. T is "
    "the temperature that was fitted on held-out pictures, if one was. Less is better."
)


def calibration_of_evaluations(found: Sequence[Evaluation], error: str, bins: str) -> list[Table]:
    """Tables of one calibration error, by the kinds of pictures; none where none was measured.

    Args:
        error: `ece` or `adaptive_ece`. bins: what its bins are, in words.
    """
    measured = [
        replace(one, values={kind: errors[error] for kind, errors in one.calibration.items()})
        for one in found
        if one.calibration
    ]
    name = "calibration error" if error == "ece" else "adaptive calibration error"
    return [
        replace(
            _table(f"{title}: {name}", some, _KINDS),
            remarks=[f"{name.capitalize()} in percent: {bins}. {_OF_KINDS}"],
            errors=frozenset(_KINDS),
        )
        for title, some in _parts(measured)
    ]


def evaluation_tables(found: Sequence[Evaluation]) -> list[Table]:
    """Evaluations in which all classes are known, and those with unknown pictures."""
    return [_table(title, some, _COLUMNS) for title, some in _parts(found)]


def _parts(found: Sequence[Evaluation]) -> list[tuple[str, list[Evaluation]]]:
    parts = {
        "Evaluation": [e for e in found if not e.has_unknown],
        "Evaluation with unknown pictures": [e for e in found if e.has_unknown],
    }
    return [(title, some) for title, some in parts.items() if some]


def _table(title: str, found: Sequence[Evaluation], headings: Mapping[str, str]) -> Table:
    """One group of rows for each place of pictures and number of classes."""
    labels, scores = _labels(found), new_scores()
    places = _places({one.pictures for one in found})
    for one in found:
        group = f"{places[one.pictures]}, {one.classes} class" + "es" * (one.classes > 1)
        scores[group][labels[one.folder]][one.seed] = one.values
    rows: list[Row] = [row for group in sorted(scores) for row in group_rows(group, scores[group])]
    there = {column for row in rows for column in row.cells}
    columns = {key: heading for key, heading in headings.items() if key in there}
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


def _places(pictures: Collection[str]) -> dict[str, str]:
    """Place of pictures -> its name, with as many folders before it as tell it from the others."""
    parts = {place: Path(place.removesuffix("/images.csv")).parts for place in pictures}

    def name(place: str) -> str:
        for length in range(1, len(parts[place])):
            tail = parts[place][-length:]
            if sum(other[-length:] == tail for other in parts.values()) == 1:
                return "/".join(tail)
        return place

    return {place: name(place) for place in pictures}


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
