"""Pictures that are none, or too much of one."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image


def _png(width: int, height: int, kind: int = 2) -> bytes:
    """A PNG that says how large it is, and has little in it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def _bytes(content: bytes) -> Callable[[Path, random.Random], None]:
    def mutate(file: Path, rng: random.Random) -> None:
        file.unlink()
        file.write_bytes(content)

    return mutate


def _image(mode: str, size: tuple[int, int], form: str) -> Callable[[Path, random.Random], None]:
    def mutate(file: Path, rng: random.Random) -> None:
        file.unlink()
        Image.new(mode, size).save(file, format=form)

    return mutate


PICTURES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "200 megapixels": _bytes(_png(20_000, 10_000)),
    "4 gigapixels": _bytes(_png(65_000, 65_000)),
    "2 ** 31 pixels wide": _bytes(_png(2**31 - 1, 1)),
    "no pixels": _bytes(_png(0, 0)),
    "an unknown kind of pixels": _bytes(_png(10, 10, 9)),
    "less pixels than it says": _bytes(_png(300, 300)),
    "a text": _bytes(b"not a picture"),
    "a PDF": _bytes(b"%PDF-1.4\n%%EOF"),
    "the head of a JPEG": _bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "the head of a WebP": _bytes(b"RIFF\xff\xff\xff\xffWEBPVP8 "),
    "the head of a TIFF": _bytes(b"II*\0\x08\0\0\0\xff\xff"),
    "the head of an EPS": _bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
    "one pixel": _image("RGB", (1, 1), "PNG"),
    "one row": _image("RGB", (3000, 1), "PNG"),
    "transparent": _image("RGBA", (40, 40), "PNG"),
    "grey": _image("L", (40, 40), "PNG"),
    "16 bits": _image("I;16", (40, 40), "PNG"),
    "black and white": _image("1", (40, 40), "PNG"),
    "a palette": _image("P", (40, 40), "PNG"),
    "a GIF": _image("P", (40, 40), "GIF"),
    "a CMYK JPEG": _image("CMYK", (40, 40), "JPEG"),
    "floats": _image("F", (40, 40), "TIFF"),
}
