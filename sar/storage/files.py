"""Files and folders that are never half written, and why one could not be written."""

import contextlib
import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sar.errors import StorageError, one_line
from sar.storage.unfinished import unfinished

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that mean that there is no room left."""


def user_folder() -> Path:
    """Where this project keeps a user's files that can be made again.

    A user without a home (a container's number without a name) gets one in the system's folder for
    temporary files.
    """
    home = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if not os.path.isabs(home):
        return Path(tempfile.gettempdir(), f"sarclip-{os.getuid()}")
    return Path(home, "sarclip")


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ~ replaced by the user's home; unchanged for a user without a home."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], instead: str = "") -> Iterator[None]:
    """Around work that writes to `path`: says in one line why that failed.

    Args:
        instead: what a user may do about it, if there is something better than making room.

    Raises:
        StorageError: for an `OSError` inside; with the path, the reason and, if the disk is full,
            the free space.
    """
    try:
        yield
    except StorageError:
        raise
    except (OSError, RuntimeError) as caught:
        # torch.save lets a file's error pass and stumbles over what it left.
        error = caught if isinstance(caught, OSError) else caught.__context__
        if not isinstance(error, OSError):
            raise
        advice = instead or ("make room, then start again" if error.errno in FULL else "")
        said = StorageError(
            f"cannot write {os.fspath(path)}: {reason(error, path)}{advice and f'; {advice}'}"
        )
        said.errno, said.strerror = error.errno, error.strerror
        raise said from caught


def reason(error: OSError, path: str | os.PathLike[str]) -> str:
    """What went wrong at `path`; with the space that is left where it lies, if that matters."""
    said = one_line(error.strerror or error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in the way where a folder is needed"
    if error.errno not in FULL:
        return said
    place = Path(os.path.abspath(path))
    while not place.is_dir():
        place = place.parent
    if hasattr(os, "statvfs") and (counts := os.statvfs(place)).f_files and not counts.f_favail:
        said = f"{said} for one file more, however small"
    found = shutil.disk_usage(place)
    free, total = (f"{size / 1e6:,.1f} MB" for size in (found.free, found.total))
    return f"{said} ({free} of {total} are free there, without what could not be written)"


def make_folder(path: str | os.PathLike[str], instead: str = "") -> None:
    """Make a folder and those around it, unless it is there. Raises as `writing` does."""
    with writing(path, instead):
        try:
            os.makedirs(path, exist_ok=True)
        except RecursionError:
            raise OSError(errno.ENAMETOOLONG, "File name too long") from None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only complete and on disk, or not at all.

    Raises `StorageError` where that fails.
    """
    path = Path(path)
    with writing(path), unfinished(path) as temporary:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    if os.name == "posix":  # Windows has no descriptors of folders
        with contextlib.suppress(OSError):  # not every file system can sync one
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file atomically; text as UTF-8, its line ends as they are."""
    with atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def damaged_entry(path: str | os.PathLike[str]) -> str:
    """The first entry of a zip archive whose checksum is wrong; empty if all are whole.

    Reads the whole file, about a gigabyte a second. Empty, too, for a file that is no archive.
    """
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() or ""


def read_end(path: str | os.PathLike[str], most: int = 2**16, start: int = 0) -> str:
    """The last `most` bytes of a text, none before byte `start`; empty where there is no such file.

    A cut character at the beginning becomes a replacement character.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - most))
            return file.read(most).decode("utf-8", errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` at the end; nothing is left of it after an error.

    Raises:
        OSError: also if `path` is a folder with anything in it: another process was faster.
    """
    make_folder(path.parent)
    with unfinished(path, folder=True) as building:
        yield building
        building.rename(path)
