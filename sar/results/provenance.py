"""How a run came about, read from its folder: settings, versions, what data it saw, its command.

Everything is taken from what the run itself wrote: the head of its log, command.txt, and the class
names in its checkpoint (read without torch, and without running anything the file asks for).
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.results.folders import COMMAND_FILE, LOG_FILE, Place
from sar.results.starts import number, read_text
from sar.storage.files import read_end
from sar.storage.unpickling import InertUnpickler, check_size

_SECTION = re.compile(r"\*\* (Arguments|Config|System info) \*\*$")
_RULE = re.compile(r"\*{5,}$")
_KEY = re.compile(r"( *)(\w+):( .*)?$")
_COUNT = re.compile(r"# (classes|train_x|train_u|val|test)\s+([\d,]+)$")
_LINES = (
    ("alignment", re.compile(r"(SAR: .*)$")),
    ("novel", re.compile(r"SAR: \d+ novel names from (.+?); ")),
    ("pictures", re.compile(r"Pictures: (.*)$")),
    ("shots_file", re.compile(r"Loading few-shot data from (.+)$")),
    ("shots_file", re.compile(r"Saved list of images to (.+)$")),
    ("shots_file", re.compile(r"Loading preprocessed few-shot data from (.+)$")),
    ("shots_file", re.compile(r"(?:Saving|Creating).* (\S+\.pkl)$")),
    ("elapsed", re.compile(r"Elapsed: (.+)$")),
    ("context", re.compile(r'Initial context: "(.*)"$')),
)


@dataclass
class Provenance:
    """One run; fields the log does not state are empty."""

    place: Place
    arguments: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    """Dotted key -> value as printed."""
    system: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """classes, train_x, val, test."""
    facts: dict[str, str] = field(default_factory=dict)
    """alignment: SAR's line; novel: where its novel names came from; pictures: what of one's own
    was not read; shots_file; elapsed: the training's time; context."""
    command: str = ""
    classes: list[str] = field(default_factory=list)
    """What the model was trained on, as its checkpoint says."""
    written: float = 0.0
    """When its log was last written to, in seconds since 1970."""


def read_provenance(place: Place) -> Provenance:
    """Read a run's folder; whatever is missing or damaged there is left empty."""
    found = read_log(place)
    found.command = read_end(place.directory / COMMAND_FILE).strip()
    if not found.command and found.arguments:
        found.command = _rebuilt(found.arguments)
    checkpoints = sorted(place.directory.glob("*/model*.pth.tar*"))
    found.classes = _class_names(checkpoints[-1]) if checkpoints else []
    return found


def read_log(place: Place) -> Provenance:
    """What a run's log alone says; its checkpoint stays closed."""
    found, log = Provenance(place), place.directory / LOG_FILE
    with contextlib.suppress(OSError, DataError):
        found.written = log.stat().st_mtime
        _read_log(read_text(log), found)
    return found


def pictures_passed_over(runs: Iterable[Provenance]) -> list[str]:
    """What the last run on each dataset of one's own did not read: "shop: 2 files passed over"."""
    said = [run for run in runs if "pictures" in run.facts]
    last = {
        run.place.key.dataset: run.facts["pictures"]
        for run in sorted(said, key=lambda run: run.written)
    }
    return [f"{dataset}: {text}" for dataset, text in sorted(last.items())]


def _read_log(text: str, found: Provenance) -> None:
    section, path = "", [""]
    system: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if section == "Config" and not (_KEY.match(raw) or _RULE.match(line)):
            section = ""
        if match := _SECTION.match(line):
            section = match[1]
        elif _RULE.match(line):
            continue
        elif line.startswith(("Loading trainer", "--- log continued")):
            section = ""
        elif section == "Arguments":
            key, _, value = line.partition(": ")
            found.arguments[key.rstrip(":")] = value
        elif section == "Config" and (match := _KEY.match(raw)):
            path = [*path[: len(match[1]) // 2], match[2]]
            if match[3]:  # a node has nothing behind the colon, an empty value a blank
                found.config[".".join(path)] = match[3].strip()
        elif section == "System info":
            system.append(raw)
        elif match := _COUNT.match(line):
            if (count := number(match[2])) is not None:
                found.counts[match[1]] = count
        else:
            for name, pattern in _LINES:
                if match := pattern.match(line):
                    found.facts[name] = match[1]
    found.system = "\n".join(system).strip()


def _rebuilt(arguments: dict[str, str]) -> str:
    """The command of a log without command.txt, from the arguments it prints."""
    words = ["python", "train.py"]
    for name, value in arguments.items():
        if value in ("", "None", "False") or name == "opts":
            continue
        option = "--" + ("import" if name == "imports" else name.replace("_", "-"))
        if value.startswith("["):
            found = _listed(value)
            words += (
                [w for file in found for w in (option, file)]
                if name == "imports"
                else [option, *found]
            )
        else:
            words += [option] if value == "True" else [option, value]
    return shlex.join([*words, *_listed(arguments.get("opts", ""))])


def _listed(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _class_names(checkpoint: Path) -> list[str]:
    try:
        check_size(checkpoint)
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            names = _Unpickler(io.BytesIO(archive.read(name))).load()["classnames"]
        return [str(name) for name in names] if isinstance(names, list) else []
    except Exception:  # of another toolbox, or damaged: pickle raises whatever it likes
        return []


class _Unpickler(InertUnpickler):
    def persistent_load(self, pid: Any) -> None:
        """The contents of tensors are not read."""
