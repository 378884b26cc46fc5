"""Files and folders appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.errors import StorageError
from sar.files import atomic_folder, atomic_write, make_folder, write_file, writing


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_text("old")

    def crash() -> None:
        with atomic_write(file) as target:
            target.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    assert file.read_text() == "old"


@given(st.text() | st.binary())
def test_content_is_kept_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "content"
    write_file(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_file(tmp_path / "ours", "")
    modes = {os.stat(tmp_path / name).st_mode for name in ("plain", "ours")}
    assert len(modes) == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(name: str, failing: bool = False) -> None:
        with atomic_folder(tmp_path / "new" / "folder") as folder:
            write_file(folder / name, "content")
            if failing:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill("first", failing=True)
    assert list((tmp_path / "new").iterdir()) == []
    fill("second")
    with pytest.raises(OSError, match="folder"):
        fill("third")
    assert [file.name for file in (tmp_path / "new").rglob("*")] == ["folder", "second"]


def test_why_a_file_cannot_be_written_is_one_line_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below", tmp_path / "none" / "below"):
        with pytest.raises(StorageError, match=rf"^cannot write {path}: [^\n]+$"):
            write_file(path, "")
    with pytest.raises(OSError, match=r"a file is in the way.*; give another$"):
        make_folder(tmp_path / "file" / "folder", "give another")


def test_a_full_disk_is_said_with_its_free_space(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(as_torch: bool) -> None:
        try:
            raise full
        except OSError:
            if as_torch:
                raise RuntimeError("unexpected pos 704") from None
            raise

    for as_torch in (False, True):
        with (
            pytest.raises(StorageError, match=r"[\d.]+ MB of [\d,.]+ MB are free") as said,
            writing(tmp_path / "none" / "file"),
        ):
            write(as_torch)
        assert said.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="no file's"), writing(tmp_path):
        raise RuntimeError("no file's error")
