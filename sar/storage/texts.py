"""Text, YAML and JSON files: read whole, or refused in a line that says what is wrong with them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from sar.errors import DataError, SARError, one_line

_POINTER = "version https://git-lfs.github.com/"
_LARGEST = 1_000_000  # values in a tree; a short YAML text can mean more than any memory holds


def open_text(file: str | os.PathLike[str], newline: str | None = None) -> TextIO:
    """A UTF-8 file, with or without a byte order mark, open for reading.

    Raises OSError, also for what is no file, which might never end.
    """
    kind = os.stat(file).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(file))
    return open(file, newline=newline, encoding="utf-8-sig")


def read_text(
    file: str | os.PathLike[str], expected: str = "", error: type[SARError] = DataError
) -> str:
    """The text of a UTF-8 file.

    Args:
        expected: the end of the message, which says what the file should be.

    Raises:
        error: with the file, what is wrong with it and what was expected.
    """
    with _readable(file, expected, error), open_text(file) as stream:
        text = stream.read()
    if text.startswith(_POINTER):
        end = f"; {expected}" if expected else ""
        raise error(f"{file} is a pointer of Git LFS; run `git lfs pull` in its folder{end}")
    return text


def read_yaml(
    file: str | os.PathLike[str], expected: str = "", error: type[SARError] = DataError
) -> Any:
    """What a YAML file says. Raises as `read_text` does, also for a key that is there twice."""
    return parse_yaml(read_text(file, expected, error), os.fspath(file), expected, error)


def read_json(
    file: str | os.PathLike[str], expected: str = "", error: type[SARError] = DataError
) -> Any:
    """What a JSON file says. Raises as `read_text` does."""
    text = read_text(file, expected, error)
    with _readable(file, expected, error):
        return json.loads(text)


def parse_yaml(
    text: str, source: str, expected: str = "", error: type[SARError] = DataError
) -> Any:
    """What a YAML text says. Raises as `read_yaml` does; `source` is what messages call it."""
    with _readable(source, expected, error):
        content = yaml.load(text, _Loader)
        if _size(content, {}) > _LARGEST:
            raise ValueError("its anchors stand for more values than could be read")
        return content


@contextlib.contextmanager
def _readable(
    source: str | os.PathLike[str], expected: str, error: type[SARError]
) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else None
        end = f"; {expected}" if expected else ""
        raise error(f"cannot read {Path(source)}: {one_line(reason or problem)}{end}") from problem


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that a mapping has twice; of two values one would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            keys = [(key.tag, key.value) for key, _ in node.value if key.tag != _MERGE]
            for number, key in enumerate(keys):
                if isinstance(key[1], str) and key in keys[:number]:
                    line = node.value[number][0].start_mark.line + 1
                    raise ValueError(f"line {line}: {key[1]!r} is there twice")
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values a tree has, those counted again that stand in several places."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _LARGEST + 1  # of one that contains itself
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(one, known) for one in inner)
    return known[id(value)]
