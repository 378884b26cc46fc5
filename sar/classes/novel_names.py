"""Where the novel class names come from that stand in for unseen classes.

Novel names are related to the base classes and made from them alone. Here they are only made
unique and kept apart from the base classes; they are never compared with a dataset's new classes.
"""

import csv
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sar.classes.class_list import SUFFIXES, is_class_list, read_class_list
from sar.classes.columns import CLASS, named_columns
from sar.classes.identity import identity, prompt_name
from sar.classes.mixtures import mixtures
from sar.errors import ConfigError, DataError
from sar.settings.dataset_records import by_name
from sar.storage.files import expanded
from sar.storage.texts import read_text

_PACKAGE = resources.files("sar.classes")
# "1. plum", "001.plum", "- poodle", "(a) plum", "a) plum", "// plum", and ImageNet's ids.
_LISTED = re.compile(
    r"\s*(?:\d+[.):](?!\d)|[-*\u2022\u2013]\s|[(\[]?(?:\d+|[a-z]|[ivx]+)[)\]]|//|n\d{8}\b)"
)
# Separators, marks of Markdown, HTML and other lists, quotes around, the end of an introduction.
_MARKS = re.compile(r"[;\x00-\x1f|<>\[\]{}*`]|^\s*([\"'\u201c]).+[\"'\u201d]\s*$|[,:]\s*$")
CHARACTERS = 1000  # no prompt of CLIP holds as many
_FORMATS = (".json", ".txt", ".csv", *SUFFIXES)
_OTHER_SOURCES = "a file with names (.json, .yaml, .txt, .csv), words:N, mix:N or none"
ORACLE = "oracle"
LEAK = "leak: an upper bound, not a result"
"""What is said about ORACLE wherever it is named as a source."""


@dataclass
class NovelNames:
    """The names in a source of novel classes, and what was left out of it."""

    names: list[str] = field(default_factory=list)
    """Distinct names, none of them a base class."""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """Names left out, each with the earlier name that it repeats."""
    of_base: list[tuple[str, str]] = field(default_factory=list)
    """Names left out, each with the base class that it repeats."""
    made_from: list[str] = field(default_factory=list)
    """The base classes that a file says its names were made from."""

    @property
    def read(self) -> int:
        """Number of names in the source."""
        return len(self.names) + len(self.duplicates) + len(self.of_base)


def novel_names(
    source: str, dataset_name: str, base_names: Sequence[str], seed: int = 0
) -> list[str]:
    """The names alone of `load_novel`."""
    return load_novel(source, dataset_name, base_names, seed).names


def load_novel(
    source: str, dataset_name: str, base_names: Sequence[str], seed: int = 0
) -> NovelNames:
    """Novel class names for a dataset, without duplicates and without its base classes.

    Args:
        source: ``"shipped"`` (the file of the dataset's record, else
            ``sar/classes/novel/<dataset_name>.json``), ``"none"`` (no names),
            ``"words:N"`` (N English nouns from a packaged list, drawn with `seed`), ``"mix:N"`` (N
            mixtures of two base classes, drawn with `seed`, see `sar.classes.mixtures`), or a path:
            ``.json`` (the shipped schema, or a list of names), ``.yaml`` (a class list, see
            `sar.classes.class_list`: its ``novel`` names), ``.txt`` (one a line, ``#`` starts a
            comment line), ``.csv`` (the column that the first row calls ``name`` or ``class``).
        dataset_name: the registered name of the dataset.
        base_names: its base classes. Names equal to one of them or to each other up to case,
            underscores, hyphens and a plural s are left out.
        seed: of the draw in ``"words:N"`` and ``"mix:N"``.

    Raises:
        ConfigError: `source` is none of these, or N exceeds the list.
        DataError: the file is missing, unreadable or malformed, or no name is left.
    """
    if source == "none":
        return NovelNames()
    if source == ORACLE:
        raise ConfigError(
            f"{ORACLE}, the true new classes of a dataset ({LEAK}), is for a training alone; "
            f"expected shipped or {_OTHER_SOURCES}."
        )
    if count := parse_words(source):
        words = _distinct(read_lines((_PACKAGE / "words.txt").read_text("utf-8")), base_names).names
        if count > len(words):
            raise ConfigError(
                f"TRAINER.SAR.NOVEL is {source!r}, but the packaged list has {len(words)} words "
                f"that are not base classes. Ask for at most {len(words)}."
            )
        return NovelNames(random.Random(seed).sample(words, count))
    if count := parse_mix(source):
        return NovelNames(mixtures(base_names, count, seed))
    if source == "shipped":
        origin = f"among the novel classes shipped for {dataset_name}"
        names, made_from = _shipped(dataset_name)
    else:
        origin = f"in the novel class file {source}"
        if Path(source).suffix.lower() not in _FORMATS:
            raise ConfigError(
                f"TRAINER.SAR.NOVEL is {source!r}; expected shipped or {_OTHER_SOURCES}."
            )
        names, made_from = read_names(expanded(source))
    found = _distinct(names, base_names)
    if not found.names:
        raise DataError(
            f"No novel name is left {origin}: {len(names)} read, all of them base classes or "
            f"empty. Expected names of other classes; set TRAINER.SAR.NOVEL to {_OTHER_SOURCES}."
        )
    found.made_from = made_from
    return found


