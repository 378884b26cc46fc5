"""The classes that a command is about: of a dataset, or of a file."""

from __future__ import annotations

from pathlib import Path

import click

from sar.classes.class_list import is_class_list, read_class_list
from sar.classes.names import class_names, split_base_new
from sar.classes.novel_names import read_names
from sar.errors import ConfigError, DataError

dataset_option = click.option(
    "--dataset", metavar="NAME", help="A dataset whose class names are known."
)


def base_and_new(
    dataset: str | None, classes: Path | None, new_file: Path | None = None
) -> tuple[list[str], list[str] | None]:
    """Base classes, and new ones if they are known."""
    base, new, _ = _known(dataset, classes, new_file)
    if new_file:
        is_list = is_class_list(new_file)
        new = read_class_list(new_file).new if is_list else read_names(new_file)[0]
    return base, new


def base_new_and_novel(dataset: str | None, classes: Path | None) -> list[list[str]]:
    """All classes of a dataset or a file, base, new and novel ones apart; empty where unknown."""
    base, new, novel = _known(dataset, classes)
    return [base, new or [], novel]


def _known(
    dataset: str | None, classes: Path | None, new_file: Path | None = None
) -> tuple[list[str], list[str] | None, list[str]]:
    """Base, new (None: unknown) and novel classes; `new_file` goes with `classes` alone."""
    if (dataset is None) == (classes is None):
        found = "none" if classes is None else "both"
        raise click.UsageError(f"expected one of --dataset and --classes; found {found}")
    if dataset is not None:
        if new_file:
            raise ConfigError(
                "--new goes with --classes; the new classes of a --dataset are known."
            )
        return *split_base_new(_class_names(dataset)), []
    assert classes is not None
    new: list[str] | None
    if is_class_list(classes):
        listed = read_class_list(classes)
        base, new, novel = listed.base, listed.new or None, listed.novel
    else:
        names, made_from = read_names(classes)  # a file with novel names says from which
        base = [name for name in made_from or names if name.strip()]
        new, novel = None, [name for name in names if name.strip()] if made_from else []
    if not base:
        raise DataError(f"{classes} holds no class name; expected the base classes.")
    return base, new, novel


def stem(classes: Path | None) -> str:
    """The name for a file's classes; empty without a file."""
    return classes.stem if classes else ""


def _class_names(dataset: str) -> list[str]:
    try:
        return class_names(dataset)
    except DataError as unknown:
        from sar.toolbox.data.datasets import demo

        if dataset.removesuffix("Kin") not in demo.DATASETS:
            raise DataError(f"{unknown} Give the names with --classes.") from None
        return demo.class_names(dataset)
