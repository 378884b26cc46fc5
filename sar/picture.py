"""One picture from its file: as the field reads its datasets, and as people see their own.

The published loaders take what is stored: EXIF's orientation is not applied, alpha is dropped and
16 bits are cut to 8. Their accuracies belong to that reading (`as_published`). One's own pictures
are read as any viewer shows them (`as_seen`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sar.command_line.extras import extra
from sar.errors import DataError, MissingPackageError, one_line

HEIC = frozenset({".heic", ".heif", ".hif"})
"""Suffixes of the format that telephones write, which needs the extra `heic`."""
_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Modes with more than 8 bits, or with fractions."""


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of files that can be read as pictures here, in lower case."""
    heic = HEIC if find_spec("pillow_heif") else frozenset()
    return frozenset(Image.registered_extensions()) - HEIC | heic


def is_picture(path: str | Path) -> bool:
    """Whether a file is one that can be read as a picture here, by its suffix."""
    return Path(path).suffix.lower() in suffixes()


def as_published(image: Image.Image) -> Image.Image:
    """RGB by Pillow's own conversion."""
    return image.convert("RGB")


def as_seen(image: Image.Image) -> Image.Image:
    """RGB as it is shown: turned as EXIF says, on white where it is transparent.

    Values of more than 8 bits and fractions are scaled by their range; a moving picture gives its
    first frame.
    """
    image.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        return _scaled(np.asarray(image, dtype=np.float64)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Image.Image:
    """Grey: the least finite value black, the greatest white."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    share = (np.nan_to_num(values, nan=low).clip(low, high) - low) / max(high - low, 1e-300)
    return Image.fromarray((255 * share).round().astype(np.uint8))


def read(path: str, how: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture in a file, made RGB by `how`.

    Raises DataError naming the file if it is missing or damaged.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # whoever opens a pipe may wait for ever
            raise OSError("it is no file")
        if Path(path).suffix.lower() in HEIC:
            _know_heic()
        with Image.open(path) as image:
            return how(image)
    except Exception as error:  # decoders fail in many ways; one is a picture of too many pixels
        reason = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        advice = "Restore the file, or remove it from the dataset"
        if isinstance(error, MissingPackageError):
            advice = "Or save it as .jpg"
        raise DataError(f"cannot read image {path}: {reason}. {advice}") from error


def read_published(path: str) -> Image.Image:
    """`read` by `as_published`."""
    return read(path, as_published)


def read_seen(path: str) -> Image.Image:
    """`read` by `as_seen`."""
    return read(path, as_seen)


@functools.cache
def _know_heic() -> None:
    with extra("heic"):
        from pillow_heif import register_heif_opener

    register_heif_opener()
