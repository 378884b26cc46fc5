"""Files and folders appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.errors import StorageError
from sar.storage.files import atomic_folder, atomic_write, make_folder, write_file, writing

ROOT = Path(__file__).parents[1]


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


KILLED = """
import os, signal, sys
from pathlib import Path
from sar.storage.files import atomic_folder, atomic_write
with atomic_write(Path(sys.argv[1], "file")) as file, atomic_folder(Path(sys.argv[1], "folder")):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGSTOP if sys.argv[2:] else signal.SIGKILL)
"""


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KILLED, str(folder), *more], cwd=ROOT)


def test_what_a_killed_process_was_writing_goes_with_the_next_one(tmp_path: Path) -> None:
    assert start(tmp_path).wait() < 0
    assert len(list(tmp_path.iterdir())) == 2
    write_file(tmp_path / "other", "")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_others_are_writing_is_left_alone(tmp_path: Path) -> None:
    process = start(tmp_path, "stop")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    write_file(tmp_path / "file", "ours")
    write_file(tmp_path / ".mine.unfinished", "no lock, but another machine's or a user's own")
    write_file(tmp_path / "other", "")
    assert len(list(tmp_path.iterdir())) == 5
    process.kill()
    process.wait()
    with atomic_folder(tmp_path / "folder"):
        assert (tmp_path / "file").read_text() == "ours"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("file", "folder", "other", ".mine.unfinished")
    }
