"""Runs that are continued, stopped or started twice: nothing is lost, nothing stays behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from started import ROOT, SCRIPT, start
from toolbox_mini import arguments, write_world

from sar.errors import BusyError, WeightsError
from sar.protocols.jobs import Job, State
from sar.toolbox.engine import checkpointing
from sar.toolbox.train import main
from sar.toolbox.trainers.coop import CoOp


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    main([*arguments(root, root / "draw"), "--no-train"])
    return root


def kept(output: Path) -> list[int]:
    """Epochs of the checkpoints in an output folder."""
    files = (output / "prompt_learner").glob("model.pth.tar-*")
    return sorted(int(file.name.rpartition("-")[2]) for file in files)


def content(output: Path, epoch: int) -> bytes:
    return (output / "prompt_learner" / f"model.pth.tar-{epoch}").read_bytes()


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


# --- more epochs -----------------------------------------------------------------------------


def test_more_epochs_leave_the_weights_of_the_finished_training(
    world: Path, tmp_path: Path
) -> None:
    main([*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"])
    before = {epoch: content(tmp_path, epoch) for epoch in (1, 2)}
    main([*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "3"])
    main([*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "4"])
    assert kept(tmp_path) == [1, 2, 3, 4]
    assert {epoch: content(tmp_path, epoch) for epoch in (1, 2)} == before


def test_fewer_epochs_than_were_trained_are_refused(world: Path, tmp_path: Path) -> None:
    main([*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "3"])
    with pytest.raises(
        WeightsError, match=r"has trained 3 epochs already, and OPTIM\.MAX_EPOCH is 2"
    ):
        main([*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "2"])
    assert kept(tmp_path) == [3]


def stop_after_two(argv: list[str], patch: pytest.MonkeyPatch) -> None:
    """A training that ends in its third epoch, having saved a passing checkpoint."""
    step = CoOp.forward_backward

    def forward_backward(self: CoOp, batch: Any) -> Any:
        if self.epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch)

    patch.setattr(CoOp, "forward_backward", forward_backward)
    with pytest.raises(KeyboardInterrupt):
        main(argv)


def test_passing_checkpoints_of_a_killed_run_go(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a run that was killed before it removed them."""
    monkeypatch.setattr(checkpointing, "AUTOSAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        stop_after_two(arguments(world, tmp_path), patch)
    assert kept(tmp_path) == [1, 2]
    main(arguments(world, tmp_path))
    assert kept(tmp_path) == [5]


def test_the_checkpoints_of_another_run_are_never_dropped(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "AUTOSAVE_SECONDS", 0.0)
    first, second = tmp_path / "first", tmp_path / "second"
    with monkeypatch.context() as patch:
        stop_after_two(arguments(world, first), patch)
    assert kept(first) == [2]
    main([*arguments(world, second), "OPTIM.MAX_EPOCH", "2"])
    before = content(second, 2)
    (second / "prompt_learner" / "checkpoint").unlink()
    main([*arguments(world, second, "--resume", str(first)), "OPTIM.MAX_EPOCH", "3"])
    assert (kept(first), kept(second)) == ([2], [2, 3])
    assert content(second, 2) == before


# --- two at once -----------------------------------------------------------------------------


def test_two_trainings_in_one_folder_are_one_too_many(world: Path, tmp_path: Path) -> None:
    argv = [*arguments(world, tmp_path), "TRAIN.CHECKPOINT_FREQ", "1"]
    with start("1,0", "SIGSTOP", argv) as first:
        os.waitid(os.P_PID, first.pid, os.WSTOPPED)
        log = (tmp_path / "log.txt").read_text()
        with pytest.raises(BusyError, match=rf"in use by process {first.pid} .*kill -CONT"):
            main(argv)
        with pytest.raises(BusyError):
            main([*argv[:-2], "--eval-only", *argv[-2:]])
        assert Job("a", tmp_path, trains=True).state() is State.LOCKED
        assert (tmp_path / "log.txt").read_text() == log
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0
    assert kept(tmp_path) == [1, 2, 3, 4, 5]
    main(argv)


# --- signals ---------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """The living processes that a process has started, and those that they have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in children for each in (int(child), *descendants(int(child)))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("sent", "to_all"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGINT, True)],
)
def test_a_signal_ends_a_training_as_ctrl_c_does(
    world: Path, tmp_path: Path, sent: signal.Signals, to_all: bool
) -> None:
    """To the process alone or to its loader's workers too, as a closed terminal or SLURM does."""
    options = ("TRAIN.CHECKPOINT_FREQ", "1", "DATALOADER.NUM_WORKERS", "2")
    argv = [*arguments(world, tmp_path), *options]
    # With features of the epoch at hand no worker would be at work.
    with start("2,2", "SIGSTOP", argv, SAR_TRAINING_FEATURES="0") as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        workers = descendants(process.pid)
        assert len(workers) == 2
        for pid in (process.pid, *(workers if to_all else ())):
            os.kill(pid, sent)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + sent
    by = "" if sent is signal.SIGINT else f" by {sent.name}"
    assert said.strip().splitlines() == [f"interrupted{by}; the same command continues"]
    assert not any(map(is_alive, workers))
    assert hidden(tmp_path) == []
    main(argv)
    assert "Resuming after epoch 2" in (tmp_path / "log.txt").read_text()


def test_a_terminal_that_is_gone(world: Path, tmp_path: Path) -> None:
    """It is closed, which is what SIGHUP is for: whatever is said has nowhere to go."""
    ours, theirs = os.openpty()
    argv = [*arguments(world, tmp_path), "TRAIN.CHECKPOINT_FREQ", "1"]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *argv],
        env={**os.environ, "SAR_TEST_KILL": "2,2", "SAR_TEST_SIGNAL": "SIGSTOP"}
        | {"PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    while os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is None:
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 1 << 16)
        time.sleep(0.01)
    os.close(ours)
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert kept(tmp_path) == [1, 2]


def test_what_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal, sys; from sar.command_line.signals import listen\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); listen()\n"  # as under nohup
        "os.kill(os.getpid(), signal.SIGHUP); print('alive', flush=True)\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except KeyboardInterrupt as error:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(error.number)"  # once
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("alive\n15\n", "")
