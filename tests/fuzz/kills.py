"""Trainings that are killed at any moment, and end in the weights of one that never was.

python tests/fuzz/kills.py [--seed N] [--kills N]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import doors  # noqa: E402
import torch  # noqa: E402
from measure import SEED, prepare  # noqa: E402
from running import run  # noqa: E402

EPOCHS = 6
COMMAND = f"{doors.COOP} OPTIM.MAX_EPOCH {EPOCHS} TRAIN.CHECKPOINT_FREQ 1".split()
LAST = f"out/prompt_learner/model.pth.tar-{EPOCHS}"


def killed_and_resumed(folder: Path, after: float) -> tuple[bool, int]:
    """A training killed `after` seconds, then started again.

    Returns:
        Whether it was killed while it ran; the exit status of the second start.
    """
    first = run(COMMAND, folder, kill_after=after)
    return first.status == -9, run(COMMAND, folder).status


def same_end(folder: Path, whole: Path) -> bool:
    """Whether both trainings ended in the same weights and momenta, bit for bit."""
    ours, theirs = (torch.load(at / LAST, weights_only=True) for at in (folder, whole))
    momenta = [end["optimizer"]["state"][0]["momentum_buffer"] for end in (ours, theirs)]
    left = [path.name for path in (folder / "out").rglob("*.unfinished")]
    return (
        torch.equal(ours["state_dict"]["ctx"], theirs["state_dict"]["ctx"])
        and torch.equal(*momenta)
        and not left
    )


def measure(seed: int = SEED, kills: int = 100) -> tuple[int, int]:
    """Kills so many trainings; returns (killed, of these resumed to the same end)."""
    rng = random.Random(seed)
    killed = good = 0
    with tempfile.TemporaryDirectory() as name:
        world = prepare(Path(name))
        whole = Path(name, "whole")
        doors.copy(world, whole)
        started = time.monotonic()
        assert run(COMMAND, whole).status == 0
        lasts = time.monotonic() - started
        while killed < kills:
            folder = Path(name, "killed")
            doors.copy(world, folder)
            was, status = killed_and_resumed(folder, rng.uniform(0, lasts))
            killed += was
            good += was and status == 0 and same_end(folder, whole)
            shutil.rmtree(folder)
    return killed, good


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    killed, good = measure(given.seed, given.kills)
    print(f"{killed} kills, {good} resumed to the same weights and momenta bit for bit")
    sys.exit(killed != good)


if __name__ == "__main__":
    main()
