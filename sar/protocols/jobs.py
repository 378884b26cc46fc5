"""A job: one `sarclip train` command, and how to tell from its folder how far it got."""

from __future__ import annotations

import fcntl
import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TextIO

from sar.results import Run, read_run

COMMAND_FILE = "command.txt"
CONSOLE_FILE = "console.txt"
_LOCK_FILE = ".lock"
# Where things lie may change between two starts of the same job; what it computes may not.
_PLACES = ("--root", "--output-dir", "--model-dir")


class State(Enum):
    """How far a job got, judged by its folder alone."""

    NEW = "to run"
    UNFINISHED = "unfinished, to resume"
    FINISHED = "finished"
    LOCKED = "running in another process"
    CONFLICT = "started with other settings"


@dataclass(frozen=True)
class Job:
    """One command. Its output folder identifies it; `needs` names the folder of another job."""

    title: str
    flags: tuple[str, ...]
    output: Path
    options: tuple[str, ...] = ()
    trains: bool = False
    subset: str | None = None
    needs: Path | None = None

    def argv(self) -> list[str]:
        """The arguments of `sarclip`, the same whether the job starts or continues.

        Flags come first: what follows an option is an option.
        """
        return ["train", *self.flags, "--output-dir", str(self.output), *self.options]

    def command(self) -> str:
        """The line a user could type."""
        return shlex.join(["sarclip", *self.argv()])

    def result(self) -> Run:
        """What the job's logs prove."""
        return read_run(self.output, trained=self.trains, subset=self.subset)

    def state(self) -> State:
        """Judged anew from the folder at every call."""
        if not self.output.is_dir():
            return State.NEW
        if is_locked(self.output):
            return State.LOCKED
        if self.earlier_settings() not in (None, _settings(self.command())):
            return State.CONFLICT
        if self.result().score:
            return State.FINISHED
        started = any(path.name != _LOCK_FILE for path in self.output.iterdir())
        return State.UNFINISHED if started else State.NEW

    def earlier_settings(self) -> list[str] | None:
        """The words of the command this folder was started with; None if unknown."""
        try:
            return _settings((self.output / COMMAND_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def conflict(self) -> str:
        """How the earlier start's settings differ from this job's."""
        earlier, now = self.earlier_settings() or [], _settings(self.command())
        before = " ".join(word for word in earlier if word not in now) or "nothing more"
        after = " ".join(word for word in now if word not in earlier) or "nothing more"
        return (
            f"{State.CONFLICT.value} ({before}; now {after}): "
            f"choose another --output, or remove {self.output}"
        )


def _settings(command: str) -> list[str]:
    """The words of a command that decide its result, order of options included."""
    words: list[str] = []
    rest = iter(shlex.split(command))
    for word in rest:
        if word in _PLACES:
            next(rest, None)
        else:
            words.append(Path(word).name if word.endswith(".yaml") else word)
    return words


def try_lock(folder: Path) -> TextIO | None:
    """Lock a job's folder for as long as the returned file stays open; None if it is locked.

    The kernel releases the lock when the process ends, however it ends.
    """
    file = (folder / _LOCK_FILE).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a job's folder."""
    if not (folder / _LOCK_FILE).exists():
        return False
    file = try_lock(folder)
    if file:
        file.close()
    return file is None
