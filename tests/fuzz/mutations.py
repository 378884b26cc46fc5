"""Ways in which a file goes wrong. All draws come from the generator that is given."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

FileMutation = Callable[[Path, random.Random], None]


def _rewrite(change: Callable[[bytes, random.Random], bytes]) -> FileMutation:
    def mutate(file: Path, rng: random.Random) -> None:
        content = file.read_bytes()
        file.unlink()  # other cases may have a link to it
        file.write_bytes(change(content, rng))

    return mutate


def _flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _fifo(file: Path, rng: random.Random) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.mkdir()


def _loop(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.symlink_to(file)


def _missing(file: Path, rng: random.Random) -> None:
    file.unlink()


DAMAGES: Mapping[str, FileMutation] = {
    "missing": _missing,
    "a folder": _folder,
    "a pipe": _fifo,
    "a link to itself": _loop,
    "empty": _rewrite(lambda content, rng: b""),
    "cut off": _rewrite(lambda content, rng: content[: rng.randrange(1, len(content))]),
    "cut off early": _rewrite(lambda content, rng: content[: rng.randrange(1, 20)]),
    "cut off late": _rewrite(lambda content, rng: content[: -rng.randrange(1, 20)]),
    "a flipped bit": _rewrite(_flipped),
    "another flipped bit": _rewrite(_flipped),
    "noise": _rewrite(lambda content, rng: rng.randbytes(len(content) % 5000 + 1)),
    "zeros": _rewrite(lambda content, rng: bytes(len(content))),
    "zeros at the end": _rewrite(lambda content, rng: content + bytes(100)),
    "a page of HTML": _rewrite(lambda content, rng: b"<!DOCTYPE html><html>404 Not Found</html>"),
    "a pointer of Git LFS": _rewrite(
        lambda content, rng: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    ),
}
"""Of any file."""

TEXTS: Mapping[str, FileMutation] = {
    "a byte order mark": _rewrite(lambda content, rng: b"\xef\xbb\xbf" + content),
    "UTF-16": _rewrite(lambda content, rng: content.decode().encode("utf-16")),
    "Latin-1": _rewrite(lambda content, rng: content.replace(b"e", b"\xe9", 3)),
    "lines of Windows": _rewrite(lambda content, rng: content.replace(b"\n", b"\r\n")),
    "a zero byte": _rewrite(lambda content, rng: content[:9] + b"\0" + content[9:]),
    "one line of a megabyte": _rewrite(lambda content, rng: b"x" * 1_000_000 + content),
    "a thousand brackets": _rewrite(lambda content, rng: b"[" * 100_000 + content),
    "tabs": _rewrite(lambda content, rng: content.replace(b" ", b"\t")),
    "twice": _rewrite(lambda content, rng: content + b"\n" + content),
}
"""Of text files."""

VALUES: Mapping[str, Any] = {
    "null": None,
    "a negative number": -1,
    "a fraction": 0.5,
    "infinity": float("inf"),
    "not a number": float("nan"),
    "a huge number": 10**400,
    "an empty text": "",
    "another text": "zzz",
    "a text with a line end": "a\nb",
    "true": True,
    "an empty list": [],
    "a list": [["x"]],
    "an empty mapping": {},
    "a mapping": {"x": {"y": 1}},
}
"""What may stand where something else should."""


def places(tree: Any, limit: int = 3) -> Iterator[tuple[str | int, ...]]:
    """Where values stand in nested lists and mappings; of a list the first entries."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree[:limit])
    for key, value in entries:
        yield (key,)
        if isinstance(value, dict | list):
            for rest in places(value, 1):
                yield (key, *rest)


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested lists and mappings with another value at `place`."""
    copy = deepcopy(tree)
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def without(tree: Any, place: tuple[Any, ...]) -> Any:
    """A copy of nested lists and mappings without what is at `place`."""
    copy = deepcopy(tree)
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return copy


def malformed(tree: Any) -> Iterator[tuple[str, Any]]:
    """(what is wrong, tree): every value that `places` finds replaced by each of `VALUES`."""
    for name, value in VALUES.items():
        yield f"{name} in all", value
    for place in places(tree):
        where = ".".join(map(str, place))
        if isinstance(place[-1], str):
            yield f"no {where}", without(tree, place)
        for name, value in VALUES.items():
            yield f"{name} in {where}", changed(tree, place, value)
