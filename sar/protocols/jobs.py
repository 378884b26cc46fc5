"""A job: one `sarclip train` command, and how to tell from its folder how far it got."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.protocols.configs import settings
from sar.protocols.inputs import LISTS, OF_THE_TEST, identify
from sar.results import Run, read_run
from sar.results.folders import COMMAND_FILE, LOG_FILE
from sar.results.log import logs_in
from sar.storage.files import read_end, write_file
from sar.storage.locks import RUN_LOCK, holder, is_locked
from sar.storage.texts import read_json

SETTINGS_FILE = "settings.json"
_EPOCH = re.compile(r"epoch \[(\d+/\d+)\]")
_SHOWN = 3  # differing settings that a message names
# What MODEL.BACKBONE.NAME says, too; what earlier versions and a dataset's first run do not know.
# Where it is not given, it is the same.
_IMPLIED = ("INPUT.SIZE", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", LISTS)


class State(Enum):
    """How far a job got, judged by its folder alone."""

    NEW = "to run"
    UNFINISHED = "unfinished, to resume"
    FINISHED = "finished"
    LOCKED = "running in another process"
    OUTDATED = "of other classes, to test again"
    CONFLICT = "started with other settings"


@dataclass(frozen=True)
class Job:
    """One command. Its output folder identifies it; `needs` names the folder of another job."""

    title: str
    output: Path
    flags: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """Configuration of the dataset, then of the trainer."""
    options: tuple[str, ...] = ()
    trains: bool = False
    subset: str | None = None
    needs: Path | None = None
    code: tuple[Path, ...] = ()
    """Python files of one's own that the result depends on."""

    def argv(self) -> list[str]:
        """The arguments of `sarclip`, the same whether the job starts or continues.

        Flags come first: what follows an option is an option.
        """
        kinds = ("--dataset-config-file", "--config-file")
        configured = [
            word
            for kind, file in zip(kinds, self.files, strict=False)
            for word in (kind, _typed(file))
        ]
        where = ("--output-dir", str(self.output))
        return ["train", *self.flags, *configured, *where, *self.options]

    def command(self) -> str:
        """The line a user could type."""
        return shlex.join(["sarclip", *self.argv()])

    def settings(self) -> dict[str, Any]:
        """Its configuration by dotted key, with entries by which other data and names show."""
        flags = dict(zip(self.flags[::2], self.flags[1::2], strict=False))
        found = settings(self.files, self.options)
        configured = found.pop("DATASET.ROOT", "")
        root = configured if "DATASET.ROOT" in self.options else flags.get("--root", configured)
        return found | identify(
            found, str(root), self.subset, self.code, flags.get("--trainer", "")
        )

    def result(self) -> Run:
        """The score that the job's logs prove, or the reason why there is none."""
        return read_run(self.output, trained=self.trains, subset=self.subset)

    def state(self) -> State:
        """How far it got, judged anew from its folder at every call."""
        if not self.output.is_dir():
            return State.NEW
        if is_locked(self.output / RUN_LOCK):
            return State.LOCKED
        score = self.result().score
        # A start that got nowhere has nothing to lose: it may be tried again with other settings.
        if (score or self.progress()) and (changed := self._changed()):
            return State.OUTDATED if self._of_test_alone(changed) else State.CONFLICT
        if score:
            return State.FINISHED
        started = any(path.name != RUN_LOCK for path in self.output.iterdir())
        return State.UNFINISHED if started else State.NEW

    def occupied(self) -> str:
        """By whom its folder is held, and what to do if that one is stopped."""
        who = holder(self.output / RUN_LOCK)
        return f"running in {who}{who.remark}" if who else State.LOCKED.value

    def mark(self) -> Hashable:
        """What its state hangs on, at little cost: as long as it is equal, so is the state."""
        if not self.output.is_dir():
            return None
        try:
            with os.scandir(self.output) as found:
                files = {e.name: (e.stat().st_size, e.stat().st_mtime_ns) for e in found}
        except OSError:
            return object()  # equal to no other: look closer
        # Looking at a lock touches its file.
        locked = files.pop(RUN_LOCK, None) is not None and is_locked(self.output / RUN_LOCK)
        return locked, frozenset(files.items())

    def record(self) -> None:
        """Write into the folder what is about to run there."""
        write_file(self.output / COMMAND_FILE, self.command() + "\n")
        text = json.dumps(self.settings(), indent=1, default=str) + "\n"
        write_file(self.output / SETTINGS_FILE, text)

    def changes(self) -> list[str]:
        """How the settings differ from those that the folder was started with, if it says so."""
        return [
            f"{key} was {before}, now {now}" if key else before
            for key, (before, now) in self._changed().items()
        ]

    def is_outdated(self) -> bool:
        """Whether all that has changed is what the test looks at: nothing is trained for it."""
        return self._of_test_alone(self._changed())

    def _of_test_alone(self, changed: Mapping[str, object]) -> bool:
        return not self.trains and bool(changed) and changed.keys() <= {*OF_THE_TEST}

    def set_aside(self) -> None:
        """Rename the logs of an outdated test, so that the next one's are the only ones."""
        for log in logs_in(self.output):
            names = (log.with_name(f"earlier-{n}-{log.name}") for n in itertools.count(1))
            log.rename(next(name for name in names if not name.exists()))

    def _changed(self) -> dict[str, tuple[str, str]]:
        """Setting -> what it was and is; nothing where the folder does not say how it started."""
        file = self.output / SETTINGS_FILE
        if not file.exists():
            return {}
        try:
            earlier = read_json(file)
        except DataError:
            earlier = None
        if not isinstance(earlier, dict):
            return {"": (f"{SETTINGS_FILE} is damaged", "")}
        now = self.settings()
        for key in _IMPLIED:
            if key not in earlier or key not in now:
                earlier.pop(key, None), now.pop(key, None)
        said = {key: (_said(earlier, key), _said(now, key)) for key in earlier.keys() | now.keys()}
        return {key: said[key] for key in sorted(said) if said[key][0] != said[key][1]}

    def conflict(self) -> str:
        """Which settings differ, and what to do about it."""
        changes = self.changes()
        more = f"; {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        return (
            f"{State.CONFLICT.value} ({'; '.join(changes[:_SHOWN])}{more}): "
            f"choose another --output, or remove {self.output}"
        )

    def progress(self) -> str:
        """How far a training is: "epoch 3/10"; empty before the first report and for tests."""
        epochs = _EPOCH.findall(read_end(self.output / LOG_FILE, 4096))
        return f"epoch {epochs[-1]}" if epochs and self.trains else ""


def _said(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key], default=str) if key in settings else "not set"


def _typed(path: Path) -> str:
    """A path as one would type it here: relative where it lies below the working directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
