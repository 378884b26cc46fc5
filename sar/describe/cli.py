"""`sarclip describe generate`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from sar.asking.options import KEY_FROM, Asking, asking_options
from sar.asking.order import portions
from sar.asking.subjects import base_new_and_novel, dataset_option, stem
from sar.classes.identity import without
from sar.command_line.commands import PATH, POSITIVE, CommandGroup


@click.group(cls=CommandGroup)
def describe() -> None:
    """Make descriptions of classes in natural language."""


@describe.command(epilog=KEY_FROM)
@dataset_option
@click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Classes of your own: .txt with one a line, .csv, .json, a classes.yaml, or novel names.",
)
@click.option(
    "--count", type=POSITIVE, metavar="K", default=5, show_default=True, help="For each class."
)
@asking_options("descriptions", 10, "Classes")
def generate(dataset: str | None, classes: Path | None, count: int, asking: Asking) -> None:
    """Ask a language model what classes look like.

    It lies behind an OpenAI-compatible endpoint and is shown class names alone, base, new and novel
    ones in different requests. The file is written after every answer; the same command goes on
    where it was stopped.
    """
    from sar.describe.question import SYSTEM, estimate, messages

    groups: list[list[str]] = []
    for group in base_new_and_novel(dataset, classes):
        groups.append([*without(group, chain(*groups))])
    number = sum(map(len, groups))
    if asking.dry_run:
        parts = [part for group in groups for part in portions(group, asking.portion)]
        sent, received = estimate(parts, count)
        print(
            f"{SYSTEM}\n\n{messages(parts[0], count, {})[1]['content']}\n\n"
            f"This is the first of about {len(parts)} requests for {count} descriptions of each "
            f"of {number} classes.\nExpected: {sent:,} input and {received:,} output tokens, if "
            "every answer can be used. Estimated with\n4 characters a token and 80 a sentence; a "
            "model that reasons first takes more."
        )
        return
    asking.check()
    from sar.describe.generate import DescriptionFile

    file = asking.run(DescriptionFile, dataset or stem(classes), groups, count, "descriptions")
    print(
        f"{file.summary()}. Use it with TRAINER.AAPE.DESCRIPTIONS {file.path} or "
        f"TRAINER.SAR.TEMPLATE descriptions:{file.path}"
    )