def true_new(new: Sequence[str], base_names: Sequence[str]) -> NovelNames:
    """The true `new` classes as novel names: what ORACLE stands for."""
    return _distinct(new, base_names)


def parse_words(source: str) -> int:
    """The N of ``"words:N"``; 0 for any other text."""
    return _count(source, "words")


def parse_mix(source: str) -> int:
    """The N of ``"mix:N"``; 0 for any other text."""
    return _count(source, "mix")


def drawn(source: str) -> bool:
    """Whether the names of a source are drawn with a seed."""
    return parse_words(source) > 0 or parse_mix(source) > 0


def _count(source: str, kind: str) -> int:
    found, _, count = source.partition(":")
    # Of more digits than any list has words, the first are as much too many as all of them.
    return int(count[:9]) if found == kind and count.isascii() and count.isdigit() else 0


def shipped_datasets() -> list[str]:
    """Registered names of the datasets for which novel classes are shipped, sorted."""
    entries = (_PACKAGE / "novel").iterdir()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".json"))


def read_names(path: Path) -> tuple[list[str], list[str]]:
    """The class names in a .json, .txt or .csv file, as written, and its ``base_classes``.

    Formats as in `load_novel`. Raises `ConfigError` for other suffixes, `DataError` for a file that
    is missing, unreadable or malformed.
    """
    if is_class_list(path):
        found = read_class_list(path)
        return found.novel, found.base
    readers = {".json": _read_json, ".txt": read_lines, ".csv": _named_column}
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f"{path} is no file with class names; expected one of {', '.join(_FORMATS)}."
        )
    try:
        content = readers[path.suffix.lower()](
            read_text(path, "expected a UTF-8 text file with class names")
        )
        names, base = content if isinstance(content, tuple) else (content, [])
        _check_names(names)
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(
            f"The class file {path} cannot be read: {error}. Expected a UTF-8 text file "
            "with class names."
        ) from error
    if odd := next((name for name in names if len(name) > CHARACTERS), None):
        raise DataError(
            f"{path} has a name of {len(odd):,} characters ({odd[:40]!r}...); expected class "
            f"names, which have {CHARACTERS} at most. Is one on each line?"
        )
    return names, base


def read_lines(text: str) -> list[str]:
    """The lines of a text that do not begin with ``#``."""
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _distinct(names: Sequence[str], base_names: Sequence[str]) -> NovelNames:
    found = NovelNames()
    base = {identity(name): name for name in reversed(base_names)}
    seen: dict[str, str] = {}
    for name in names:
        key, plain = identity(name), prompt_name(name)
        if key in base:
            found.of_base.append((plain, base[key]))
        elif key in seen:
            found.duplicates.append((plain, seen[key]))
        elif key:
            seen[key] = plain
            found.names.append(plain)
    return found


def _shipped(dataset_name: str) -> tuple[list[str], list[str]]:
    record = by_name(dataset_name)
    if record and record.novel:
        return read_names(record.file.parent / record.novel)
    file = _PACKAGE / "novel" / f"{dataset_name}.json"
    if not file.is_file():
        raise DataError(
            f"No novel classes are shipped for the dataset {dataset_name!r} (there are some for "
            f"{', '.join(shipped_datasets())}). Set TRAINER.SAR.NOVEL to {_OTHER_SOURCES}, or for "
            "your own pictures list names under novel in classes.yaml."
        )
    with resources.as_file(file) as path:
        return read_names(path)


def _read_json(text: str) -> tuple[list[str], list[str]]:
    content = json.loads(text)
    names, base = content, []
    if isinstance(content, dict):
        names, base = content.get("names"), content.get("base_classes", [])
    if not is_list_of_names(names):
        raise ValueError('neither a list of names nor an object with such a list under "names"')
    if not is_list_of_names(base):
        raise ValueError('"base_classes" is not a list of names')
    return names, base


def is_list_of_names(value: Any) -> bool:
    """Whether `value` is a list of texts."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _named_column(text: str) -> list[str]:
    """The column of names in a table, which its first row must name."""
    return [name for (name,) in named_columns(text, CLASS)]


def _check_names(names: Sequence[str]) -> None:
    """ValueError for what is written around names in lists, and for numbers in their place."""
    for name in names:
        if _LISTED.match(name) or _MARKS.search(name):
            raise ValueError(
                f"{name!r} is no name alone; leave out numbers, bullets and separators"
            )
    some = [name.strip() for name in names if name.strip()]
    if len(some) == 1 and some[0].count(",") > 1:
        raise ValueError(f"{some[0][:80]!r} is one line; write one name on each")
    if len(some) < 2:
        return
    if all(name.isdecimal() for name in some):
        raise ValueError(f"its names are numbers: {', '.join(some[:3])}, ...")
    if all(": " in name for name in some):
        raise ValueError(f"its names have descriptions behind them: {some[0][:80]!r}, ...")
    first = [name.partition(" ")[0] for name in some]
    if first in ([str(n) for n in range(at, len(some) + at)] for at in (0, 1)):
        raise ValueError(f"its names have numbers before them: {some[0]!r}, {some[1]!r}, ...")
