"""A training step aligns 20,000 novel classes at once in a bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

import sar

LIMIT = 6.0  # GB


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the peak memory of a child process")
def test_all_of_20000_novel_names_are_aligned_in_bounded_memory(tmp_path: Path) -> None:
    listed = Path(sar.__file__).with_name("classes") / "words.txt"
    words = [line for line in listed.read_text("utf-8").splitlines() if line.isalpha()]
    names = islice((f"{one} {other}" for one in words for other in words if one != other), 20_000)
    (tmp_path / "names.txt").write_text("\n".join(names))
    command = [
        *(sys.executable, "-m", "sar", "train", "--trainer", "SAR_CoOp", "--seed", "1"),
        *("--config-file", "configs/trainers/CoOp/pocket.yaml", "--output-dir", str(tmp_path)),
        *("--dataset-config-file", "configs/datasets/demo_objects.yaml"),
        *("DATASET.NUM_SHOTS", "1", "DATASET.SUBSAMPLE_CLASSES", "base", "TEST.NO_TEST", "True"),
        *("OPTIM.MAX_EPOCH", "1", "TRAINER.SAR.NOVEL", str(tmp_path / "names.txt")),
        *("TRAINER.SAR.SAMPLE_SIZE", "0"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    log = (tmp_path / "log.txt").read_text()
    assert "all classes a step of" in log
    assert "and 20000 novel" in log
    assert usage.ru_maxrss * 1024 < LIMIT * 1e9
