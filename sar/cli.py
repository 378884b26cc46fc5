"""The ``sarclip`` command. Everything slow is imported by the command that needs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

import sar
from sar.command_line.commands import PATH, CommandGroup, run

_COMMANDS = {
    "train": (
        "sar.single_run:train",
        "Train or test one trainer on one dataset, with the arguments of CoOp's train.py.",
    ),
    "config": ("sar.single_run:config", "List configurations; show and check that of a run."),
    "protocol": ("sar.protocols.cli:protocol", "Run the jobs of an evaluation protocol."),
    "results": ("sar.results.cli:results", "Build tables of results from log files."),
    "report": (
        "sar.results.cli:report",
        "Write one HTML page with all results of an output folder.",
    ),
    "inspect": (
        "sar.inspection.cli:inspect",
        "Show what a trained prompt did to the relations between classes.",
    ),
    "predict": ("sar.classifier.cli:predict", "Label pictures with a trained prompt."),
    "evaluate": (
        "sar.classifier.cli:evaluate",
        "Measure a trained prompt on pictures whose classes are known.",
    ),
    "export": (
        "sar.classifier.cli:export",
        "Write a trained prompt into a folder that stands alone.",
    ),
    "app": (
        "sar.classifier.cli:app",
        "Open a page that labels pictures, and lets the classes be edited.",
    ),
    "novel": (
        "sar.novel.cli:novel",
        "Make novel class names with a language model, and check them.",
    ),
    "describe": (
        "sar.describe.cli:describe",
        "Make descriptions of classes with a language model.",
    ),
    "retrieval": (
        "sar.tasks.cli:retrieval",
        "Find captions by images, images by captions: CLIP as it is, and AAPE.",
    ),
    "caption": (
        "sar.tasks.caption_cli:caption",
        "Say what pictures show, with a frozen language model; measure it.",
    ),
    "vqa": (
        "sar.tasks.vqa_cli:vqa",
        "Answer questions about pictures, with a frozen language model; measure it.",
    ),
    "data": ("sar.data.cli:data", "Show, check or download datasets; check your own pictures."),
    "run": (
        "sar.host.run:run",
        "Run a script of a checkout of CoOp or a relative, with the SAR_X trainers known.",
    ),
}


@click.group(cls=CommandGroup, lazy=_COMMANDS)
@click.version_option(sar.__version__, message="%(prog)s %(version)s")
def app() -> None:
    """Similarity alignment regularization (SAR) for prompt learning on CLIP."""


@app.group()
def host() -> None:
    """Whether `python train.py --trainer SAR_X` works in checkouts of CoOp and its relatives."""


@app.command()
def trainers() -> None:
    """Print the names of the registered trainers, one a line."""
    from sar.host import register

    for name in register():
        print(name)


@app.command()
@click.option("--root", type=PATH, metavar="DIR", help="Folder that holds the datasets.")
def doctor(root: Path | None) -> None:
    """Say what is here, what is missing and what to do. Exit status 1: training cannot run."""
    from sar.doctor import main

    if not main(root):
        raise SystemExit(1)


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL runs to complete commands: eval "$(sarclip completion bash)"."""
    from click.shell_completion import get_completion_class

    if script := get_completion_class(shell):
        print(script(app, {}, "sarclip", "_SARCLIP_COMPLETE").source())


@host.command()
def enable() -> None:
    """Let `python train.py` in a checkout know the SAR_X trainers, in this Python environment."""
    from sar.host.switch import enable

    print(f"Enabled in {enable()}. Undo it with: sarclip host disable")


@host.command()
def disable() -> None:
    """Undo `sarclip host enable`."""
    from sar.host.switch import disable

    files = disable()
    print("\n".join(f"Removed {file}" for file in files) or "It was not enabled.")


@host.command()
def status() -> None:
    """Say whether it is enabled here."""
    from sar.host.switch import status

    state, folder = status()
    print(f"{state.value} ({folder})" if folder else state.value)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line `argv` (default: the process's) and exits, as `run` does."""
    run(app, argv, "sarclip")
