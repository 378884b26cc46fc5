"""`sarclip train` and `sarclip config`: a run of the embedded toolbox, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from tabulate import tabulate
from yacs.config import CfgNode

from sar.command_line.commands import CommandGroup, continues
from sar.settings.extensions import extensible
from sar.toolbox import train as toolbox
from sar.toolbox.run_arguments import Arguments, RunCommand, parse_arguments


def _with_sar() -> tuple[Callable[[CfgNode], None], Callable[[], object]]:
    """What the toolbox is told of SAR: its keys, and how its trainers are registered."""
    from sar.config import add_sar_config
    from sar.host import register

    return add_sar_config, register


def _train(args: Arguments) -> None:
    with continues():
        toolbox.run(args, *_with_sar())


def _show(args: Arguments) -> None:
    print(toolbox.configure(args, *_with_sar()))


def check(argv: Sequence[str]) -> str:
    """A line on what its training will not do, if there is something of the kind.

    Raises ConfigError unless `sarclip train` with the arguments `argv` has settings to start.
    """
    args = parse_arguments(argv)
    return _note(args, _checked(args))


def _checked(args: Arguments) -> CfgNode:
    cfg = toolbox.configure(args, *_with_sar())

    from sar.toolbox.engine import TRAINER_REGISTRY

    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    # What its constructor begins with, before there is anything else of it.
    trainer.__new__(trainer).check_cfg(cfg)
    return cfg


def _note(args: Arguments, cfg: CfgNode) -> str:
    from sar.toolbox.optim import warmup_note

    return "" if args.eval_only else warmup_note(cfg.OPTIM)


def _validate(args: Arguments) -> None:
    cfg = _checked(args)
    print(f"valid: {cfg.TRAINER.NAME} on {cfg.DATASET.NAME} with {cfg.MODEL.BACKBONE.NAME}")
    if note := _note(args, cfg):
        print(note)


train = RunCommand(
    "train",
    _train,
    help="Train a prompt learner and test it, or test only.\n\nThe arguments are those of CoOp's "
    "train.py. KEY VALUE pairs are configuration keys and their values.",
)


@click.group(cls=CommandGroup)
def config() -> None:
    """List the configurations that are shipped; show and check the settings of a run."""


config.add_command(
    RunCommand(
        "show",
        _show,
        help="Print all settings of the run that `sarclip train` with the same arguments starts.",
    )
)
config.add_command(
    RunCommand(
        "validate",
        _validate,
        help="Check the settings of a run and start nothing. Exit status 1: one of them is wrong.",
    )
)


@config.command("list")
@extensible
def list_configs() -> None:
    """Print the configuration files of trainers and datasets."""
    from sar.protocols.configs import config_files

    rows = [(kind, owner, ", ".join(names)) for kind, owner, names in config_files()]
    print(tabulate(rows, ("for", "name", "files"), maxcolwidths=[None, None, 70]))
