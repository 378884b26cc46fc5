"""Locks between processes, however these end and wherever the lock file lies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sar import locks
from sar.locks import is_locked, one_at_a_time, try_lock

HOLDER = """
import sys, time
from pathlib import Path
from sar.locks import one_at_a_time
with one_at_a_time(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_dies_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_locked(tmp_path / "lock")
    assert try_lock(tmp_path / "lock") is None
    holder.kill()
    holder.wait()
    assert not is_locked(tmp_path / "lock")
    ours = try_lock(tmp_path / "lock")
    assert ours is not None
    assert is_locked(tmp_path / "lock")
    ours.release()
    assert not is_locked(tmp_path / "lock")


def test_whoever_waits_for_long_says_for_what(
    tmp_path: Path,
    holder: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    threading.Timer(0.5, holder.kill).start()
    with one_at_a_time(tmp_path / "lock", "counting"):
        assert is_locked(tmp_path / "lock")
    said = f"waiting for another process that is counting (it holds {tmp_path / 'lock'})\n"
    assert capsys.readouterr().err == said


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path / "none" / "lock", "counting"):
        assert not (tmp_path / "none").exists()
    assert not is_locked(tmp_path / "none" / "lock")


def test_nothing_is_locked_where_no_lock_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with one_at_a_time(tmp_path / "lock", "counting"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "lock"]


def test_what_fails_inside_fails_outside_and_lets_go(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), one_at_a_time(tmp_path / "lock", "counting"):
        raise OSError("disk full")
    assert not is_locked(tmp_path / "lock")
