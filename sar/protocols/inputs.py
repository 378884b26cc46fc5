"""What a run's results depend on besides its settings: one's own pictures, and files with names."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sar.classes.class_list import list_file, read_class_list
from sar.classes.identity import prompt_name
from sar.classes.novel_names import read_names
from sar.classes.templates import descriptions_in
from sar.errors import SARError
from sar.settings.dataset_records import OWN_PICTURES, by_name

LISTS = "content of the dataset's lists"
CLASSES = "class list"
OF_THE_TEST = (CLASSES, LISTS)
"""Entries that a test may find changed: it tests again what was trained once."""
NOVEL, TEMPLATE, TEACHER = (f"TRAINER.SAR.{key}" for key in ("NOVEL", "TEMPLATE", "TEACHER"))
DESCRIPTIONS = "TRAINER.AAPE.DESCRIPTIONS"


def identify(
    settings: Mapping[str, Any],
    root: str,
    subset: str | None,
    code: Sequence[Path] = (),
    trainer: str = "",
) -> dict[str, Any]:
    """More entries for a run's `settings`, by which another input shows.

    The field's datasets are known by their split files, wherever they lie; one's own pictures by
    their place, by the classes of theirs that the run sees, and by those lines of a table that name
    one of them. Where SAR's novel names are those of their class list, by these. What cannot be
    read is left to the run to complain about.

    Args:
        root: where the data lies. `subset`: "base", "new" or "all" classes. `code`: Python files
            that the run imports.
    """
    found: dict[str, Any] = {}
    record = by_name(str(settings.get("DATASET.NAME")))
    folder = record.folder if record else ""
    place = Path(os.path.abspath(os.path.join(os.path.expanduser(root), folder)))
    if record and record.reader == "split":
        found[LISTS] = [_known(place / file) for file in record.lists]
    if record and record.reader in OWN_PICTURES:
        found["DATASET.ROOT"] = str(place)
        with contextlib.suppress(SARError):
            if file := list_file(place, str(settings.get("DATASET.CLASSES") or "")):
                classes = read_class_list(file)
                groups = {"base": classes.base, "new": classes.new}
                found[CLASSES] = groups.get(subset or "", classes.names)
                shipped = settings.get(NOVEL, "shipped") == "shipped"
                if classes.novel and shipped and trainer.startswith("SAR_"):
                    found[f"content of {NOVEL}"] = _digest("\n".join(classes.novel))
        if record.reader == "table":
            table = place / "images.csv" if place.is_dir() else place
            found[LISTS] = [_known(table, tuple(found.get(CLASSES, ())))]
    if None in found.get(LISTS, ()):  # not there yet: the first run makes it
        del found[LISTS]
    for file in code:
        with contextlib.suppress(OSError):
            found[f"content of {file.name}"] = _digest(_text_of(file))
    texts = (TEMPLATE, TEACHER, DESCRIPTIONS)
    for key, read in ((NOVEL, _names_in), *((key, _text_of) for key in texts)):
        value = str(settings.get(key) or "")
        path = os.path.expanduser(descriptions_in(value) or value)
        if os.path.isfile(path):
            with contextlib.suppress(SARError, OSError):
                found[f"content of {key}"] = _digest(read(Path(path)))
    return found


def _known(file: Path, words: tuple[str, ...] = ()) -> str | None:
    """A hash of a list's content; of `words`, if there are any, only of the lines with one of them
    as a cell.

    None if it cannot be read.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    return _known_state(file, words, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=1000)
def _known_state(file: Path, words: tuple[str, ...], *state: int) -> str | None:
    try:
        text = _text_of(file)
    except OSError:
        return None
    lines = text.splitlines() if words else [text]
    if words:
        known = {*words}
        lines = [line for line in lines if known & set(map(prompt_name, _cells(line)))]
    return _digest("\n".join(lines))


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], skipinitialspace=True), [])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _names_in(file: Path) -> str:
    return "\n".join(read_names(file)[0])  # of a class list the novel names alone


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
