"""`sarclip protocol NAME ...`: list or run the jobs of a protocol, then print its table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from sar.command_line.commands import (
    PATH,
    POSITIVE,
    CommandGroup,
    KeyValueCommand,
    call,
    key_value,
    names,
    numbers,
    shares,
)
from sar.command_line.signals import interrupted
from sar.errors import ConfigError
from sar.protocols.ablation import Ablation
from sar.protocols.all_classes import CrossDataset, DomainGeneralization, FewShot
from sar.protocols.base2new import BaseToNew
from sar.protocols.jobs import Job, State
from sar.protocols.launcher import Launcher, Outcome, run
from sar.protocols.local import LocalLauncher, default_workers
from sar.protocols.plan import PLANS, Plan, add_protocol, refuse_idle
from sar.protocols.progress import Progress
from sar.protocols.reuse import take_over, twin_of
from sar.protocols.studies import COMPARISONS, STUDIES
from sar.protocols.work import CHECK, SARCLIP
from sar.results import collect, problems_text, to_text, write_files
from sar.results.protocol import record_protocol
from sar.results.provenance import pictures_passed_over, read_log
from sar.settings.dataset_records import in_group
from sar.settings.extensions import import_file, imported, parameters

for _plan in (BaseToNew, CrossDataset, DomainGeneralization, FewShot, Ablation):
    add_protocol(_plan)

SUBMISSIONS = ".slurm"  # in the output folder


def _start(kind: type[Plan], given: dict[str, Any], target: str = SARCLIP) -> None:
    """Run one protocol. Exits with status 1 if a job failed and 130 if it was interrupted."""
    output: Path = given["output"]
    if given["per_gpu"] and not given["gpus"]:
        raise ConfigError("--per-gpu needs the GPUs to share: --gpus 0,1")
    chosen = {f.name: given[f.name] for f in fields(kind) if given.get(f.name) is not None}
    plan = kind(**chosen, imports=imported())
    if not (jobs := plan.jobs()):
        raise ConfigError(f"{plan.name} has nothing to do; name datasets (--datasets A,B)")
    refuse_idle(plan, jobs)
    if given["options"] and target == SARCLIP:
        _check(jobs)
    if given["dry_run"]:
        _list(jobs, output, given["models"])
        return
    launcher = _launcher(given, output, target)
    record_protocol(output, plan.record())
    if given["models"]:
        taken = take_over(jobs, output, given["models"])
        print(f"{len(taken)} finished trainings taken over from {given['models']}")
    print(f"{len(jobs)} jobs, {launcher.place}, into {output}", flush=True)
    _report(_run(jobs, launcher), output)


def _check(jobs: Sequence[Job]) -> None:
    """Raises ConfigError for settings with which a job could not start: one of each kind.

    Prints what else is to be known of them.
    """
    module, _, function = CHECK.partition(":")
    check = getattr(importlib.import_module(module), function)
    kinds = {(job.files, job.options): job for job in jobs}.values()
    for note in dict.fromkeys(check(job.argv()[1:]) for job in kinds):
        if note:
            print(note)


def _launcher(given: dict[str, Any], output: Path, target: str) -> Launcher:
    """The launcher that the arguments ask for."""
    cluster = {
        key: value
        for key in ("partition", "array_parallelism")
        if (value := given[key]) is not None
    } | dict(given["slurm"])
    jobs, gpus = given["jobs"], given["gpus"] or ()
    if given["launcher"] == "local":
        if cluster:
            raise ConfigError(f"{', '.join(cluster)}: for --launcher slurm only")
        return LocalLauncher(jobs, gpus, given["per_gpu"] or 1, target, given["time"])
    if jobs or gpus:
        raise ConfigError(
            "--jobs and --gpus are for --launcher local; with slurm use --array-parallelism N and "
            "--slurm gpus_per_node=1"
        )
    if given["time"]:
        cluster["time"] = given["time"]
    from sar.protocols.slurm import SlurmLauncher

    return SlurmLauncher(output / SUBMISSIONS, cluster, target)


def _list(jobs: Sequence[Job], output: Path, models: Path | None) -> None:
    for job in jobs:
        state = job.state()
        said = job.conflict() if state is State.CONFLICT else state.value
        if models and (twin := twin_of(job, output, models)):
            said = f"to take over from {twin}"
        print(f"{job.title}: {said}")
        print(f"  {job.command()}")


def _run(jobs: Sequence[Job], launcher: Launcher) -> list[Outcome]:
    try:
        with Progress(len(jobs)) as progress:
            return run(jobs, launcher, progress)
    except KeyboardInterrupt as error:
        done = sum(job.state() is State.FINISHED for job in jobs)
        raise interrupted(
            error,
            f": {done} of {len(jobs)} jobs are finished; the same command continues with the rest",
        ) from None


def _report(outcomes: Sequence[Outcome], output: Path) -> None:
    results = collect(output)
    if results.records:
        print(f"\n{to_text(results)}")
        print("wrote " + ", ".join(str(path) for path in write_files(results, output)))
    runs = [read_log(place) for place in results.places]
    if passed_over := pictures_passed_over(runs):
        print("\nPictures: " + "\n          ".join(passed_over))
    if problems := problems_text(results):
        print(f"\n{problems}", end="")
    if failed := [outcome for outcome in outcomes if not outcome.ok]:
        print(f"\n{len(failed)} of {len(outcomes)} jobs failed or could not run:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.job.title}: {outcome.message}", file=sys.stderr)
        raise SystemExit(1)


def _datasets(text: str) -> tuple[str, ...]:
    found = [name for entry in names(text) for name in in_group(entry) or (entry,)]
    return tuple(dict.fromkeys(found))


_FIELDS: dict[str, dict[str, Any]] = {
    "datasets": {
        "type": _datasets,
        "metavar": "A,B",
        "help": "Files in configs/datasets, or groups of them; all: the eleven of the field, demo: "
        "the embedded ones.",
    },
    "source": {"metavar": "DATASET", "help": "What is trained on, e.g. imagenet."},
    "targets": {
        "type": _datasets,
        "metavar": "A,B",
        "help": "What is tested on. [default: the usual ones of imagenet and of demo datasets]",
    },
    "studies": {
        "type": names,
        "metavar": "A,B",
        "help": f"What is varied: {', '.join(STUDIES)} [default: all these]; "
        f"{', '.join(COMPARISONS)}.",
    },
    "settings": {
        "multiple": True,
        "metavar": "NAME",
        "help": 'One setting of the studies by its name in the tables, such as "kl, weight 1"; may '
        "be repeated. [default: all; with it all studies that have such a setting]",
    },
    "averaged": {
        "type": shares,
        "metavar": "0.5,...",
        "help": "Test every trained model also with text features that are so much learned and "
        "the rest hand-crafted.",
    },
    "trainers": {"type": names, "metavar": "A,B", "help": "See `sarclip trainers`."},
    "seeds": {"type": numbers, "metavar": "1,2", "help": "Each draws its own shots."},
    "shots": {"type": numbers, "metavar": "K", "help": "Training images per class, e.g. 4,16."},
    "root": {"metavar": "DATA", "help": "Folder that holds the datasets; the demo needs none."},
    "cfg": {
        "metavar": "NAME",
        "help": "File in configs/trainers/TRAINER. [default: the published one, or pocket]",
    },
    "output": {"type": PATH, "metavar": "DIR", "help": "Where results go."},
}
"""Fields of plans that are options of the command."""


def _field_options(kind: type[Plan]) -> list[click.Parameter]:
    options: list[click.Parameter] = []
    for field in fields(kind):
        if field.name not in _FIELDS:
            continue
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        elif default is MISSING:
            default = Path("output", kind.name)
        if isinstance(default, tuple):
            default = ",".join(map(str, default)) or None  # none given: the plan knows which
        attributes = {"show_default": bool(default), "default": default, **_FIELDS[field.name]}
        options.append(click.Option([f"--{field.name}"], **attributes))
    return options


def _launching_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--models"],
            type=PATH,
            metavar="DIR",
            help="Another protocol's output: finished trainings of the same settings are taken "
            "over.",
        ),
        click.Option(
            ["--jobs"],
            type=POSITIVE,
            metavar="N",
            help=f"Processes at a time. [default here: {default_workers()}; with --gpus one per "
            "slot]",
        ),
        click.Option(
            ["--gpus"],
            type=names,
            metavar="0,1",
            help="GPUs to spread the jobs over, as in CUDA_VISIBLE_DEVICES.",
        ),
        click.Option(["--per-gpu"], type=POSITIVE, metavar="N", help="Jobs per GPU. [default: 1]"),
        click.Option(
            ["--launcher"],
            type=click.Choice(["local", "slurm"]),
            default="local",
            show_default=True,
            help="Where jobs run; slurm needs this command to stay open.",
        ),
        click.Option(["--partition"], metavar="NAME", help="SLURM partition."),
        click.Option(
            ["--array-parallelism"], type=POSITIVE, metavar="N", help="SLURM jobs at a time."
        ),
        click.Option(
            ["--time"],
            type=POSITIVE,
            metavar="MINUTES",
            help="Time limit of a job. On SLURM it continues behind it [default: 5]; here it has "
            "failed, and the next start continues it [default: none].",
        ),
        click.Option(
            ["--slurm"],
            type=key_value,
            multiple=True,
            metavar="KEY=VALUE",
            help="More for SLURM: gpus_per_node, cpus_per_task, mem, account, qos, ...",
        ),
        click.Option(["--dry-run"], is_flag=True, help="List the jobs and their state."),
    ]


def _command(kind: type[Plan]) -> click.Command:
    @click.pass_obj
    def start(target: str | None, **given: Any) -> None:
        _start(kind, given, target or SARCLIP)

    options = click.Argument(["options"], nargs=-1, metavar="[KEY VALUE]...")
    return KeyValueCommand(
        kind.name,
        params=[*_field_options(kind), *_launching_options(), *parameters(), options],
        callback=start,
        help=f"{kind.summary}\n\nWithout arguments, on embedded demo datasets with the pocket "
        "CLIP. KEY VALUE pairs are options for every job; TRAINER.SAR.* for SAR only. Finished "
        "jobs are skipped, unfinished ones resumed, nothing is overwritten.",
    )


class _Protocols(CommandGroup):
    """A command for every protocol, also for those in the files of --import."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        for word, following in zip(args, [*args[1:], ""], strict=True):
            option, equals, file = word.partition("=")
            if option == "--import" and (equals or following):
                import_file(Path(file if equals else following))
        return super().parse_args(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(PLANS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _command(PLANS[name]) if name in PLANS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, plan.summary) for name, plan in PLANS.items()])


protocol = _Protocols(
    "protocol",
    params=parameters(),
    help="Run the jobs of an evaluation protocol, then print its table.",
)


def main(argv: Sequence[str], target: str = SARCLIP) -> None:
    """``sarclip protocol`` within a process; `target`: module:function that runs a job's arguments.

    Raises:
        ConfigError: the arguments name something that does not exist.
    """
    call(protocol, argv, context=target)
