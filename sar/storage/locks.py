"""Locks between processes. The system frees a lock when its process ends, however it ends."""

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from sar.errors import BusyError, one_line

RUN_LOCK = ".lock"
"""In a run's folder: held by the process that is at work there."""
_PATIENCE = 5.0  # seconds of waiting without a word
_IDLE = 60.0  # seconds without a sign of life, after which nobody waits for a process
_UNKNOWN = 600.0  # seconds to wait for a process that cannot be watched
_LOOK = 1.0  # seconds between looks at the process that is waited for
_MODE = 0o664  # who may write to a shared folder must be able to wait for its locks
_mine: set[Path] = set()  # locks of run folders that this process holds


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    command: str
    stopped: bool
    """Stopped by a signal, such as Ctrl-Z sends."""
    worked: int
    """Processor time that it has had, in ticks of the system's clock."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"

    @property
    def remark(self) -> str:
        """The end of a message about it: what to do if it is stopped."""
        return f"; it is stopped: `kill -CONT {self.pid}` continues it" if self.stopped else ""


@contextlib.contextmanager
def one_at_a_time(file: Path, work: str, always: bool = False) -> Iterator[None]:
    """Processes and threads that give the same lock file go in one after the other.

    Nothing is locked where `file` cannot be made (its folder is missing or read-only) or the file
    system has no locks: the work may then be done twice. The same may happen if the process inside
    does nothing for long, such as one that was stopped.

    Args:
        work: what is done inside; a process that waits for long says so on standard error.
        always: wait however long it takes, because two must not be inside.
    """
    lock = FileLock(file, mode=_MODE)
    if file.parent.is_dir():
        with contextlib.suppress(OSError, NotImplementedError):
            _wait(lock, file, work, always)
    try:
        yield
    finally:
        lock.release()


def _wait(lock: BaseFileLock, file: Path, work: str, always: bool) -> None:
    began = alive = time.monotonic()
    last: Holder | None = None
    said = ""
    while True:
        try:
            lock.acquire(timeout=min(_LOOK, _PATIENCE))
        except Timeout:
            pass
        else:
            return
        now = time.monotonic()
        found = holder(file)
        if found and (not last or (found.pid, found.worked) != (last.pid, last.worked)):
            alive = now
        last = found
        who = found or "another process"
        line = f"waiting for {who} that is {work} (it holds {file}){found.remark if found else ''}"
        if now - began >= _PATIENCE and line != said:
            said = line
            _say(line)
        if not always and now - alive >= (_IDLE if found else _UNKNOWN):
            _say(f"going on without {who}: no sign of life from it")
            return


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """A run's folder, made unless it is there, for this process alone; it may enter again.

    Raises:
        BusyError: another process is at work there; says which.
    """
    file = folder.resolve() / RUN_LOCK
    if file in _mine:
        yield
        return
    with alone(file, folder, "another --output-dir"):
        _mine.add(file)
        try:
            yield
        finally:
            _mine.discard(file)


@contextlib.contextmanager
def alone(file: Path, place: Path, other: str) -> Iterator[None]:
    """`place` for this process alone, which holds the lock `file` meanwhile; makes its folder.

    Nothing is locked where `one_at_a_time` locks nothing.

    Raises:
        BusyError: another process is at work there; says which, and to choose `other` instead.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if (lock := try_lock(file)) is None:
            who = holder(file)
            raise BusyError(
                f"{place} is in use by {who or 'another process'}; let it end, or choose {other}"
                f"{who.remark if who else ''}"
            )
    except (OSError, NotImplementedError):
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def try_lock(file: Path) -> BaseFileLock | None:
    """Take a lock for as long as the returned object lives; None if another process holds it."""
    lock = FileLock(file, mode=_MODE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock."""
    if not file.exists():
        return False
    lock = try_lock(file)
    if lock:
        lock.release()
    return lock is None


def holder(file: Path) -> Holder | None:
    """Who holds a lock; None if nobody does or the system does not say.

    Linux does, of the processes of this machine (or container).
    """
    try:
        inode = f":{file.stat().st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE 31293 fe:00:2147725 0 EOF
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and place.endswith(inode):
                return _process(int(pid))
    except (OSError, ValueError):
        pass
    return None


def _process(pid: int) -> Holder:
    words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    # 31293 (any name) S 1 ...: behind the name the state, and user and system time as 12th and 13th
    state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    command = one_line(shlex.join(words), 80)
    return Holder(pid, command, state in "Tt", int(rest[10]) + int(rest[11]))
