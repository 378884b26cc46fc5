"""Folders that the program fills itself are whole, or filled anew."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sar.errors import StorageError
from sar.storage.manifest import filled, is_whole

CONTENT = {f"{place}/{name}.png": f"{place}{name}" * 10 for place in "ab" for name in range(5)}


def fill(folder: Path) -> None:
    for name, text in CONTENT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


DAMAGE: dict[str, Callable[[Path], object]] = {
    "five files are gone": lambda folder: [(folder / f"a/{n}.png").unlink() for n in range(5)],
    "a class is gone": lambda folder: shutil.rmtree(folder / "b"),
    "a file is cut": lambda folder: os.truncate(folder / "a" / "1.png", 3),
    "a file was added": lambda folder: (folder / "a" / "9.png").write_text("more"),
    "a file was moved": lambda folder: (folder / "a" / "1.png").rename(folder / "b" / "9.png"),
    "it was made by an earlier version": lambda folder: (folder / ".manifest.json").unlink(),
    "its manifest is damaged": lambda folder: (folder / ".manifest.json").write_text("[]"),
    "it is empty": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_is_filled_anew_if_anything_is_not_as_it_was(tmp_path, damage):
    folder = tmp_path / "images" / "pool"
    assert filled(folder, fill, "v1") == folder
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    filled(folder, fill, "v1")
    assert times == {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    DAMAGE[damage](folder)
    assert not is_whole(folder, "v1")
    filled(folder, fill, "v1")
    assert content(folder) == CONTENT
    assert is_whole(folder, "v1")
    assert not is_whole(folder, "v2")


def test_several_fill_it_once(tmp_path):
    calls = []

    def counted(folder: Path) -> None:
        calls.append(1)
        fill(folder)

    filled(tmp_path / "pool", fill, "v1")
    (tmp_path / "pool" / "a" / "1.png").unlink()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: filled(tmp_path / "pool", counted, "v1"), range(4)))
    assert len(calls) == 1
    assert content(tmp_path / "pool") == CONTENT


def test_where_it_cannot_be_filled_nothing_is_lost(tmp_path):
    filled(tmp_path / "pool", fill, "v1")
    before = content(tmp_path / "pool")

    def fails(folder: Path) -> None:
        raise StorageError("no room")

    with pytest.raises(StorageError, match="no room"):
        filled(tmp_path / "pool", fails, "v2")
    assert content(tmp_path / "pool") == before
