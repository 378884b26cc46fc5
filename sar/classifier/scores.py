"""How well a classifier labels pictures whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from sar.classes.identity import prompt_name
from sar.classifier.pictures import pictures_below
from sar.classifier.predictor import Classifier
from sar.data.own_pictures import TABLE, read_table
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
    """The class that most of the wrong ones were taken for; empty: none was wrong."""


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
        summary = tabulate(rows, ("", "accuracy (%)", "correct", "pictures"), floatfmt=".2f")
        return f"{summary}\n\n{tabulate(self.rows(), COLUMNS, floatfmt='.2f')}"

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


def known_pictures(place: Path) -> Known:
    """The pictures of class folders, or of a table `path,label`.

    Of folders train/ and test/, and of a table with a column split, the test is meant.

    Raises DataError if there are none.
    """
    if place.is_file() or (place / TABLE).is_file():
        table = place if place.is_file() else place / TABLE
        rows = [row for row in read_table(table) if row.get("split", "test") == "test"]
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


def labels_of(known: Known, classifier: Classifier) -> Tensor:
    """(N,) the pictures' classes by their numbers; names that are new are added as classes.

    Raises ConfigError where classes cannot be added.
    """
    wanted = dict.fromkeys(prompt_name(name) for _, name in known)
    there = {prompt_name(name) for name in classifier.classes}
    if added := [name for name in wanted if name not in there]:
        classifier.add_classes(added)
        print(f"Added by their names: {', '.join(added)}")
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
    present = {group for group, mask in groups.items() if mask[labels].any()}
    for group, mask in groups.items():
        if group in present and mask.any() and not mask.all():
            of_group = mask[labels]
            alone = logits.masked_fill(~mask, float("-inf")).argmax(dim=1)
            accuracy[group] = _accuracy(alone[of_group], labels[of_group])
            accuracy[f"{group}_joint"] = _accuracy(predicted[of_group], labels[of_group])
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
    return Scores(accuracy, classes, confusion, tuple(names))


def _accuracy(predicted: Tensor, labels: Tensor) -> Score:
    return Score(int((predicted == labels).sum()), len(labels))
