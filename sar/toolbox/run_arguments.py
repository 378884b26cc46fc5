"""The command line of one run: CoOp's train.py's arguments, read and printed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click
from yacs.config import CfgNode

from sar.command_line.commands import KeyValueCommand, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line of a run; names as in CoOp's train.py."""

    root: str = ""
    output_dir: str = ""
    resume: str = ""
    seed: int | None = None
    source_domains: tuple[str, ...] = ()
    target_domains: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    config_file: str = ""
    dataset_config_file: str = ""
    trainer: str = ""
    backbone: str = ""
    head: str = ""
    imports: tuple[str, ...] = ()
    eval_only: bool = False
    model_dir: str = ""
    load_epoch: int | None = None
    no_train: bool = False
    opts: tuple[str, ...] = ()


class RunCommand(KeyValueCommand):
    """A command with the arguments of one run, which it hands on as `Arguments`."""

    _SEVERAL = ("--source-domains", "--target-domains", "--transforms")

    def __init__(self, name: str, run: Callable[[Arguments], None], **kwargs: Any) -> None:
        super().__init__(
            name, params=_parameters(), callback=lambda **g: run(Arguments(**g)), **kwargs
        )

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # "--transforms A B": as in train.py, all words up to the next option belong to this one.
        words: list[str] = []
        option = ""
        for word in args:
            if word.startswith("--"):
                option = word if word in self._SEVERAL else ""
                words.append(word)
            elif option and words[-1] != option:
                words += [option, word]
            else:
                words.append(word)
        return super().parse_args(context, words)


def _parameters() -> list[click.Parameter]:
    def text(name: str, metavar: str, help: str) -> click.Option:
        return click.Option([name], default="", metavar=metavar, help=help)

    def several(name: str, help: str) -> click.Option:
        return click.Option([name], multiple=True, metavar="NAME...", help=help)

    def flag(name: str, help: str) -> click.Option:
        return click.Option([name], is_flag=True, help=help)

    return [
        text("--root", "DIR", "Folder that holds the datasets."),
        text("--output-dir", "DIR", "For log.txt, checkpoints, TensorBoard."),
        text("--resume", "DIR", "Continue from here instead of --output-dir."),
        click.Option(["--seed"], type=int, help="0 or more: reproducible."),
        several("--source-domains", "Training domains."),
        several("--target-domains", "Test domains."),
        several("--transforms", "Training transforms."),
        text("--config-file", "YAML", "Method configuration."),
        text("--dataset-config-file", "YAML", "Dataset configuration."),
        text("--trainer", "NAME", "See `sarclip trainers`."),
        text("--backbone", "NAME", "CLIP: name, file, or pocket."),
        click.Option(
            ["--import", "imports"],
            multiple=True,
            metavar="FILE",
            help="Python file with trainers or datasets of your own (docs/add-a-method.md); "
            "repeatable.",
        ),
        text("--head", "NAME", "Accepted, without effect on CLIP."),
        flag("--eval-only", "Test without training."),
        text("--model-dir", "DIR", "With --eval-only: weights to test ..."),
        click.Option(
            ["--load-epoch"],
            type=int,
            metavar="N",
            help="... after this epoch. [default: the best]",
        ),
        flag("--no-train", "Build everything, then stop."),
        click.Argument(["opts"], nargs=-1, metavar="[KEY VALUE]..."),
    ]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments of one run; raises `UsageError` for wrong ones."""
    return Arguments(**parse(RunCommand("train", lambda args: None), argv))


def print_args(args: Arguments, cfg: CfgNode) -> None:
    """The two sections of a log that say how it came about; the published parsers read them."""
    print("***************\n** Arguments **\n***************")
    for field in sorted(fields(args), key=lambda field: field.name):
        value = getattr(args, field.name)
        if isinstance(value, tuple):  # written as train.py does
            value = list(value) if value or field.name == "opts" else None
        print(f"{field.name}: {value}")
    print("************\n** Config **\n************")
    print(cfg)
