"""Locks between processes, however these end and wherever the lock file lies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sar.errors import BusyError
from sar.storage import locks
from sar.storage.locks import RUN_LOCK, is_locked, one_at_a_time, own_folder, try_lock

HOLDER = """
import sys, time
from pathlib import Path
from sar.storage.locks import one_at_a_time
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
    who = f"process {holder.pid} ("
    assert capsys.readouterr().err.startswith(f"waiting for {who}")


@pytest.fixture
def stopped(holder: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """The process that holds the lock, stopped as by Ctrl-Z."""
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    return holder


def test_nobody_waits_for_ever_for_a_stopped_process(
    tmp_path: Path,
    stopped: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    monkeypatch.setattr(locks, "_IDLE", 0.5)
    end = threading.Timer(20, stopped.kill)  # of this test, if it waits for ever
    end.start()
    with one_at_a_time(tmp_path / "lock", "counting"):
        assert is_locked(tmp_path / "lock")  # by the other, still
    end.cancel()
    waiting, going_on = capsys.readouterr().err.splitlines()
    assert waiting.endswith(f"it is stopped: `kill -CONT {stopped.pid}` continues it")
    assert f"that is counting (it holds {tmp_path / 'lock'})" in waiting
    assert going_on.startswith(f"going on without process {stopped.pid} (")
    assert try_lock(tmp_path / "lock") is None


def test_where_two_must_not_be_inside_the_wait_has_no_end(
    tmp_path: Path, stopped: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    monkeypatch.setattr(locks, "_IDLE", 0.2)
    threading.Timer(1.0, stopped.kill).start()
    with one_at_a_time(tmp_path / "lock", "counting", always=True):
        assert stopped.wait() == -signal.SIGKILL


BUSY = (
    "import sys\nfrom pathlib import Path\nfrom sar.storage.locks import one_at_a_time\n"
    + """
import time
with one_at_a_time(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        pass
"""
)


def test_a_process_at_work_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    monkeypatch.setattr(locks, "_IDLE", 1.0)
    command = [sys.executable, "-c", BUSY, str(tmp_path / "lock")]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with one_at_a_time(tmp_path / "lock", "counting"):
            assert is_locked(tmp_path / "lock")
            assert process.wait(1) == 0  # it was over before we came in


def test_a_folder_is_for_one_process_and_whom_it_belongs_to_is_said(tmp_path: Path) -> None:
    with own_folder(tmp_path), own_folder(tmp_path):  # again, by the same process
        assert is_locked(tmp_path / RUN_LOCK)
    assert not is_locked(tmp_path / RUN_LOCK)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / RUN_LOCK)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        expected = rf"in use by process {process.pid} \(.*choose another --output-dir$"
        with pytest.raises(BusyError, match=expected), own_folder(tmp_path):
            raise AssertionError
        process.kill()
    with own_folder(tmp_path):
        pass


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
