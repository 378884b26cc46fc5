"""Processes that read pictures are killed: one line, and the same command goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from started import start
from toolbox_mini import arguments, write_world

from sar.data.checks import damaged
from sar.errors import DataError
from sar.toolbox.utils import load_checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["2,0", "2,3"])
def test_a_killed_reader_is_one_line_and_the_run_is_resumed(
    world: Path, tmp_path: Path, moment: str
) -> None:
    """Wherever the training is when torch notices: in a step, or waiting for images."""
    options = ["TRAIN.CHECKPOINT_FREQ", "1", "DATALOADER.NUM_WORKERS", "2"]
    options += ["DATALOADER.TRAIN_X.BATCH_SIZE", "1"]  # more batches than are read ahead
    read = {"SAR_TRAINING_FEATURES": "0"}
    argv = [*arguments(world, tmp_path / "killed"), *options]
    with start(moment, "SIGKILL", argv, SAR_TEST_VICTIM="worker", **read) as process:
        said = process.communicate()[1]
        assert process.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("error: a process that reads images has died (DataLoader worker")
    assert "The run can be resumed" in line
    assert _kept(tmp_path / "killed") == [1, 2]
    for name in ("killed", "whole"):
        with start("9,9", "", [*arguments(world, tmp_path / name), *options], **read) as process:
            assert (process.communicate()[1], process.returncode) == ("", 0)
    ours, theirs = (load_checkpoint(_last(tmp_path / name)) for name in ("killed", "whole"))
    assert torch.equal(ours["state_dict"]["ctx"], theirs["state_dict"]["ctx"])


def _last(output: Path) -> Path:
    return output / "prompt_learner" / "model.pth.tar-5"


def _kept(output: Path) -> list[int]:
    files = (output / "prompt_learner").glob("model.pth.tar-*")
    return sorted(int(file.name.rpartition("-")[2]) for file in files)


def test_a_killed_process_that_opens_images_is_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "waits.png"
    os.mkfifo(pipe)  # whoever opens it waits

    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DataError, match="a process that opens images has died"):
        list(damaged([str(pipe)], workers=1))
    killer.join()
