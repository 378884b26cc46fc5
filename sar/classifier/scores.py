"""How well a classifier labels pictures whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from sar.classes.identity import prompt_name
from sar.classifier.confidence import errors, openworld_auc
from sar.classifier.pictures import pictures_below
from sar.classifier.predictor import Classifier
from sar.data.own_pictures import TABLE, check_rows, read_table
from sar.data.reading import class_folders
from sar.errors import DataError
from sar.results import Score
from sar.results.statistics import harmonic_mean

Known = list[tuple[Path, str]]
"""Pictures, and the names of their classes."""


@dataclass(frozen=True)
class ClassScore:
    """Of the pictures of one class, in the label space of all."""

    name: str
    group: str
    """`base` or `new`; `all` where nothing was trained."""
    correct: int
    total: int
    taken_for: str
    """The class that most of the wrong ones were taken for; empty if none was wrong."""


@dataclass(frozen=True)
class Detection:
    """How well pictures of no class are told from pictures of the classes; shares in percent."""

    auroc: float
    fpr95: float
    """The share of unknown pictures that pass when 95 % of these known ones do."""
    kept: float
    """The share of known pictures that pass the threshold, which was fitted on held-out ones."""
    rejected: float
    """The share of unknown pictures that do not."""
    known: int
    unknown: int

    def text(self) -> str:
        """A table."""
        rows = [
            ("AUROC", self.auroc),
            ("FPR95", self.fpr95),
            (f"told as known, of {self.known} pictures of the classes", self.kept),
            (f"told as unknown, of {self.unknown} pictures of other classes", self.rejected),
        ]
        return tabulate(rows, ("unknown", "(%)"), floatfmt=".2f")


@dataclass(frozen=True)
class Scores:
    """What `evaluate` measures."""

    accuracy: dict[str, Score]
    """`joint`: all pictures, among all classes. `base`, `new`: their pictures, among these classes
    alone, as in base-to-new; `base_joint`, `new_joint`: their pictures, among all classes."""
    classes: list[ClassScore]
    confusion: Tensor
    """(C, C) int64, over the classes of `names`: rows are true, columns predicted."""
    names: tuple[str, ...]
    openworld_auc: float | None = None
    """In percent; None without base or new pictures."""
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    """ECE and adaptive ECE in percent, as `accuracy`, where they were asked for; `..._before` a
    temperature was fitted."""
    detection: Detection | None = None
    """Where there are pictures of classes that are left out."""

    @property
    def harmonic_mean(self) -> float | None:
        """H of base and new accuracy, in percent; None without one of them."""
        if not {"base", "new"} <= self.accuracy.keys():
            return None
        return harmonic_mean(*(self.accuracy[group].accuracy for group in ("base", "new")))

    def text(self) -> str:
        """Two tables."""
        rows = [
            [_MEANING[kind], found.accuracy, found.correct, found.total]
            for kind, found in self.accuracy.items()
        ]
        if self.harmonic_mean is not None:
            rows.append(["H of base and new", self.harmonic_mean, None, None])
        if self.openworld_auc is not None:
            rows.append(["OpenworldAUC", self.openworld_auc, None, None])
        parts = [tabulate(rows, ("", "accuracy (%)", "correct", "pictures"), floatfmt=".2f")]
        if self.calibration:
            errors = [[_said(kind), *found] for kind, found in self.calibration.items()]
            parts.append(tabulate(errors, ("", "ECE (%)", "adaptive ECE (%)"), floatfmt=".2f"))
        if self.detection is not None:
            parts.append(self.detection.text())
        return "\n\n".join([*parts, tabulate(self.rows(), COLUMNS, floatfmt=".2f")])

    def rows(self) -> list[list[str | int | float]]:
        """A row for each class that has pictures, below `COLUMNS`."""
        return [
            [c.name, c.group, 100.0 * c.correct / c.total, c.correct, c.total, c.taken_for]
            for c in self.classes
        ]


COLUMNS = ("class", "group", "accuracy (%)", "correct", "pictures", "mostly taken for")
_MEANING = {
    "joint": "joint: all pictures, all classes",
    "base": "base pictures, base classes",
    "new": "new pictures, new classes",
    "base_joint": "base pictures, all classes",
    "new_joint": "new pictures, all classes",
}


def _said(kind: str) -> str:
    name = kind.removesuffix("_before")
    return _MEANING[name] + (", before" if name != kind else "")


def known_pictures(place: Path) -> Known:
    """The pictures of class folders, or of a table `path,label`.

    Of folders train/ and test/, and of a table with a column split, the test is meant.

    Raises DataError if there are none, or one is there twice.
    """
    if place.is_file() or (place / TABLE).is_file():
        table = place if place.is_file() else place / TABLE
        rows = read_table(table)
        check_rows(table, rows)
        rows = [row for row in rows if row.get("split", "test") == "test"]
        if not rows:
            raise DataError(f"{table} has no rows whose split is test")
        return [(table.parent / row["path"], row["label"]) for row in rows]
    if not place.is_dir():
        raise DataError(f"there is no folder or table {place}; check the path")
    if all((place / part).is_dir() for part in ("train", "test")):
        place = place / "test"
    if not (names := class_folders(place)):
        raise DataError(f"{place} has no class folders; expected {place}/<class name>/<picture>")
    return [(file, name) for name in names for file in pictures_below(place / name)]


def parted(known: Known, classifier: Classifier) -> tuple[Known, Known]:
    """The pictures of the classifier's classes, and those of others."""
    there = {prompt_name(name) for name in classifier.classes}
    ours = [(path, name) for path, name in known if prompt_name(name) in there]
    return ours, [(path, name) for path, name in known if prompt_name(name) not in there]


