"""`sarclip protocol NAME ...`: list or run the jobs of a protocol, then print its table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn

from sar.errors import ConfigError, DataError
from sar.protocols.ablation import STUDIES, Ablation
from sar.protocols.all_classes import CrossDataset, DomainGeneralization, FewShot
from sar.protocols.base2new import BaseToNew
from sar.protocols.configs import DATASET_GROUPS
from sar.protocols.jobs import Job, State
from sar.protocols.launcher import Launcher, Outcome, run
from sar.protocols.local import LocalLauncher, default_workers
from sar.protocols.plan import Plan
from sar.protocols.progress import Progress
from sar.protocols.reuse import take_over
from sar.protocols.work import SARCLIP
from sar.results import collect, problems_text, to_text, write_files
from sar.results.protocol import record_protocol

PLANS: dict[str, type[Plan]] = {
    plan.name: plan for plan in (BaseToNew, CrossDataset, DomainGeneralization, FewShot, Ablation)
}
_INTERRUPTED = 130
SUBMISSIONS = ".slurm"  # in the output folder


def main(argv: Sequence[str] | None = None, target: str = SARCLIP) -> None:
    """Run one protocol. Exits with status 1 if a job failed and 130 if it was interrupted.

    Args:
        target: module:function that runs a job's arguments.

    Raises:
        ConfigError: the arguments name something that does not exist.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    names = "{" + ",".join(PLANS) + "}"
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: sarclip protocol {names} [--help] ...\n")
        print("\n".join(plan.summary for plan in PLANS.values()))
        return
    if argv[0] not in PLANS:
        raise ConfigError(f"there is no protocol {argv[0]!r}; see sarclip protocol {names} --help")
    kind = PLANS[argv[0]]
    args = _parser(kind).parse_intermixed_args(argv[1:])
    if len(args.options) % 2:
        raise ConfigError(f"options must be KEY VALUE pairs, found {' '.join(args.options)!r}")
    if args.per_gpu and not args.gpus:
        raise ConfigError("--per-gpu needs the GPUs to share: --gpus 0,1")
    plan = kind(**{f.name: getattr(args, f.name) for f in fields(kind) if f.name in _ARGUMENTS})
    jobs = plan.jobs()
    if args.dry_run:
        _list(jobs)
        return
    launcher = _launcher(args, target)
    try:
        record_protocol(args.output, plan.record())
    except OSError as error:
        raise DataError(f"cannot write into {args.output}: {error}; choose --output") from error
    if args.models:
        taken = take_over(jobs, args.output, args.models)
        print(f"{len(taken)} finished trainings taken over from {args.models}")
    print(f"{len(jobs)} jobs, {launcher.place}, into {args.output}", flush=True)
    _report(_run(jobs, launcher), args.output)


def _launcher(args: argparse.Namespace, target: str) -> Launcher:
    cluster = {
        "partition": args.partition,
        "array_parallelism": args.array_parallelism,
        "time": args.time,
    }
    given = {key: value for key, value in cluster.items() if value is not None}
    given |= dict(args.slurm)
    if args.launcher == "local":
        if given:
            raise ConfigError(f"{', '.join(given)}: for --launcher slurm only")
        return LocalLauncher(args.jobs, args.gpus, args.per_gpu or 1, target)
    if args.jobs or args.gpus:
        raise ConfigError(
            "--jobs and --gpus are for --launcher local; with slurm use --array-parallelism N and "
            "--slurm gpus_per_node=1"
        )
    from sar.protocols.slurm import SlurmLauncher

    return SlurmLauncher(args.output / SUBMISSIONS, given, target)


