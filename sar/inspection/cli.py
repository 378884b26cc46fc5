"""`sarclip inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from sar.command_line.commands import PATH, POSITIVE, above_zero
from sar.settings.extensions import extensible


@click.command(
    epilog="With one folder, the same training with (or without) SAR is found beside it. The "
    "hand-crafted prompt, temperature and novel classes are those of the first training with SAR."
)
@click.argument("folders", type=PATH, nargs=-1, required=True)
@click.option(
    "--classes",
    type=click.Choice(["new", "base", "all", "novel"]),
    default="new",
    show_default=True,
    help="new: the unseen ones; novel: those that stood in for them in the training.",
)
@click.option("--root", default="", metavar="DIR", help="Folder with the datasets, if it moved.")
@click.option("--output", type=PATH, metavar="DIR", help="[default: the first model's folder]")
@click.option(
    "--top",
    type=POSITIVE,
    default=10,
    show_default=True,
    metavar="N",
    help="Lines in the class table.",
)
@click.option(
    "--temperature",
    type=above_zero,
    metavar="T",
    help="Of the divergence. [default: as in the training]",
)
@extensible
def inspect(
    folders: tuple[Path, ...],
    classes: str,
    root: str,
    output: Path | None,
    top: int,
    temperature: float | None,
) -> None:
    """Show what trained prompts did to the relations between classes.

    Heatmaps of similarities under hand-crafted and learned prompts, each class's divergence, and
    the classes whose nearest neighbours changed. FOLDERS are output folders of trainings
    (train_base/...).
    """
    from sar.inspection.comparison import compare_models

    compare_models(folders, classes, root, output, top, temperature)
