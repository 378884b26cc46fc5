"""Descriptions of classes in natural language: shipped ones, and files of one's own.

A description is a sentence that says what a class looks like, made from the class name alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sar.classes.columns import CLASS, named_columns
from sar.classes.identity import identity, prompt_name, shown
from sar.classes.novel_names import CHARACTERS, is_list_of_names, read_lines
from sar.classes.novel_report import POSITIONS
from sar.errors import ConfigError, DataError
from sar.settings.dataset_records import by_name
from sar.storage.files import expanded
from sar.storage.texts import read_json, read_text

SHIPPED = "shipped"
MOST = 1000  # descriptions of one class; several hundred are common
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # blanks of any kind are blanks
_SENTENCE = frozenset({"description", "descriptions", "sentence", "text", "caption", "prompt"})
_FOLDER = resources.files("sar.classes") / "descriptions"
_FORMAT = (
    'expected UTF-8: {"class": ["sentence", ...]} in a .json, "class: sentence" on each line of a '
    ".txt, or a .csv whose first row is class,description"
)


def of_every(
    names: Sequence[str], descriptions: Mapping[str, list[str]], origin: str
) -> list[list[str]]:
    """As `find`, but DataError, which names their `origin`, unless each name has at least one."""
    described = find(names, descriptions)
    if missing := [name for name, of_one in zip(names, described, strict=True) if not of_one]:
        raise DataError(
            f"{origin} describes {len(names) - len(missing)} of {len(names)} classes; without a "
            f"description: {', '.join(map(shown, missing[:10]))}{', ...' * (len(missing) > 10)}. "
            "Add them (`sarclip describe generate` writes descriptions), or correct the spelling"
        )
    return described


def load_descriptions(
    source: str, dataset: str, encode: Callable[[str], Sequence[int]] | None = None
) -> tuple[dict[str, list[str]], str]:
    """All descriptions of a source, and what messages call it.

    Args:
        source: ``"shipped"``, or a file that `read_descriptions` reads.
        dataset: the registered name of the dataset.
        encode: CLIP's tokenizer, without start and end token; no length is checked without it.

    Raises:
        ConfigError: `source` is neither.
        DataError: there are none for the dataset, or the file cannot be used.
    """
    if source == SHIPPED:
        found, origin = shipped_descriptions(dataset), f"what is shipped for {dataset}"
        if found is None:
            raise DataError(
                f"No descriptions are shipped for the dataset {dataset!r} (there are some for "
                f"{', '.join(described_datasets())}). Give a file; {_FORMAT}"
            )
    elif Path(source).suffix.lower() in _READERS:
        found, origin = read_descriptions(expanded(source)), source
    else:
        raise ConfigError(
            f"Descriptions are to come from {source!r}; expected {SHIPPED}, or a file "
            f"({', '.join(_READERS)})"
        )
    if encode:
        _check_lengths(found, origin, encode)
    return found, origin


def find(names: Sequence[str], descriptions: Mapping[str, list[str]]) -> list[list[str]]:
    """The descriptions of each name, found by its `identity`; an empty list where it has none."""
    by_identity = {identity(name): of_one for name, of_one in descriptions.items()}
    return [by_identity.get(identity(name), []) for name in names]


def described_datasets() -> list[str]:
    """Registered names of the datasets for which descriptions are shipped, sorted."""
    if not _FOLDER.is_dir():
        return []
    return sorted(e.name[:-5] for e in _FOLDER.iterdir() if e.name.endswith(".json"))


def shipped_descriptions(dataset: str) -> dict[str, list[str]] | None:
    """The descriptions made for a dataset, class name -> sentences; None: there are none.

    They are those of its record (RECORD.descriptions, a file beside the record or the name of a
    dataset with the same classes), else ``sar/classes/descriptions/<dataset>.json``.

    Raises:
        DataError: the record's file cannot be used.
    """
    record = by_name(dataset)
    named = record.descriptions if record and record.descriptions else dataset
    if record and Path(named).suffix.lower() in _READERS:
        return read_descriptions(record.file.parent / named)
    file = _FOLDER / f"{named}.json"
    if not file.is_file():
        return None
    with resources.as_file(file) as path:
        return read_descriptions(path)


def read_descriptions(path: str | Path) -> dict[str, list[str]]:
    """Class name -> its descriptions, as a file has them, blanks and repetitions left out.

    The layouts:

    - ``.json``: ``{class: [sentences]}``, as CuPL (Pratt et al., ICCV 2023) publishes them, or such
      an object under ``"descriptions"``, as they are shipped and generated;
    - ``.txt``: ``class: sentence`` on each line, or a tab in place of the first colon; ``#`` starts
      a comment line;
    - ``.csv``: a row for each sentence, columns ``class`` and ``description``.

    Raises:
        DataError: the file is missing, unreadable, malformed or empty; a class is there in two
            spellings, has no sentence or more than 1,000; a name or sentence has over 1,000
            characters, or a control character.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path} has another suffix than {', '.join(_READERS)}; {_FORMAT}")
    try:
        pairs = _READERS[path.suffix.lower()](read_text(path, _FORMAT))
        return _checked(pairs)
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"cannot use {path}: {error}; {_FORMAT}") from error


