"""Tries all malformed inputs and says what came of them.

python tests/fuzz/measure.py [--seed N] [--record FILE] [--again] [WORD ...]

With words: those inputs whose description has them. With a record: those that it lacks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import doors  # noqa: E402
from cases import Case, all_cases  # noqa: E402
from products import MADE  # noqa: E402
from record import Record, Trial  # noqa: E402
from running import Ended, Verdict, judge, run  # noqa: E402

SEED, KIND = 13, "input"


def prepare(folder: Path) -> Path:
    """The world, with a prompt trained in it, and what is made from that."""
    world = folder / "world"
    doors.write_files(world)
    for command in (f"{doors.COOP} --output-dir trained", *MADE):
        ended = run(command.split(), world)
        assert ended.status == 0, ended.err
    for name in (".out", ".err"):
        (world / name).unlink()
    return world


def usual(world: Path, folder: Path, commands: Sequence[str]) -> dict[str, Ended]:
    """What each command gives when nothing is wrong."""
    found = {}
    for number, command in enumerate(dict.fromkeys(commands)):
        place = folder / f"usual{number}"
        doors.copy(world, place)
        found[command] = run(command.split(), place)
    return found


def try_case(case: Case, world: Path, folder: Path, seed: int) -> Ended:
    """Runs one case in a folder of its own."""
    doors.copy(world, folder)
    if case.mutate:
        case.mutate(folder / case.door.file, random.Random(f"{seed} {case}"))
    return run([*case.door.argv, *case.more], folder)


class Inputs:
    """All cases in one world; the processes of a pool inherit it."""

    def __init__(self, folder: Path, seed: int, words: Sequence[str]) -> None:
        self.folder, self.seed, self.world = folder, seed, prepare(folder)
        found = all_cases(seed, self.world)
        self.cases = [case for case in found if all(word in str(case) for word in words)]
        commands = [case.door.command for case in self.cases if case.door.file or case.more]
        self.usual = usual(self.world, folder, commands)

    def __call__(self, number: int) -> tuple[int, Verdict, Ended]:
        case, folder = self.cases[number], self.folder / str(number)
        ended = try_case(case, self.world, folder, self.seed)
        before = self.usual.get(case.door.command)
        if (folder / "pwned").exists():
            return number, Verdict.TRACEBACK, ended
        shutil.rmtree(folder, ignore_errors=True)
        return number, judge(ended, before.figures if before else ("?",), case.argument), ended


def measure(
    seed: int = SEED,
    words: Sequence[str] = (),
    at_once: int = 2,
    record: Record | None = None,
    again: bool = False,
) -> Iterator[Trial]:
    """Tries the inputs whose description has the words and that the record lacks.

    Args:
        again: those that it has, too.
    """
    record = record or Record()
    with tempfile.TemporaryDirectory() as name:
        _pool_inputs.append(inputs := Inputs(Path(name), seed, words))
        names = [str(case) for case in inputs.cases]
        left = set(names if again else record.missing(KIND, names))
        numbers = [number for number, name in enumerate(names) if name in left]
        print(f"{len(numbers)} of {len(names)} inputs to try", flush=True)
        random.Random(seed).shuffle(numbers)  # a run that is stopped has seen some of everything
        with get_context("fork").Pool(at_once) as pool:
            for number, verdict, ended in pool.imap_unordered(_try, numbers):
                yield record.add(KIND, names[number], verdict, ended)
        _pool_inputs.clear()


_pool_inputs: list[Inputs] = []


def _try(number: int) -> tuple[int, Verdict, Ended]:
    return _pool_inputs[0](number)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The command line that all measurements share."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--record", type=Path, help="keeps what came of each; goes on with the rest"
    )
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="those in the record, too")
    parser.add_argument("--verbose", action="store_true", help="say what came of each")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    record = Record(given.record)
    for trial in measure(given.seed, given.words, given.at_once, record, given.again):
        counts[trial.verdict] += 1
        if not trial.good or given.verbose:
            print(f"{trial.verdict}: {trial.what} -> {trial.said}", flush=True)
    sums = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    print(f"{counts.total()} inputs: {sums}")
    sys.exit(any(not Verdict(verdict).good for verdict in counts))


if __name__ == "__main__":
    main()
