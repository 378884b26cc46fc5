"""What a run's results depend on besides its settings: one's own pictures, and files with names."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sar.classes.class_list import list_file, read_class_list
from sar.classes.novel_names import read_names
from sar.dataset_records import by_name
from sar.errors import SARError

OWN_PICTURES = ("folders", "table")  # readers
NOVEL, TEMPLATE = "TRAINER.SAR.NOVEL", "TRAINER.SAR.TEMPLATE"


def identify(
    settings: Mapping[str, Any], root: str, subset: str | None, code: Sequence[Path] = ()
) -> dict[str, Any]:
    """More entries for a run's `settings`, by which another input shows.

    The field's datasets are the same everywhere; one's own pictures are known by their place, and
    by the classes of theirs that the run sees. What cannot be read is left to the run to complain
    about.

    Args:
        root: where the data lies. `subset`: "base", "new" or "all" classes. `code`: Python files
            that the run imports.
    """
    found: dict[str, Any] = {}
    record = by_name(str(settings.get("DATASET.NAME")))
    if record and record.reader in OWN_PICTURES:
        place = Path(os.path.abspath(Path(root).expanduser() / record.folder))
        found["DATASET.ROOT"] = str(place)
        if file := list_file(place, str(settings.get("DATASET.CLASSES") or "")):
            with contextlib.suppress(SARError):
                classes = read_class_list(file)
                groups = {"base": classes.base, "new": classes.new}
                found["class list"] = groups.get(subset or "", classes.names)
    for file in code:
        with contextlib.suppress(OSError):
            found[f"content of {file.name}"] = _digest(_text_of(file))
    for key, read in ((NOVEL, _names_in), (TEMPLATE, _text_of)):
        path = os.path.expanduser(str(settings.get(key) or ""))
        if os.path.isfile(path):
            with contextlib.suppress(SARError, OSError):
                found[f"content of {key}"] = _digest(read(Path(path)))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _names_in(file: Path) -> str:
    return "\n".join(read_names(file)[0])  # of a class list the novel names alone


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
