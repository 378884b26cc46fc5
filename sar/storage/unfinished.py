"""Temporary files and folders of which nothing stays behind, even if their process is killed.

Each is locked by its process, and the system frees a lock when its process ends, however it ends.
So what lies unlocked beside a new one is the leftover of a process that is gone, and is removed.
"""

import contextlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed: it needs no lock
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".unfinished"
_HOST = re.sub("[^0-9A-Za-z-]", "-", platform.node())[:40]
# Not every file system shows locks to other machines: theirs are left alone for so many seconds.
_ELSEWHERE = 86400.0


@contextlib.contextmanager
def unfinished(path: Path, folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder beside `path`, removed at the end unless it was renamed.

    Its permissions are those of any new file or folder.
    """
    _sweep(path.parent)
    made, lock = _make(path, folder)
    try:
        yield made
    finally:
        _remove(made)
        if lock is not None:
            os.close(lock)


def _make(path: Path, folder: bool) -> tuple[Path, int | None]:
    while True:
        name = f".{path.name[:40]}.{secrets.token_hex(4)}.{_HOST}{_SUFFIX}"
        made = path.parent / name
        if folder:
            made.mkdir()
        else:
            os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if fcntl is None:
            return made, None
        lock = _open(made)
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return made, lock
        os.close(lock)  # swept away before it was locked


def _sweep(folder: Path) -> None:
    """Remove what processes that are gone have left in `folder`."""
    if fcntl is None:
        return
    with os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if entry.name.endswith(_SUFFIX)]
    for path in left:
        with contextlib.suppress(OSError):  # it is locked, or not ours to remove
            ours = path.name.endswith(f".{_HOST}{_SUFFIX}")
            if not ours and time.time() - path.stat().st_mtime < _ELSEWHERE:
                continue
            lock = _open(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
