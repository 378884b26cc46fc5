"""Trainings that are killed at any moment, and end in the weights of one that never was.

python tests/fuzz/kills.py [--seed N] [--record FILE] [--kills N]
"""

from __future__ import annotations

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
from measure import SEED, arguments, prepare  # noqa: E402
from record import Record, Trial  # noqa: E402
from running import Ended, Verdict, run  # noqa: E402

EPOCHS, KIND = 6, "kill"
COMMAND = f"{doors.COOP} OPTIM.MAX_EPOCH {EPOCHS} TRAIN.CHECKPOINT_FREQ 1".split()
LAST = f"out/prompt_learner/model.pth.tar-{EPOCHS}"


def killed_and_resumed(folder: Path, after: float) -> tuple[bool, Ended]:
    """A training killed `after` seconds, then started again.

    Returns:
        Whether it was killed while it ran; how the second start ended.
    """
    first = run(COMMAND, folder, kill_after=after)
    return first.status == -9, run(COMMAND, folder)


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


def measure(seed: int = SEED, kills: int = 100, record: Record | None = None) -> list[Trial]:
    """Kills so many trainings, and starts them again; what came of each."""
    record = record or Record()
    with tempfile.TemporaryDirectory() as name:
        world = prepare(Path(name))
        whole = Path(name, "whole")
        doors.copy(world, whole)
        started = time.monotonic()
        assert run(COMMAND, whole).status == 0
        lasts = time.monotonic() - started
        for number in record.missing(KIND, [str(number) for number in range(1, kills + 1)]):
            rng, folder, killed = random.Random(f"{seed} {number}"), Path(name, "killed"), False
            while not killed:
                shutil.rmtree(folder, ignore_errors=True)
                doors.copy(world, folder)
                killed, again = killed_and_resumed(folder, rng.uniform(0, lasts))
            good = again.status == 0 and same_end(folder, whole)
            record.add(KIND, number, Verdict.HARMLESS if good else Verdict.SILENT, again)
    return record.of(KIND)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    trials = measure(given.seed, given.kills, Record(given.record))
    good = sum(trial.good for trial in trials)
    print(f"{len(trials)} kills, {good} resumed to the same weights and momenta bit for bit")
    sys.exit(len(trials) != good)


if __name__ == "__main__":
    main()
