"""The ``sarclip`` command. Everything slow is imported by the command that needs it."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from sar.errors import SARError

app = typer.Typer(
    help="Similarity alignment regularization (SAR) for prompt learning on CLIP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

host = typer.Typer(
    help="Whether `python train.py --trainer SAR_X` works in checkouts of CoOp and its relatives.",
    no_args_is_help=True,
)
app.add_typer(host, name="host")

# The command hands its arguments on unread, --help included.
_HAND_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@app.command()
def trainers() -> None:
    """Print the names of the registered trainers, one a line."""
    from sar.host import register

    for name in register():
        print(name)


@app.command(context_settings=_HAND_ON)
def train(context: typer.Context) -> None:
    """Train or test one trainer on one dataset, with the arguments of CoOp's train.py."""
    from sar.config import add_sar_config
    from sar.host import register
    from sar.toolbox.train import main

    main(context.args, extend_cfg=add_sar_config, register=register)


@app.command(context_settings=_HAND_ON)
def run(context: typer.Context) -> None:
    """Run a script of a checkout of CoOp or a relative, with the SAR_X trainers known."""
    from sar.host.run import run

    run(context.args)


@app.command()
def doctor(
    root: Path | None = typer.Option(None, help="Folder that holds the datasets."),  # noqa: B008
) -> None:
    """Say what is here, what is missing and what to do. Exit status 1: training cannot run."""
    from sar.doctor import main

    if not main(root):
        raise SystemExit(1)


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


@app.command(context_settings=_HAND_ON)
def results(context: typer.Context) -> None:
    """Build tables of results from log files."""
    from sar.results.cli import main

    main(context.args)


@app.command(context_settings=_HAND_ON)
def report(context: typer.Context) -> None:
    """Write one HTML page with all results of an output folder."""
    from sar.results.cli import report

    report(context.args)


@app.command(context_settings=_HAND_ON)
def protocol(context: typer.Context) -> None:
    """Run the jobs of an evaluation protocol."""
    from sar.protocols.cli import main

    main(context.args)


@app.command(context_settings=_HAND_ON)
def inspect(context: typer.Context) -> None:
    """Show what a trained prompt did to the relations between classes."""
    from sar.inspection.cli import main

    main(context.args)


@app.command(context_settings=_HAND_ON)
def novel(context: typer.Context) -> None:
    """Make novel class names with a language model, and check them."""
    from sar.novel.cli import main

    main(context.args)


@app.command(context_settings=_HAND_ON)
def data(context: typer.Context) -> None:
    """Show, check or download the field's datasets."""
    from sar.data.cli import main

    main(context.args)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line `argv` (default: the process's) and exits.

    A `SARError` becomes one line on standard error and exit status 1.
    """
    try:
        app(args=None if argv is None else list(argv), prog_name="sarclip")
    except SARError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
