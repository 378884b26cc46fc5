"""Where the novel class names come from that stand in for unseen classes.

Novel names are related to the base classes and made from them alone. Here they are only made
unique and kept apart from the base classes; they are never compared with a data set's new classes.
"""

import csv
import json
import random
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sar.data.class_list import read_class_list
from sar.errors import ConfigError, DataError

_PACKAGE = resources.files("sar.classes")
_CSV_HEADERS = {"name", "names", "class", "classname", "class_name"}
_OTHER_SOURCES = "a file with names (.json, .yaml, .txt, .csv), words:N or none"


def novel_names(
    source: str, dataset_name: str, base_names: Sequence[str], seed: int = 0
) -> list[str]:
    """Novel class names for a data set, without duplicates and without its base classes.

    Args:
        source: ``"shipped"`` (``sar/classes/novel/<dataset_name>.json``), ``"none"`` (no names),
            ``"words:N"`` (N English nouns from a packaged list, drawn with `seed`), or a path:
            ``.json`` (the shipped schema, or a list of names), ``.yaml`` (a class list, see
            `sar.data.class_list`: its ``novel`` names), ``.txt`` (one name a line, ``#`` starts a
            comment line), ``.csv`` (first column; a first row ``name`` or ``class`` is a header).
        dataset_name: the registered name of the data set.
        base_names: its base classes. Names equal to one of them or to each other up to case,
            underscores, hyphens and a plural s are left out.
        seed: of the draw in ``"words:N"``.

    Raises:
        ConfigError: `source` is none of these, or N exceeds the list.
        DataError: the file is missing, unreadable or malformed, or no name is left.
    """
    if source == "none":
        return []
    if count := parse_words(source):
        words = _distinct(_lines((_PACKAGE / "words.txt").read_text("utf-8")), base_names)
        if count > len(words):
            raise ConfigError(
                f"TRAINER.SAR.NOVEL is {source!r}, but the packaged list has {len(words)} words "
                f"that are not base classes. Ask for at most {len(words)}."
            )
        return random.Random(seed).sample(words, count)
    if source == "shipped":
        origin = f"The novel classes shipped for {dataset_name}"
        names = _shipped(dataset_name)
    else:
        origin = f"The novel class file {source}"
        names = _read(Path(source))
    kept = _distinct(names, base_names)
    if not kept:
        raise DataError(
            f"{origin} leave no name: {len(names)} read, all of them base classes or empty. "
            f"Expected names of other classes; set TRAINER.SAR.NOVEL to {_OTHER_SOURCES}."
        )
    return kept


def parse_words(source: str) -> int:
    """The N of ``"words:N"``; 0 for any other text."""
    kind, _, count = source.partition(":")
    return int(count) if kind == "words" and count.isascii() and count.isdigit() else 0


def normalize(name: str) -> str:
    """A name as it is put into a prompt: underscores as spaces, single blanks."""
    return " ".join(name.replace("_", " ").split())


def identity(name: str) -> str:
    """What two spellings of one class have in common: no case, hyphens or plural s."""
    key = normalize(name.replace("-", " ")).lower()
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def _distinct(names: Sequence[str], base_names: Sequence[str]) -> list[str]:
    seen = {identity(name) for name in base_names} | {""}
    kept = []
    for name in names:
        if (key := identity(name)) not in seen:
            seen.add(key)
            kept.append(normalize(name))
    return kept


def _shipped(dataset_name: str) -> list[str]:
    file = _PACKAGE / "novel" / f"{dataset_name}.json"
    if not file.is_file():
        entries = (_PACKAGE / "novel").iterdir() if (_PACKAGE / "novel").is_dir() else ()
        known = sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".json"))
        raise DataError(
            f"No novel classes are shipped for the data set {dataset_name!r} (there are some for "
            f"{', '.join(known) or 'none'}). Set TRAINER.SAR.NOVEL to {_OTHER_SOURCES}."
        )
    with resources.as_file(file) as path:
        return _read(path)


def _read(path: Path) -> list[str]:
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_class_list(path).novel
    readers = {".json": _read_json, ".txt": _lines, ".csv": _first_column}
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f"TRAINER.SAR.NOVEL is {str(path)!r}; expected shipped or {_OTHER_SOURCES}."
        )
    try:
        names = readers[path.suffix.lower()](path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(
            f"The novel class file {path} cannot be read: {error}. Expected a UTF-8 text file "
            "with class names."
        ) from error
    return names


def _read_json(text: str) -> list[str]:
    content = json.loads(text)
    names: Any = content.get("names") if isinstance(content, dict) else content
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('neither a list of names nor an object with such a list under "names"')
    return names


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _first_column(text: str) -> list[str]:
    cells = [row[0] for row in csv.reader(text.splitlines()) if row]
    return cells[1:] if cells and cells[0].strip().lower() in _CSV_HEADERS else cells
