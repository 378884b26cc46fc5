"""Pictures from wherever they are: files, folders, opened images; read in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from sar.command_line.extras import install
from sar.errors import DataError
from sar.picture import HEIC, as_seen, is_picture, read_seen

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image"


@dataclass
class Batch:
    """Some pictures that were asked for."""

    pictures: list[Path | Image.Image] = field(default_factory=list)
    """Those that could be read, as many as `images`."""
    images: Tensor = field(default_factory=lambda: torch.empty(0))
    """(B, 3, H, W) fp32, transformed."""
    problems: list[DataError] = field(default_factory=list)
    """One for each that could not be read."""


def find_pictures(pictures: Picture | Sequence[Picture]) -> list[Path | Image.Image]:
    """The pictures, folders replaced by the picture files below them, in a fixed order.

    Raises DataError for a path that does not exist, or a folder without pictures.
    """
    if isinstance(pictures, str | os.PathLike | Image.Image):
        pictures = [pictures]
    found: list[Path | Image.Image] = []
    for picture in pictures:
        if isinstance(picture, Image.Image):
            found.append(picture)
        elif (path := Path(picture)).is_dir():
            found += pictures_below(path)
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"there is no picture or folder {path}; check the path")
    return found


def pictures_below(folder: Path) -> list[Path]:
    """The picture files, by their suffix; hidden ones and files of other kinds are passed over.

    A line says so if HEIC is among them, which an extra reads. Raises DataError if there are none.
    """
    found: list[Path] = []
    heic = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in sorted(files) if not name.startswith(".")):
            if is_picture(path):
                found.append(path)
            elif path.suffix.lower() in HEIC:
                heic += 1
    if heic:
        print(f"{heic} HEIC pictures in {folder} are passed over: {install('heic')}")
    if not found:
        raise DataError(f"{folder} holds no pictures; expected files such as .jpg or .png in it")
    return found


def read_batches(
    pictures: Sequence[Path | Image.Image], transform: Callable[[Image.Image], Tensor], size: int
) -> Iterator[Batch]:
    """The pictures in their order, at most `size` at a time, decoded side by side."""

    def read(picture: Path | Image.Image) -> Tensor | DataError:
        try:
            if isinstance(picture, Image.Image):
                return transform(as_seen(picture))
            return transform(read_seen(str(picture)))
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(pictures), size):
            some = pictures[start : start + size]
            yield _batch(some, threads.map(read, some))


def _batch(pictures: Iterable[Path | Image.Image], outcomes: Iterable[Tensor | DataError]) -> Batch:
    batch, images = Batch(), []
    for picture, outcome in zip(pictures, outcomes, strict=True):
        if isinstance(outcome, DataError):
            batch.problems.append(outcome)
        else:
            batch.pictures.append(picture)
            images.append(outcome)
    if images:
        batch.images = torch.stack(images)
    return batch
