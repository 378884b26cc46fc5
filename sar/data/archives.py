"""Unpacks a dataset's archive where it belongs, without trusting the archive."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sar.data.layouts import Layout
from sar.errors import DataError

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

_DEPTH = 3  # folders that an archive may put around a dataset
_CORRUPT = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
    RuntimeError,  # zipfile: encrypted
)


def unpack(archive: Path, layout: Layout, root: Path, workspace: Path) -> int:
    """Put the files of `archive` into the dataset's folder below `root`; return their number.

    The archive may have any folders around the dataset. Files that are there already are kept.
    Few-shot selections and other pickles are left out: they name paths of another machine.

    Args:
        workspace: a folder in the file system of `root`; what an earlier, killed call left in it
            is removed, so no two calls may have the same at once.

    Raises:
        DataError: the archive is damaged, does not hold the dataset, needs more space than there
            is, or has a member that would land elsewhere or is no plain file.
    """
    building = workspace / f"{layout.folder}-unpacked"
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        _extract(archive, building)
        return _place(_dataset_folder(building, layout, archive), root / layout.folder)
    except _CORRUPT as error:
        raise DataError(f"{archive} is damaged ({error}); delete it and get it again") from error
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {root}: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_space(folder: Path, needed: int, what: str) -> None:
    """DataError if fewer than `needed` bytes are free in the file system of `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{what} needs {_gigabytes(needed)}, but {folder} has {_gigabytes(free)} free; make "
            "room, or give another --root"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _extract(archive: Path, target: Path) -> None:
    if zipfile.is_zipfile(archive):
        members = _zip_members(archive, target)
    elif tarfile.is_tarfile(archive):
        members = _tar_members(archive, target)
    else:
        raise DataError(f"{archive} is neither a zip nor a tar archive, or is damaged")
    for name, extract in tqdm(members, desc=f"unpacking {archive.name}", unit="file"):
        if not _left_out(name):
            extract()


Member = tuple[str, Callable[[], object]]  # name, what writes it


def _zip_members(archive: Path, target: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        check_space(target, sum(info.file_size for info in infos), f"unpacking {archive.name}")
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            _refuse_unsafe(archive, info.orig_filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        for info in infos:
            yield info.filename, partial(file.extract, info, target)


# Without owner, special bits and links out of the folder; Python before 3.11.4 knows no filters.
_PLAIN: dict[str, Any] = (
    {"filter": "data"} if hasattr(tarfile, "data_filter") else {"set_attrs": False}
)


def _tar_members(archive: Path, target: Path) -> Iterator[Member]:
    with tarfile.open(archive, tarinfo=_StrictInfo) as file:
        for info in file:
            _refuse_unsafe(archive, info.name, info.isreg() or info.isdir())
            check_space(target, info.size, f"unpacking {archive.name}")
            yield info.name, partial(file.extract, info, target, **_PLAIN)
        while file.fileobj and file.fileobj.read(1 << 20):
            pass  # a compressed archive's checksum is behind its last byte


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, file: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(file)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    windows = PureWindowsPath(name)  # knows both kinds of slashes
    if windows.drive or windows.root or ".." in windows.parts or "\0" in name or not plain:
        reason = "would land outside the dataset's folder" if plain else "is a link or device"
        raise DataError(f"{archive} was not unpacked: its member {name!r} {reason}")


def _left_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and (
        "__MACOSX" in parts
        or "split_fewshot" in parts
        or parts[-1] == ".DS_Store"
        or parts[-1].startswith("._")
        or parts[-1].endswith((".pkl", ".pickle"))
    )


def _dataset_folder(building: Path, layout: Layout, archive: Path) -> Path:
    level = [building]
    for _ in range(_DEPTH + 1):
        for folder in level:
            if any((folder / images).is_dir() for images in layout.images):
                return folder
        level = sorted(path for folder in level for path in folder.iterdir() if path.is_dir())
    found = sorted(path.name for path in building.iterdir())[:10]
    raise DataError(
        f"{archive} does not hold {layout.name}: expected a folder {' or '.join(layout.images)}, "
        f"found {', '.join(found) or 'nothing'}"
    )


def _place(source: Path, target: Path) -> int:
    placed = 0
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (place / name).exists():
                os.replace(Path(folder, name), place / name)
                placed += 1
    return placed
