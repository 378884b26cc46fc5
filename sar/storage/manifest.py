"""Folders that this program has filled: whether all of it is still there, from the same source.

A manifest, a hidden file in such a folder, holds names and sizes. Comparing them reads no file.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sar.errors import DataError
from sar.storage.files import atomic_folder, make_folder, write_file
from sar.storage.locks import one_at_a_time
from sar.storage.texts import read_json

MANIFEST = ".manifest.json"


def filled(folder: Path, fill: Callable[[Path], None], source: str) -> Path:
    """`folder` with everything that `fill` puts into it; filled anew if anything is not as it was.

    Missing, added, shortened and longer files count, and another `source`: what the content is made
    from, as a hash. Processes that start at once wait for the first.

    Raises:
        StorageError: it cannot be written.
    """
    if is_whole(folder, source):
        return folder
    make_folder(folder.parent)
    with one_at_a_time(folder.parent / f".{folder.name}.lock", f"filling {folder}"):
        try:
            if not is_whole(folder, source):
                _fill(folder, fill, source)
        except OSError:
            if not is_whole(folder, source):  # else another was faster, where there are no locks
                raise
    return folder


def _fill(folder: Path, fill: Callable[[Path], None], source: str) -> None:
    with atomic_folder(folder) as building:
        fill(building)
        content = {"source": source, "files": _files(building)}
        write_file(building / MANIFEST, json.dumps(content))
        shutil.rmtree(folder, ignore_errors=True)


def is_whole(folder: Path, source: str) -> bool:
    """Whether `filled` has made the folder from this source, and nothing was changed since."""
    try:
        content = read_json(folder / MANIFEST)
    except DataError:
        return False
    return bool(content == {"source": source, "files": _files(folder)})


def _files(folder: Path) -> dict[str, int]:
    """Size in bytes of every file below a folder that is not hidden, by its path from there."""
    files = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return {
        os.path.relpath(file, folder): os.stat(file).st_size
        for file in files
        if os.path.isfile(file) and not os.path.basename(file).startswith(".")
    }