def labels_of(known: Known, classifier: Classifier) -> Tensor:
    """(N,) the pictures' classes by their numbers; names that are new are added as classes.

    Raises ConfigError where classes cannot be added.
    """
    wanted = dict.fromkeys(prompt_name(name) for _, name in known)
    there = {prompt_name(name) for name in classifier.classes}
    if added := [name for name in wanted if name not in there]:
        before = classifier.recipe.misfit
        classifier.add_classes(added)
        print(f"Added by their names: {', '.join(added)}")
        if (note := classifier.recipe.misfit) != before:
            print(note)
    numbers = {prompt_name(name): number for number, name in enumerate(classifier.classes)}
    return torch.tensor([numbers[prompt_name(name)] for _, name in known])


def score(logits: Tensor, labels: Tensor, names: Sequence[str], base: Sequence[str]) -> Scores:
    """Scores of logits (N, C), C the number of `names`, for labels (N,); N at least 1.

    `base`: those of the names that were trained on.
    """
    is_base = torch.tensor([name in base for name in names])
    predicted = logits.argmax(dim=1)
    accuracy = {"joint": _accuracy(predicted, labels)}
    groups = {"base": is_base, "new": ~is_base}
    right: dict[str, Tensor] = {}
    present = {group for group, mask in groups.items() if mask[labels].any()}
    for group, mask in groups.items():
        if group in present and mask.any() and not mask.all():
            of_group = mask[labels]
            alone = logits.masked_fill(~mask, float("-inf")).argmax(dim=1)
            right[group] = alone == labels
            accuracy[group] = _accuracy(alone[of_group], labels[of_group])
            accuracy[f"{group}_joint"] = _accuracy(predicted[of_group], labels[of_group])
    auc = None
    if {"base", "new"} <= accuracy.keys():
        newness = logits.float().softmax(dim=1)[:, ~is_base].sum(dim=1)
        kinds = [is_base[labels], ~is_base[labels]]
        base_right, new_right = (
            right[group][kind] for group, kind in zip(groups, kinds, strict=True)
        )
        auc = openworld_auc(base_right, new_right, *(newness[kind] for kind in kinds))
    size = len(names)
    confusion = torch.bincount(labels * size + predicted, minlength=size * size)
    confusion = confusion.reshape(size, size)
    classes = []
    for number, name in enumerate(names):
        row = confusion[number].clone()
        total, correct = int(row.sum()), int(row[number])
        if total:
            row[number] = 0
            worst = names[int(row.argmax())] if row.any() else ""
            group = ("base" if is_base[number] else "new") if is_base.any() else "all"
            classes.append(ClassScore(name, group, correct, total, worst))
    return Scores(accuracy, classes, confusion, tuple(names), auc)


def calibration(
    logits: Tensor, labels: Tensor, names: Sequence[str], base: Sequence[str], temperature: float
) -> dict[str, tuple[float, float]]:
    """ECE and adaptive ECE in percent of `joint`, `base` and `new`, as in `score`.

    At temperature 1, and with `_before` in the name where another one was fitted, at that.
    """
    is_base = torch.tensor([name in base for name in names])
    found: dict[str, tuple[float, float]] = {}
    for kind, mask in (("joint", torch.ones_like(is_base)), ("base", is_base), ("new", ~is_base)):
        of_kind = mask[labels]
        if (kind != "joint" and mask.all()) or not of_kind.any():
            continue
        scores = logits.float().masked_fill(~mask, float("-inf"))[of_kind]
        if temperature != 1:
            found[f"{kind}_before"] = errors(scores.softmax(dim=1), labels[of_kind])
        found[kind] = errors((scores / temperature).softmax(dim=1), labels[of_kind])
    return found


def _accuracy(predicted: Tensor, labels: Tensor) -> Score:
    return Score(int((predicted == labels).sum()), len(labels))
