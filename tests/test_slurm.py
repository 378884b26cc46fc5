"""Protocols on a real SLURM cluster of one node: the same results as local ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from slurm_node import missing, one_node

from sar.errors import ConfigError
from sar.protocols.cli import main
from sar.toolbox.utils import load_checkpoint

SLURMS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
ROOT = Path(__file__).resolve().parents[1]
STANDIN = "standin_train:main"
SLURM = ("--launcher", "slurm", "--partition", "main")
TRAIN = "train_base/demo_food/shots_16/CoOp/pocket/seed1"

on_slurm = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing()), reason=f"needs Debian's slurm-wlm and munge (not found: {missing()})"
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def _on_cluster(cluster, monkeypatch):
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support"))))


def arguments(output: Path, *more: str, trainers: str = "CoOp") -> list[str]:
    what = ["--datasets", "demo_food", "--seeds", "1", "--trainers", trainers]
    return ["base2new", *what, "--output", str(output), *more]


def records(output: Path) -> list[dict]:
    return json.loads((output / "results.json").read_text())


def accuracies(output: Path) -> list[tuple]:
    return [(r["trainer"], r["seed"], r["base"], r["new"]) for r in records(output)]


@pytest.mark.usefixtures("_on_cluster")
class TestOnSlurm:
    pytestmark = on_slurm

    def test_results_are_those_of_local_jobs(self, tmp_path):
        short = ("--root", str(tmp_path / "data"), "OPTIM.MAX_EPOCH", "1")
        trainers = "ZeroshotCLIP,CoOp,SAR_CoOp"
        main(arguments(tmp_path / "local", *short, trainers=trainers))
        limits = ("--array-parallelism", "2", "--time", "20")
        main(arguments(tmp_path / "slurm", *SLURM, *limits, *short, trainers=trainers))
        assert len(accuracies(tmp_path / "local")) == 3
        assert accuracies(tmp_path / "slurm") == accuracies(tmp_path / "local")
        for trainer in ("CoOp", "SAR_CoOp"):
            file = f"{TRAIN.replace('CoOp', trainer)}/prompt_learner/model.pth.tar-1"
            ours, theirs = (
                load_checkpoint(tmp_path / where / file)["state_dict"]["ctx"]
                for where in ("slurm", "local")
            )
            assert torch.equal(ours, theirs)

    def test_a_failure_is_reported_with_its_reason(self, tmp_path, capfd):
        fail = ("TEST.FAIL", "train_base", "OPTIM.MAX_EPOCH", "2")
        with pytest.raises(SystemExit) as end:
            main(arguments(tmp_path, *SLURM, *fail), STANDIN)
        assert end.value.code == 1
        said = capfd.readouterr()
        assert "the images are made of cheese" in said.err
        assert "not run, because" in said.err

    def test_a_cancelled_job_is_noticed_and_continues_next_time(self, tmp_path):
        slow = ("OPTIM.MAX_EPOCH", "8", "TEST.EPOCH_SECONDS", "1")
        command = [sys.executable, "-c", f"from sar.protocols.cli import main; "
                   f"main({arguments(tmp_path, *SLURM, *slow)!r}, {STANDIN!r})"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as launcher:
            epochs = tmp_path / TRAIN / "epochs.txt"
            _wait_for(lambda: epochs.exists() and epochs.read_text().count("epoch") >= 2)
            subprocess.run(["scancel", "--name=sarclip"], check=True)
            said, _ = launcher.communicate(timeout=120)
        assert launcher.returncode == 1
        assert "ended by SLURM: CANCELLED" in said
        done = epochs.read_text().count("epoch")
        assert 2 <= done < 8
        main(arguments(tmp_path, *SLURM, *slow), STANDIN)
        assert epochs.read_text().count("epoch") == 8
        assert len(records(tmp_path)) == 1

    def test_a_preempted_job_is_queued_again(self, tmp_path):
        slow = ("OPTIM.MAX_EPOCH", "8", "TEST.EPOCH_SECONDS", "1")
        command = [sys.executable, "-c", f"from sar.protocols.cli import main; "
                   f"main({arguments(tmp_path, *SLURM, *slow)!r}, {STANDIN!r})"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as launcher:
            epochs = tmp_path / TRAIN / "epochs.txt"
            _wait_for(lambda: epochs.exists() and epochs.read_text().count("epoch") >= 2)
            subprocess.run(["scancel", "--name=sarclip", "--signal=USR2"], check=False)
            said, _ = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, said
        assert epochs.read_text().count("epoch") == 8
        assert "requeue" in (tmp_path / TRAIN / "console.txt").read_text().lower()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--partition", "nowhere"), "sbatch refused the jobs"),
            (("--slurm", "colour=red"), "colour"),
        ],
    )
    def test_what_slurm_refuses_is_said(self, tmp_path, more, message):
        from sar.errors import SARError

        with pytest.raises(SARError, match=message):
            main(arguments(tmp_path, *SLURM, *more, "OPTIM.MAX_EPOCH", "1"), STANDIN)


def _wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


@pytest.mark.parametrize(
    "there", [(), ("sbatch",), ("sbatch", "srun"), ("sbatch", "srun", "scancel", "scontrol")]
)
def test_without_slurm_it_is_said(tmp_path, there):
    """No program of it, some, or all but one: nothing is submitted."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in there:
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
        (programs / name).chmod(0o755)
    command = [sys.executable, "-m", "sar", "protocol", *arguments(tmp_path / "out", *SLURM)]
    environment = {**os.environ, "PATH": str(programs)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    lacking = [name for name in SLURMS if name not in there]
    assert line.startswith(f"error: --launcher slurm needs SLURM's {', '.join(lacking)}, not to be")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--partition", "main"), "partition: for --launcher slurm only"),
        (("--launcher", "slurm", "--jobs", "2"), "use --array-parallelism"),
        (("--slurm", "mem"), "expected KEY=VALUE, found 'mem'"),
    ],
)
def test_arguments_that_do_not_go_together(tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        main(arguments(tmp_path / "out", *more), STANDIN)
