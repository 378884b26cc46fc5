"""What the demo datasets show: concepts with their descriptions, kin and drawings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from sar.classes.descriptions import find, shipped_descriptions
from sar.classes.identity import identity
from sar.classes.names import split_base_new
from sar.storage.files import user_folder
from sar.toolbox.data.datasets import demo

CAPTIONS = 5  # of a concept
CHOICES = ("", "base", "new", *(name.removeprefix("Demo").lower() for name in demo.DATASETS))
"""Concepts that may be asked for: all, those of a half, those of a dataset."""


@dataclass(frozen=True)
class Concept:
    """A class of the demo datasets; one of several datasets is described by the first of them."""

    number: int
    """From 1 up, the same whatever part of the drawings is looked at."""
    name: str
    label: int
    """In its first dataset."""
    datasets: tuple[str, ...]
    kin: tuple[str, ...]
    """Other names of its group of look-alikes, in its first dataset."""
    captions: tuple[str, ...]
    """The shipped descriptions, `CAPTIONS` at most."""
    base: bool
    """Whether it is in the base half of its first dataset."""

    def among(self, which: str) -> bool:
        """Whether it is one of those that a word of `CHOICES` names."""
        if which in ("base", "new"):
            return self.base == (which == "base")
        return not which or f"Demo{which.title()}" in self.datasets

    def drawings(self, part: str, root: Path | None = None) -> list[Path]:
        """The files of one part, "pool", "test" or a style; `root`: where they are rendered."""
        folder = demo.demo_folder(self.datasets[0], root or user_folder() / "data") / "images"
        rendered = demo.render(self.datasets[0], part, folder)
        return sorted((rendered / f"{self.label:03d}").glob("*.png"))


def concepts() -> list[Concept]:
    """All of them, those of the first dataset first; no drawing is rendered."""
    found: dict[str, Concept] = {}
    for dataset in demo.DATASETS:
        names = demo.class_names(dataset)
        described = find(names, shipped_descriptions(dataset) or {})
        base = set(split_base_new(names)[0])
        kin = {name: group for group in demo.kin_groups(dataset) for name in group}
        for label, name in enumerate(names):
            key = identity(name)
            if key in found:
                datasets = (*found[key].datasets, dataset)
                found[key] = dataclasses.replace(found[key], datasets=datasets)
                continue
            found[key] = Concept(
                number=len(found) + 1,
                name=name,
                label=label,
                datasets=(dataset,),
                kin=tuple(other for other in kin.get(name, ()) if other != name),
                captions=tuple(described[label][:CAPTIONS]),
                base=name in base,
            )
    return list(found.values())
