"""`sarclip data status | verify | download | check`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate
from tqdm import tqdm

from sar.command_line.commands import PATH, POSITIVE, CommandGroup, continues
from sar.data.archives import unpack
from sar.data.checks import Inventory, check, damaged
from sar.data.hub import REPOSITORY, fetch
from sar.data.layouts import GUIDE, LAYOUTS, Layout, find_layout
from sar.errors import DataError
from sar.storage.files import expanded, make_folder
from sar.storage.locks import one_at_a_time

_WORKSPACE = ".downloads"  # below the data folder: archives and what is being unpacked
_IMAGENET = """\
ImageNet may be had from https://image-net.org only: sign up and get ILSVRC2012's training and
validation pictures. Put them into class folders, or link an existing copy (ln -s):
  {folder}/images/train/n01440764/*.JPEG
  {folder}/images/val/n01440764/*.JPEG
A file classnames.txt in {folder}, with lines like `n01440764 tench`, is used if it is there."""


class _Data(CommandGroup):
    """Ctrl-C ends its commands with what to do next."""

    def invoke(self, context: click.Context) -> Any:
        with continues():
            return super().invoke(context)


_CHECK = (
    "sar.data_check:check",
    "Say what a run reads of your own pictures, and what is wrong with them.",
)


@click.group(
    cls=_Data,
    lazy={"check": _CHECK},
    epilog=f"Folders, splits and original sources: {GUIDE}",
)
def data() -> None:
    """The field's fifteen datasets, in the folders of CoOp's DATASETS.md, and your own pictures.

    DATASETS are registered names or those in configs/datasets.
    """


def _layouts(context: click.Context, parameter: click.Parameter, names: Any) -> list[Layout]:
    if not names or "all" in names:
        return list(LAYOUTS.values())
    return [find_layout(name) for name in names]


def _absolute(context: click.Context, parameter: click.Parameter, root: Path) -> Path:
    return Path(os.path.abspath(expanded(root)))


_datasets = click.argument("layouts", metavar="[DATASET]...", nargs=-1, callback=_layouts)
_root = click.option(
    "--root",
    type=PATH,
    callback=_absolute,
    required=True,
    metavar="DIR",
    help="Folder that holds the datasets.",
)


@data.command()
@_datasets
@_root
def status(layouts: Sequence[Layout], root: Path) -> None:
    """What is there and what is missing, without opening images."""
    inventories = [check(layout, root) for layout in layouts]
    rows = [
        (
            found.layout.name,
            found.layout.folder,
            found.word,
            f"{len(found.images):,}" if found.present else "",
            f"{sum(found.layout.counts):,}",
            found.layout.classes,
        )
        for found in inventories
    ]
    headers = ("dataset", "folder", "state", "images", "published", "classes")
    align = ("left", "left", "left", "right", "right", "right")
    print(f"{root}\n\n{tabulate(rows, headers, colalign=align, disable_numparse=True)}")
    remarks = [line for found in inventories for line in _remarks(found)]
    if remarks:
        print("\n" + "\n".join(remarks))


@data.command()
@_datasets
@_root
@click.option(
    "--workers",
    type=POSITIVE,
    default=os.cpu_count() or 1,
    help="Processes. [default: one per CPU]",
)
def verify(layouts: Sequence[Layout], root: Path, workers: int) -> None:
    """Open every image; exit status 1 if some are damaged."""
    fine = True
    for layout in layouts:
        if len(layouts) == 1:
            layout.at(root)  # asked for by name: an absent one is an error
        found = check(layout, root)
        if not found.present:
            print(f"{layout.name}: absent")
            continue
        bar = tqdm(
            damaged(found.images, workers),
            desc=layout.name,
            total=len(found.images),
            unit="image",
        )
        broken = [(path, reason) for path, reason in bar if reason]
        print(
            f"{layout.name}: {len(found.images):,} images opened, {len(broken)} damaged, "
            f"{len(found.missing)} missing"
        )
        for path, reason in broken:
            print(f"  damaged: {path} ({reason})")
        for path in found.missing:
            print(f"  missing: {path}")
        for line in _remarks(found):
            print(f"  {line}")
        if broken or not found.complete:
            print(
                f"  To repair: delete the damaged files, then `sarclip data download {layout.name} "
                f"--root {root}` puts back what is missing"
            )
            fine = False
    if not fine:
        raise SystemExit(1)


@data.command()
@click.argument("layouts", metavar="DATASET...", nargs=-1, required=True, callback=_layouts)
@_root
@click.option("--archive", type=PATH, metavar="FILE", help="Unpack this .zip or .tar.* instead.")
@click.option("--keep-archive", is_flag=True, help="Do not delete it at the end.")
@click.option(
    "--repository", default=REPOSITORY, show_default=True, metavar="ID", help="Hub repository."
)
@click.option(
    "--revision",
    default="",
    metavar="NAME",
    help="Its branch or commit. [default: the pinned one, or main]",
)
def download(layouts: Sequence[Layout], root: Path, **source: Any) -> None:
    """Get datasets from the hub and unpack them; the same command continues.

    Exit status 1 if one of them failed; the others follow all the same.
    """
    if source["archive"] and len(layouts) != 1:
        raise DataError("--archive unpacks one dataset; name it")
    fine = True
    for layout in layouts:
        try:
            fine &= _download(layout, root, **source)
        except DataError as error:
            if len(layouts) == 1:
                raise
            print(f"{layout.name}: {error}", file=sys.stderr)
            fine = False
    if not fine:
        raise SystemExit(1)


def _download(
    layout: Layout,
    root: Path,
    archive: Path | None,
    keep_archive: bool,
    repository: str,
    revision: str,
) -> bool:
    if check(layout, root).complete:
        print(f"{layout.name}: complete in {root / layout.folder}, nothing to do")
        return True
    if not layout.archive and not archive:
        print(_IMAGENET.format(folder=root / layout.folder))
        return False
    workspace = root / _WORKSPACE
    make_folder(workspace, "give another --root")
    lock = workspace / f".{layout.folder}-lock"
    with one_at_a_time(lock, f"getting {layout.name}", always=True):
        file = archive or fetch(layout, workspace, repository, revision)
        placed = unpack(file, layout, root, workspace)
        if not archive and not keep_archive:
            file.unlink()
    found = check(layout, root)
    print(f"{layout.name}: {placed:,} files put into {root / layout.folder}, {found.word}")
    for line in _remarks(found):
        print(f"  {line}")
    return found.complete


def _remarks(found: Inventory) -> list[str]:
    return [f"{found.layout.name}: {text}" for text in (*found.problems, *found.notes)]
