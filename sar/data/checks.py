"""What is there of a dataset, what is missing, and which images are damaged."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from sar.command_line.signals import as_worker
from sar.data.layouts import Layout
from sar.data.reading import PARTS, image_paths
from sar.errors import DataError, one_line


@dataclass
class Inventory:
    """The images and files of a dataset that are there, and those that are missing.

    Attributes:
        present: whether its folder exists.
        problems: what makes it incomplete. `notes`: what a user should know besides.
        images: paths of the images that are there. `missing`: that should be.
    """

    layout: Layout
    present: bool = True
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.present and not self.problems

    @property
    def word(self) -> str:
        return "complete" if self.complete else "incomplete" if self.present else "absent"


def check(layout: Layout, root: Path) -> Inventory:
    """Compare a dataset's files with its lists and with the published numbers; open no image."""
    found = Inventory(layout)
    try:
        folder = layout.at(root)
    except DataError:
        found.present = False
        return found
    lacking = [name for name in (*layout.images, *layout.lists) if not (folder / name).exists()]
    if lacking:
        found.problems.append(f"no {', '.join(lacking)}")
        found.images = [path for images in layout.images for path in _pictures(folder / images)]
        return found
    changed = [n for n, known in layout.lists.items() if known and sha256(folder / n) != known]
    if changed:
        found.notes.append(
            f"not as published: {', '.join(changed)}; results will differ. Delete, then download "
            "again"
        )
    try:
        listed = list(image_paths(layout, root))
    except DataError as error:
        found.problems.append(str(error))
        return found
    for _, path in listed:
        there = not layout.lists or os.path.isfile(path)  # without lists, it was just found there
        (found.images if there else found.missing).append(path)
    if found.missing:
        found.problems.append(f"{len(found.missing)} images of the lists are missing")
    counts = Counter(part for part, _ in listed)
    for part, expected_count in zip(PARTS, layout.counts, strict=True):
        if counts[part] != expected_count:
            text = f"{counts[part]:,} {part} images, published: {expected_count:,}"
            few = counts[part] < expected_count
            (found.problems if few else found.notes).append(text)
    return found


def _pictures(folder: Path) -> Iterator[str]:
    """Every file below `folder` that has an image's name."""
    from PIL import Image

    formats = Image.registered_extensions()
    for place, _, names in os.walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in formats:
                yield os.path.join(place, name)


def damaged(paths: Iterable[str], workers: int) -> Iterator[tuple[str, str]]:
    """(path, reason or "") of each image in its order, all of its pixels decoded.

    Raises DataError where one of the processes dies.
    """
    try:
        with ProcessPoolExecutor(workers, None, as_worker) as pool:
            yield from pool.map(_decode, paths, chunksize=64)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that opens images has died; often the memory is not enough. Start again, "
            f"with fewer than {workers} --workers"
        ) from error


def _decode(path: str) -> tuple[str, str]:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # on odd metadata and on size; they can be read
            image.convert("RGB")
    except Exception as error:  # decoders fail in many ways
        return path, one_line(error)
    return path, ""


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
