"""classes.yaml: the base and new classes of one's own pictures, and novel names for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sar.classes.identity import prompt_name, shown
from sar.errors import DataError
from sar.storage.texts import read_yaml

FILE = "classes.yaml"
SUFFIXES = (".yaml", ".yml")
GROUPS = ("base", "new", "novel")
_FORMAT = (
    "expected lists of class names under base and new, and, for TRAINER.SAR.NOVEL, under novel"
)


@dataclass(frozen=True)
class ClassList:
    """A class list. Labels follow `base`, then `new`; `novel` names have no pictures."""

    base: list[str]
    new: list[str]
    novel: list[str]

    @property
    def names(self) -> list[str]:
        return [*self.base, *self.new]


def is_class_list(file: Path) -> bool:
    """Whether a file with names is a class list, by its suffix."""
    return file.suffix.lower() in SUFFIXES


def list_file(root: Path, given: str = "") -> Path | None:
    """The class list of the pictures at `root` (a folder or a table), if there is one.

    Args:
        given: DATASET.CLASSES, a file that need not lie beside the pictures.

    Raises DataError for one that would be overlooked because of the end of its name.
    """
    if given:
        return Path(given)
    beside = (root if root.is_dir() else root.parent) / FILE
    if beside.is_file():
        return beside
    if os.path.lexists(beside):
        raise DataError(
            f"{beside} is no file (a folder, a pipe or a link to nothing); put the class list "
            "there, or remove it"
        )
    if (other := beside.with_suffix(".yml")).is_file():
        raise DataError(
            f"{other} is not read: a class list beside the pictures is called {FILE}. Rename it, "
            "name it as DATASET.CLASSES, or remove it"
        )
    return None


def read_class_list(file: Path) -> ClassList:
    """The class list in a file.

    CLIP does not tell capital letters from small ones, so neither does the list. Raises DataError
    if the file is missing, is something else, or names a class twice.
    """
    content = read_yaml(file, _FORMAT)
    if not isinstance(content, dict) or not content.get("base") or set(content) - set(GROUPS):
        raise DataError(f"{file} is not a class list; {_FORMAT}, and nothing else")
    groups: dict[str, list[str]] = {group: content.get(group) or [] for group in GROUPS}
    for group, names in groups.items():
        # YAML reads yes, no, on, off, 3 and 1.5 as other things than text.
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{file}: {group} is not a list of names; put odd ones in quotes")
    groups = {group: [prompt_name(name) for name in names] for group, names in groups.items()}
    seen: dict[str, str] = {}
    for group, names in groups.items():
        for name in names:
            if not name:
                raise DataError(f"{file}: a name in {group} is empty; fill it in, or remove it")
            before = seen.get(name.lower())
            # A name that stood in for an unseen class may become one.
            if before and (before, group) != ("new", "novel"):
                raise DataError(
                    f"{file}: {shown(name)} is in {before} and in {group}; a class belongs to one "
                    "of base, new and novel, once, or to both new and novel (letter case does not "
                    "count)"
                )
            seen[name.lower()] = group
    return ClassList(**groups)


def check_pictures(
    classes: ClassList, train: Iterable[str], test: Iterable[str], where: Path, file: Path
) -> list[str]:
    """DataError unless base classes have training pictures and new classes test pictures.

    Args:
        train, test: the classes that have pictures there.
        where: what holds the pictures. `file`: the class list.

    Returns:
        Classes that have pictures but are not in the list.
    """
    train, test = set(train), set(test)
    missing = [f"{shown(name)} (base) for training" for name in classes.base if name not in train]
    missing += [f"{shown(name)} (new) for the test" for name in classes.new if name not in test]
    unlisted = sorted((train | test) - {*classes.names})
    if missing:
        hint = f" Not in the list: {', '.join(map(shown, unlisted[:10]))}." if unlisted else ""
        raise DataError(
            f"{where} has no pictures of {', '.join(missing[:10])}.{hint} Has the class list "
            f"changed? Correct the spelling in {file}, take the class out of it, or add pictures. "
            "A class moved between base and new needs new training: its label changes"
        )
    return unlisted
