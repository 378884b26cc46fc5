"""What identifies a set of images: the times of their files, or their bytes."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sar.storage.cache import kept, key_of
from sar.toolbox.data.datasets import Datum


def stamps(files: Iterable[str | Path]) -> list[str]:
    """Path, size and time of each file, one of which changes when the file does."""
    found = [(file, Path(file).stat()) for file in files]
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found]


def content_of(images: Sequence[Datum]) -> str:
    """A hash (64 hex digits) of the images' bytes and labels in their order, wherever they lie.

    The files are read once, and again when one of them has changed (see `stamps`).
    """

    def read() -> dict[str, Tensor]:
        digest = hashlib.sha256()
        for image in images:
            digest.update(hashlib.sha256(Path(image.impath).read_bytes()).digest())
            digest.update(f"{image.label} ".encode())
        return {"sha256": torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)}

    labels = " ".join(str(image.label) for image in images)
    files = "\n".join(stamps(image.impath for image in images))
    found = kept("contents", key_of(files, labels), read)
    return bytes(found["sha256"].tolist()).hex()
