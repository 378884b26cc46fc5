"""`sarclip data status | verify | download`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from sar.data.archives import unpack
from sar.data.checks import Inventory, check, damaged
from sar.data.hub import REPOSITORY, fetch
from sar.data.layouts import GUIDE, LAYOUTS, Layout, find_layout
from sar.errors import DataError
from sar.locks import one_at_a_time

_INTERRUPTED = 130
_WORKSPACE = ".downloads"  # below the data folder: archives and what is being unpacked
_IMAGENET = """\
ImageNet may be had from https://image-net.org only: sign up and get ILSVRC2012's training and
validation pictures. Put them into class folders, or link an existing copy (ln -s):
  {folder}/images/train/n01440764/*.JPEG
  {folder}/images/val/n01440764/*.JPEG
A file classnames.txt in {folder}, with lines like `n01440764 tench`, is used if it is there."""


def main(argv: Sequence[str] | None = None) -> None:
    """Exits with status 1 if something asked for is missing or damaged.

    Raises:
        ConfigError: a dataset is unknown.
        DataError: the download or the archive of a single dataset failed; among several, it is
            reported and the others follow.
    """
    args = _parser().parse_args(argv)
    layouts = _layouts(args.datasets)
    root = args.root.expanduser().absolute()
    try:
        fine = args.run(layouts, root, args)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues")
        raise SystemExit(_INTERRUPTED) from None
    if not fine:
        raise SystemExit(1)


def status(layouts: Sequence[Layout], root: Path, args: argparse.Namespace) -> bool:
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
    return True


def verify(layouts: Sequence[Layout], root: Path, args: argparse.Namespace) -> bool:
    fine = True
    for layout in layouts:
        if len(layouts) == 1:
            layout.at(root)  # asked for by name: an absent one is an error
        found = check(layout, root)
        if not found.present:
            print(f"{layout.name}: absent")
            continue
        bar = tqdm(
            damaged(found.images, args.workers),
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
    return fine


def download(layouts: Sequence[Layout], root: Path, args: argparse.Namespace) -> bool:
    if args.archive and len(layouts) != 1:
        raise DataError("--archive unpacks one dataset; name it")
    fine = True
    for layout in layouts:
        try:
            fine &= _download(layout, root, args)
        except DataError as error:
            if len(layouts) == 1:
                raise
            print(f"{layout.name}: {error}", file=sys.stderr)
            fine = False
    return fine


def _download(layout: Layout, root: Path, args: argparse.Namespace) -> bool:
    if check(layout, root).complete:
        print(f"{layout.name}: complete in {root / layout.folder}, nothing to do")
        return True
    if not layout.archive and not args.archive:
        print(_IMAGENET.format(folder=root / layout.folder))
        return False
    workspace = root / _WORKSPACE
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write into --root {root}: {error}; give another") from error
    with one_at_a_time(workspace / f".{layout.folder}-lock", f"getting {layout.name}"):
        archive = args.archive or fetch(layout, workspace, args.repository, args.revision)
        placed = unpack(archive, layout, root, workspace)
        if not args.archive and not args.keep_archive:
            archive.unlink()
    found = check(layout, root)
    print(f"{layout.name}: {placed:,} files put into {root / layout.folder}, {found.word}")
    for line in _remarks(found):
        print(f"  {line}")
    return found.complete


def _remarks(found: Inventory) -> list[str]:
    return [f"{found.layout.name}: {text}" for text in (*found.problems, *found.notes)]


def _layouts(names: Sequence[str]) -> list[Layout]:
    if "all" in names:
        return list(LAYOUTS.values())
    return [find_layout(name) for name in names]


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarclip data",
        description="The field's fifteen datasets, in the folders of CoOp's DATASETS.md.",
        epilog=f"Folders, splits and original sources: {GUIDE}",
    )
    commands = parser.add_subparsers(metavar="{status,verify,download}", required=True)

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument(
            "--root", type=Path, required=True, metavar="DIR", help="folder that holds the datasets"
        )
        return command

    names = "registered names or those in configs/datasets"
    text = "what is there and what is missing, without opening images"
    add("status", status, text).add_argument(
        "datasets", nargs="*", default=["all"], metavar="DATASET", help=f"{names} (default: all)"
    )
    command = add("verify", verify, "open every image; exit status 1 if some are damaged")
    command.add_argument(
        "datasets", nargs="*", default=["all"], metavar="DATASET", help=f"{names} (default: all)"
    )
    command.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        help="processes (default: one per CPU, %(default)s)",
    )
    command = add(
        "download",
        download,
        "get a dataset from the hub and unpack it; the same command continues",
    )
    command.add_argument("datasets", nargs="+", metavar="DATASET", help=f"{names}, or all")
    command.add_argument(
        "--archive", type=Path, metavar="FILE", help="unpack this .zip or .tar.* instead"
    )
    command.add_argument("--keep-archive", action="store_true", help="do not delete it at the end")
    command.add_argument(
        "--repository", default=REPOSITORY, metavar="ID", help="hub repository (%(default)s)"
    )
    command.add_argument("--revision", default="main", help="its branch or commit (%(default)s)")
    return parser
