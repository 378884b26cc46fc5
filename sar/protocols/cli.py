"""`sarclip protocol NAME ...`: list or run the jobs of a protocol, then print its table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sar.errors import ConfigError
from sar.protocols.base2new import BaseToNew
from sar.protocols.configs import DEMO_DATASETS, SEEDS, SHOTS, TRAINERS
from sar.protocols.jobs import Job, State
from sar.protocols.local import SARCLIP, LocalRunner, default_workers
from sar.results import collect, problems_text, to_text, write_files

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, target: str = SARCLIP) -> None:
    """Run one protocol. Exits with status 1 if a job failed and 130 if it was interrupted.

    Args:
        target: module:function that runs a job's arguments.

    Raises:
        ConfigError: the arguments name something that does not exist.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    names = "sarclip protocol {base2new} --help"
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {names}")
        return
    if argv[0] != "base2new":
        raise ConfigError(f"there is no protocol {argv[0]!r}; see {names}")
    args = _parser().parse_intermixed_args(argv[1:])
    if len(args.options) % 2:
        raise ConfigError(f"options must be KEY VALUE pairs, found {' '.join(args.options)!r}")
    jobs = BaseToNew(
        args.datasets,
        args.seeds,
        args.output,
        args.trainers,
        args.root,
        args.shots,
        args.cfg,
        args.options,
    ).jobs()
    if args.dry_run:
        _list(jobs)
    else:
        _run(jobs, args.output, args.jobs, target)


def _list(jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = job.state()
        print(f"{job.title}: {job.conflict() if state is State.CONFLICT else state.value}")
        print(f"  {job.command()}")


def _run(jobs: Sequence[Job], output: Path, workers: int, target: str) -> None:
    print(f"{len(jobs)} jobs, up to {workers} at a time, into {output}", flush=True)
    runner = LocalRunner(jobs, workers, target)
    try:
        outcomes = runner.run()
    except KeyboardInterrupt:
        done = sum(outcome.ok for outcome in runner.outcomes.values())
        print(
            f"\ninterrupted: {done} of {len(jobs)} jobs are finished; "
            "the same command continues with the rest",
            file=sys.stderr,
        )
        raise SystemExit(_INTERRUPTED) from None
    results = collect(output)
    if results.records:
        print(f"\n{to_text(results)}")
        print("wrote " + ", ".join(str(path) for path in write_files(results, output)))
    if problems := problems_text(results):
        print(f"\n{problems}", end="")
    if failed := [outcome for outcome in outcomes if not outcome.ok]:
        print(f"\n{len(failed)} of {len(jobs)} jobs failed or could not run:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.job.title}: {outcome.message}", file=sys.stderr)
        raise SystemExit(1)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sarclip protocol base2new",
        description="Base-to-new: train on the base half of the classes, test on both halves. "
        "Without arguments, on the embedded demo datasets with the pocket CLIP. Finished jobs are "
        "skipped, unfinished ones resumed, nothing is overwritten.",
    )
    parser.add_argument(
        "--datasets",
        type=_names,
        default=DEMO_DATASETS,
        metavar="A,B",
        help=f"files in configs/datasets (default: {','.join(DEMO_DATASETS)})",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=SEEDS,
        metavar="1,2",
        help=f"default: {','.join(map(str, SEEDS))}",
    )
    parser.add_argument(
        "--trainers",
        type=_names,
        default=TRAINERS,
        metavar="A,B",
        help=f"default: {','.join(TRAINERS)}",
    )
    parser.add_argument(
        "--root",
        default="",
        metavar="DATA",
        help="folder that holds the datasets; the demo needs none",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/base2new"),
        metavar="DIR",
        help="default: %(default)s",
    )
    parser.add_argument("--shots", type=_positive, default=SHOTS, help="default: %(default)s")
    parser.add_argument(
        "--cfg",
        default="",
        metavar="NAME",
        help="file in configs/trainers/TRAINER (default: the published one; pocket for the demo)",
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=default_workers(),
        metavar="N",
        help="processes at a time (default here: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and their state")
    parser.add_argument(
        "options",
        nargs="*",
        metavar="KEY VALUE",
        help="configuration options for every job; TRAINER.SAR.* for SAR only",
    )
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, found {text!r}")
    return number


def _seeds(text: str) -> tuple[int, ...]:
    # CoOp's train.py takes --seed 0 for "no seed", hence from 1 up.
    return tuple(_positive(seed) for seed in _names(text))