def read_beside(source: str) -> dict[str, list[str]]:
    """The descriptions in a .json file with novel names; none in another source of such names.

    Raises:
        DataError: they are there, and wrong.
    """
    path = expanded(source)
    if path.suffix.lower() != ".json" or not path.is_file():
        return {}
    content = read_json(path)
    has_some = isinstance(content, dict) and content.get("descriptions")
    return read_descriptions(path) if has_some else {}


def _checked(pairs: Sequence[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """ValueError for what no set of descriptions has."""
    if not pairs:
        raise ValueError("it describes no class")
    found: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, sentences in pairs:
        if not (key := identity(name)):
            raise ValueError("a class has no name")
        if key in spelled:
            raise ValueError(f"{shown(spelled[key])} and {shown(name)} are one class, there twice")
        spelled[key] = name
        " ".join((name, *sentences)).encode()  # JSON can spell what is no text
        if len(name) > CHARACTERS:
            raise ValueError(f"a class has a name of {len(name):,} characters ({name[:40]!r}...)")
        if odd := next((one for one in (name, *sentences) if _CONTROL.search(one)), None):
            raise ValueError(f"{odd[:40]!r} holds a control character, which no text has")
        plain = dict.fromkeys(" ".join(sentence.split()) for sentence in sentences)
        plain.pop("", None)
        if not 1 <= len(plain) <= MOST:
            raise ValueError(
                f"{shown(name)} has {len(plain):,} different descriptions, and 1 to {MOST:,} can "
                "be used"
            )
        if long := next((sentence for sentence in plain if len(sentence) > CHARACTERS), None):
            raise ValueError(
                f"{shown(name)} has a description of {len(long):,} characters ({long[:40]!r}...), "
                "no prompt of CLIP holds as many"
            )
        found[prompt_name(name)] = list(plain)
    return found


def _check_lengths(
    descriptions: Mapping[str, list[str]], origin: str, encode: Callable[[str], Sequence[int]]
) -> None:
    for name, sentences in descriptions.items():
        for sentence in sentences:
            if (positions := len(encode(sentence)) + 2) > POSITIONS:
                raise DataError(
                    f"{origin} describes {shown(name)} in a sentence of {positions} tokens "
                    f"({sentence[:40]!r}...), and CLIP takes {POSITIONS} with start and end; "
                    "shorten it or make two of it"
                )


def _from_json(text: str) -> list[tuple[str, list[str]]]:
    content: Any = json.loads(text, object_pairs_hook=_Pairs)
    inner = dict(content).get("descriptions") if isinstance(content, _Pairs) else None
    content = inner if isinstance(inner, _Pairs) else content
    if not isinstance(content, _Pairs):
        raise ValueError("it is no object that gives each class its sentences")
    for name, sentences in content:
        if not is_list_of_names(sentences) or isinstance(sentences, _Pairs):
            raise ValueError(f"what it has for {shown(name)} is not a list of sentences")
    return content


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON that keeps a key that is there twice."""


def _from_lines(text: str) -> list[tuple[str, list[str]]]:
    pairs = []
    for line in read_lines(text):
        if line.strip():
            name, parted, sentence = line.partition("\t" if "\t" in line else ":")
            if not parted:
                raise ValueError(f"the line {line[:60]!r} has neither a colon nor a tab")
            pairs.append((name, sentence))
    return _grouped(pairs)


def _from_table(text: str) -> list[tuple[str, list[str]]]:
    return _grouped(named_columns(text, CLASS, _SENTENCE))


def _grouped(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, list[str]]]:
    """Rows of class and sentence, a class in one spelling or several."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, sentence in rows:
        found.setdefault(identity(name), (name, []))[1].append(sentence)
    return list(found.values())


_READERS: dict[str, Callable[[str], list[tuple[str, list[str]]]]] = {
    ".json": _from_json,
    ".txt": _from_lines,
    ".csv": _from_table,
}