def _list(jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = job.state()
        print(f"{job.title}: {job.conflict() if state is State.CONFLICT else state.value}")
        print(f"  {job.command()}")


def _run(jobs: Sequence[Job], launcher: Launcher) -> list[Outcome]:
    try:
        with Progress(len(jobs)) as progress:
            return run(jobs, launcher, progress)
    except KeyboardInterrupt:
        done = sum(job.state() is State.FINISHED for job in jobs)
        print(
            f"\ninterrupted: {done} of {len(jobs)} jobs are finished; "
            "the same command continues with the rest",
            file=sys.stderr,
        )
        raise SystemExit(_INTERRUPTED) from None


def _report(outcomes: Sequence[Outcome], output: Path) -> None:
    results = collect(output)
    if results.records:
        print(f"\n{to_text(results)}")
        print("wrote " + ", ".join(str(path) for path in write_files(results, output)))
    if problems := problems_text(results):
        print(f"\n{problems}", end="")
    if failed := [outcome for outcome in outcomes if not outcome.ok]:
        print(f"\n{len(failed)} of {len(outcomes)} jobs failed or could not run:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.job.title}: {outcome.message}", file=sys.stderr)
        raise SystemExit(1)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _names(text: str) -> tuple[str, ...]:
    if not (names := tuple(dict.fromkeys(text.replace(",", " ").split()))):
        raise argparse.ArgumentTypeError("expected one or more, separated by commas; found none")
    return names


def _datasets(text: str) -> tuple[str, ...]:
    names = [n for name in _names(text) for n in DATASET_GROUPS.get(name, (name,))]
    return tuple(dict.fromkeys(names))


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, found {text!r}")
    return number


def _key_value(text: str) -> tuple[str, int | str]:
    key, found, value = text.partition("=")
    if not (key and found):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    return key, int(value) if value.isdecimal() else value


def _numbers(text: str) -> tuple[int, ...]:
    # Of seeds, CoOp's train.py takes 0 for "no seed", hence from 1 up.
    return tuple(dict.fromkeys(_positive(number) for number in _names(text)))


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "datasets": {
        "type": _datasets,
        "metavar": "A,B",
        "help": "files in configs/datasets; all: the eleven of the field, demo: the embedded four",
    },
    "source": {"metavar": "DATASET", "help": "what is trained on, e.g. imagenet"},
    "targets": {
        "type": _datasets,
        "metavar": "A,B",
        "help": "what is tested on (default: the usual ones of imagenet and of demo datasets)",
    },
    "studies": {
        "type": _names,
        "metavar": "A,B",
        "help": f"what is varied: {', '.join(STUDIES)} (default: all)",
    },
    "trainers": {"type": _names, "metavar": "A,B", "help": "see `sarclip trainers`"},
    "seeds": {"type": _numbers, "metavar": "1,2", "help": "each draws its own shots"},
    "shots": {"type": _numbers, "metavar": "K", "help": "training images per class, e.g. 4,16"},
    "root": {"metavar": "DATA", "help": "folder that holds the datasets; the demo needs none"},
    "cfg": {
        "metavar": "NAME",
        "help": "file in configs/trainers/TRAINER (default: the published one, or pocket)",
    },
    "output": {"type": Path, "metavar": "DIR", "help": "where results go"},
    "options": {
        "nargs": "*",
        "metavar": "KEY VALUE",
        "help": "options for every job; TRAINER.SAR.* for SAR only",
    },
}
"""Fields of plans that can be given as arguments."""


def _parser(kind: type[Plan]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"sarclip protocol {kind.name}",
        description=f"{kind.summary} Without arguments, on embedded demo datasets with the pocket "
        "CLIP. Finished jobs are skipped, unfinished ones resumed, nothing is overwritten.",
    )
    for field in fields(kind):
        if field.name in _ARGUMENTS and field.name != "options":
            default = Path("output", kind.name) if field.default is MISSING else field.default
            argument = dict(_ARGUMENTS[field.name])
            if default and "default:" not in argument["help"]:
                shown = default if isinstance(default, str | Path) else ",".join(map(str, default))
                argument["help"] += f" (default: {shown})"
            parser.add_argument(f"--{field.name}", default=default, **argument)
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="another protocol's output: finished trainings of the same settings are taken over",
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help=f"processes at a time (default here: {default_workers()}; with --gpus one per slot)",
    )
    parser.add_argument(
        "--gpus",
        type=_names,
        default=(),
        metavar="0,1",
        help="GPUs to spread the jobs over, as in CUDA_VISIBLE_DEVICES",
    )
    parser.add_argument("--per-gpu", type=_positive, metavar="N", help="jobs per GPU (default: 1)")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="where jobs run (default: %(default)s); slurm needs this command to stay open",
    )
    parser.add_argument("--partition", metavar="NAME", help="SLURM partition")
    parser.add_argument(
        "--array-parallelism", type=_positive, metavar="N", help="SLURM jobs at a time"
    )
    parser.add_argument(
        "--time",
        type=_positive,
        metavar="MINUTES",
        help="SLURM time limit of a job, which continues behind it (default: 5)",
    )
    parser.add_argument(
        "--slurm",
        type=_key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="more for SLURM: gpus_per_node, cpus_per_task, mem, account, qos, constraint, ...",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and their state")
    parser.add_argument("options", **_ARGUMENTS["options"])
    return parser
