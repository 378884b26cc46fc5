"""`sarclip data check`: whether one's own pictures are what a training should see."""

from __future__ import annotations

from pathlib import Path

import click

from sar.command_line.commands import PATH


@click.command()
@click.argument("place", type=PATH, metavar="DIR|CSV")
@click.option(
    "--classes", type=PATH, metavar="FILE", help="The class list. [default: classes.yaml beside]"
)
def check(place: Path, classes: Path | None) -> None:
    """Say what a run reads of your own pictures, what not, and what is wrong with them.

    DIR has train/<class name>/ and test/<class name>/, or a table images.csv. Every picture is
    opened. Exit status 1: there are problems.
    """
    from sar.classes.class_list import list_file
    from sar.data.likeness import looks
    from sar.data.own_checks import judge
    from sar.data.own_pictures import TABLE, in_folders, in_table
    from sar.errors import DataError
    from sar.storage.files import expanded
    from sar.toolbox.data.class_names import one_to_clip
    from sar.toolbox.data.datasets.own import classes_of
    from sar.toolbox.engine import progress_bar

    root = expanded(place).absolute()
    is_table = root.is_file() or ((root / TABLE).is_file() and not (root / "train").is_dir())
    found = in_table(root) if is_table else in_folders(root)
    paths = [
        path for folders in found.pictures.values() for some in folders.values() for path in some
    ]
    seen = list(progress_bar(looks(paths), "pictures"))
    listed, problem = None, ""
    try:
        file = list_file(root, str(classes or ""))
        listed, _ = classes_of(found, file)
    except DataError as error:
        problem = str(error)
    findings = judge(found, listed, seen, one_to_clip)
    if problem:
        findings.problems.insert(0, problem)
    print(f"{len(paths)} pictures in {found.place}\n\n{findings.text()}")
    if findings.problems:
        raise SystemExit(1)
    print("\nNo problems found.")
