"""Which novel class names are, or may be, true new classes of a dataset."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sar.classes.identity import identity, prompt_name, spellings
from sar.classes.names import class_names, known_datasets, split_base_new

NEAR = 0.85
"""Similarity (`difflib`, 0 to 1) from which two different spellings count as near."""
KINDS = ("exact", "normalized", "near")


@dataclass(frozen=True)
class Overlap:
    """A novel name that is, or may be, a true new class."""

    name: str
    new_class: str
    kind: str
    """exact; normalized: same `identity`; near: a common key in `spellings`, or `NEAR`."""
    similarity: float
    """Similarity of the two normalized spellings, 0 to 1."""


@dataclass(frozen=True)
class KnownClasses:
    """The classes of a dataset as far as they are known."""

    dataset: str
    """Its registered name."""
    base: list[str]
    """The classes that are trained on."""
    new: list[str] | None
    """The other classes; None where they are not known."""
    unknown: str = ""
    """Why `new` is not known, if so."""


def overlaps(names: Sequence[str], new: Sequence[str]) -> list[Overlap]:
    """For each name that is or may be one of the `new` classes, the closest of them."""
    exact = {prompt_name(name) for name in new}
    by_identity = {identity(name): prompt_name(name) for name in new}
    by_spelling = {key: name for name in new for key in spellings(name)}
    found = []
    for name in names:
        key = identity(name)
        if name in exact:
            found.append(Overlap(name, name, "exact", 1.0))
        elif key in by_identity:
            found.append(Overlap(name, by_identity[key], "normalized", 1.0))
        elif match := _near(name, key, by_identity, by_spelling):
            ratio = difflib.SequenceMatcher(None, key, identity(match)).ratio()
            found.append(Overlap(name, prompt_name(match), "near", round(ratio, 3)))
    return found


def _near(
    name: str, key: str, by_identity: Mapping[str, str], by_spelling: Mapping[str, str]
) -> str | None:
    for spelling in sorted(spellings(name)):
        if spelling in by_spelling:
            return by_spelling[spelling]
    closest = difflib.get_close_matches(key, by_identity, 1, NEAR)
    return by_identity[closest[0]] if closest else None


def known_classes(
    dataset: str, base: Sequence[str], all_names: Sequence[str] | None = None
) -> KnownClasses:
    """The classes of `dataset` that are trained on (`base`), and those that are not.

    `all_names`: all of them in label order, where the dataset says so itself; by default those
    packaged for `dataset`. A training on all classes has no new ones.
    """
    new, unknown = _new_classes(dataset, base, all_names)
    return KnownClasses(dataset, list(base), new, unknown)


def _new_classes(
    dataset: str, base: Sequence[str], all_names: Sequence[str] | None
) -> tuple[list[str] | None, str]:
    itself = all_names is not None  # a class list may have any number of base classes
    if all_names is None:
        if dataset not in known_datasets():
            return None, f"the names of all classes of {dataset} are not known here"
        all_names = class_names(dataset)
    ours, everything = ([prompt_name(name).lower() for name in list] for list in (base, all_names))
    if ours == everything:
        return [], ""
    if itself and ours == everything[: len(ours)]:
        return list(all_names[len(ours) :]), ""
    if ours != split_base_new(everything)[0]:
        return None, (
            f"the {len(base)} classes trained on are not the base half of the {len(all_names)} "
            f"class names known for {dataset}"
        )
    return split_base_new(all_names)[1], ""
