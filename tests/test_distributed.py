"""`torchrun` with two processes on the CPU: the run of one process with the same total batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toolbox_mini import arguments

from sar.results.log import read_run
from sar.toolbox.utils import load_checkpoint

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "support" / "toolbox_mini.py"
SHALLOW = ("TRAINER.MAPLE.PROMPT_DEPTH", "1", "TRAINER.MAPLE.PREC", "fp32")
# Every process draws the crops of its own images; without any, the gradients are the same.
SAME_IMAGES = ("INPUT.TRANSFORMS", "('normalize',)")


def run(world: Path, output: Path, processes: int, *options: str, trainer: str = "CoOp", **env):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    argv = [*arguments(world, output, trainer=trainer), *options]
    start = ["-m", *launcher, str(SCRIPT)] if processes > 1 else [str(SCRIPT)]
    return subprocess.run(
        [sys.executable, *start, *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def weights(output: Path, name: str, epoch: int = 5) -> dict[str, torch.Tensor]:
    return load_checkpoint(output / name / f"model.pth.tar-{epoch}")["state_dict"]


@pytest.mark.parametrize(
    ("trainer", "folder", "options"),
    [
        ("CoOp", "prompt_learner", ()),
        pytest.param(
            "SAR_CoOp",
            "prompt_learner",
            ("TRAINER.SAR.NOVEL", "words:9"),
            marks=pytest.mark.slow,
        ),
        pytest.param("MaPLe", "MultiModalPromptLearner", SHALLOW, marks=pytest.mark.slow),
    ],
)
def test_two_processes_are_one(world, tmp_path, trainer, folder, options):
    one, two = tmp_path / "one", tmp_path / "two"
    for output, processes in ((one, 1), (two, 2)):
        found = run(world, output, processes, *SAME_IMAGES, *options, trainer=trainer)
        assert found.returncode == 0, found.stderr
    expected, averaged = weights(one, folder), weights(two, folder)
    assert expected.keys() == averaged.keys()
    started = run(world, tmp_path / "start", 1, *SAME_IMAGES, *options, "OPTIM.LR", "1e-12",
                  "OPTIM.WARMUP_CONS_LR", "1e-12", trainer=trainer)  # fmt: skip
    assert started.returncode == 0, started.stderr
    before = weights(tmp_path / "start", folder)
    key = "ctx" if "ctx" in expected else "prompt_learner.ctx"
    moved = (expected[key] - before[key]).norm()
    assert moved > 0
    assert (averaged[key] - expected[key]).norm() < 1e-4 * moved
    assert (two / "log.txt").read_text().count("=> result") == 1
    ours, theirs = (read_run(output, trained=True, subset="base").score for output in (one, two))
    assert ours is not None
    assert ours == theirs


@pytest.mark.slow
def test_a_run_of_two_processes_continues(world, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = (*SAME_IMAGES, "TRAIN.CHECKPOINT_FREQ", "1")
    assert run(world, whole, 2, *options).returncode == 0
    assert run(world, killed, 2, *options, SAR_TEST_KILL="3,2").returncode != 0
    again = run(world, killed, 2, *options)
    assert again.returncode == 0, again.stderr
    assert "Resuming after epoch 3" in again.stdout
    ours, theirs = (weights(output, "prompt_learner")["ctx"] for output in (whole, killed))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("DATALOADER.TRAIN_X.BATCH_SIZE", "5"), "cannot be divided evenly among 2 processes"),
        pytest.param(
            ("--seed", "-1"), "several processes need the same --seed", marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_be_divided_is_said(world, tmp_path, options, message):
    found = run(world, tmp_path, 2, *options)
    assert found.returncode != 0
    assert message in found.stderr
