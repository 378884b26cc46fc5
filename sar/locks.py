"""Locks between processes. The system frees a lock when its process ends, however it ends."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_PATIENCE = 5.0  # seconds of waiting without a word
_MODE = 0o664  # who may write to a shared folder must be able to wait for its locks


@contextlib.contextmanager
def one_at_a_time(file: Path, work: str) -> Iterator[None]:
    """Processes and threads that give the same lock file go in one after the other.

    Nothing is locked where `file` cannot be made (its folder is missing or read-only) or the file
    system has no locks: the work may then be done twice.

    Args:
        work: what is done inside; whoever waits for long says so on standard error.
    """
    lock = FileLock(file, mode=_MODE)
    if file.parent.is_dir():
        with contextlib.suppress(OSError, NotImplementedError):
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                waiting = f"waiting for another process that is {work} (it holds {file})"
                print(waiting, file=sys.stderr, flush=True)
                lock.acquire()
    try:
        yield
    finally:
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
