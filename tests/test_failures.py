"""Whatever a command raises is one line and an exit status; its own faults leave a file, too."""

import re
from pathlib import Path

import click
import pytest

from sar.command_line import commands
from sar.command_line.failures import DEBUG
from sar.errors import DataError, UsageError


def fails(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def callback() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        commands.run(click.Command("x", callback=callback), [])
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("two\nlines"), 1, "two lines"),
        (UsageError("no option --x"), 2, "no option --x"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "cannot use a/b: Permission denied"),
        (OSError(28, "No space left on device"), 1, "cannot write standard output: No space left"),
        (MemoryError(), 1, "the memory is not enough"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "memory is not enough"),
    ],
)
def test_what_a_user_can_set_right_is_one_line(error, status, said, capsys) -> None:
    code, text = fails(error, capsys)
    assert code == status
    assert text.startswith("error: ")
    assert said in text
    assert text.count("\n") == 1


def test_a_fault_of_the_program_leaves_a_file_with_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, text = fails(ZeroDivisionError("by zero"), capsys)
    assert code == 70
    assert text.startswith("error: ZeroDivisionError: by zero (this is a fault in sarclip; ")
    assert text.count("\n") == 1
    found = re.search(r"in (\S+\.txt)\)", text)
    assert found
    kept = Path(found[1])
    assert kept.is_relative_to(tmp_path)
    assert "Traceback" in kept.read_text()
    assert "sarclip 0" in kept.read_text()


def test_it_is_said_where_no_file_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    code, text = fails(ZeroDivisionError(), capsys)
    assert code == 70
    assert f"it happened in {__file__}, line" in text
    assert text.count("\n") == 1


def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    code, text = fails(DataError("wrong"), capsys)
    assert code == 1
    assert "Traceback" in text
    assert text.endswith("error: wrong\n")
