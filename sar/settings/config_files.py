"""Configuration files: in which folders they are looked for, and what they say.

Looked at in this order: the folders of ``--configs``, ``./configs``, those shipped with the
package. Each may have ``datasets/NAME.yaml`` and ``trainers/TRAINER/NAME.yaml``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sar.errors import ConfigError, one_line
from sar.storage.texts import read_yaml

RECORD = "RECORD"
"""Top-level key of a dataset's file whose content is no setting (see `dataset_records`)."""
RULES = "protocols.yaml"
"""In a trainer's folder: no configuration, but which of them a protocol takes."""
_OWN = Path("configs")
_given: tuple[Path, ...] = ()


def use_folders(given: Sequence[Path]) -> None:
    """Looks at the folders of --configs, in their order, in front of all others.

    Raises ConfigError for one that is missing.
    """
    global _given
    for folder in given:
        if not any((folder / kind).is_dir() for kind in ("datasets", "trainers")):
            raise ConfigError(
                f"--configs {folder}: expected a folder with datasets/NAME.yaml or "
                "trainers/TRAINER/NAME.yaml in it"
            )
    _given = tuple(folder.absolute() for folder in given)


def folders() -> list[Path]:
    """The folders that are there, in the order in which they are looked at, each once."""
    found = {
        folder.resolve(): folder for folder in reversed((*_given, _OWN.absolute(), *_shipped()))
    }
    return [folder for folder in reversed(found.values()) if folder.is_dir()]


def find(*parts: str) -> Path | None:
    """The first file of these parts, such as ``("datasets", "dtd.yaml")``; None: there is none."""
    files = (Path(folder, *parts) for folder in folders())
    return next((file for file in files if file.is_file()), None)


def listed(*parts: str) -> list[Path]:
    """The configurations in a folder of these parts, sorted; of two of one name the first."""
    found = {
        file.name: file
        for folder in reversed(folders())
        for file in Path(folder, *parts).glob("*.yaml")
        if file.name != RULES
    }
    return [found[name] for name in sorted(found)]


def trainers() -> list[str]:
    """The trainers that have a folder of configurations, sorted."""
    return sorted({folder.name for folder in _trainer_folders()})


def read(file: Path) -> dict[str, Any]:
    """The whole content of a file. Raises ConfigError for bad YAML or anything but a mapping."""
    try:
        modified = file.stat().st_mtime_ns
    except OSError:
        modified = 0  # reading says why
    return _read(file, modified)


def settings(file: Path) -> dict[str, Any]:
    """The settings in a file, without a dataset's record. Raises ConfigError as `read` does."""
    return {key: value for key, value in read(file).items() if key != RECORD}


@cache
def _read(file: Path, modified: int) -> dict[str, Any]:
    """`modified` makes an edited file a new one to the cache."""
    content = read_yaml(file, "expected YAML with KEY: VALUE lines", ConfigError)
    if content is None:
        content = {}
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{file} must hold KEY: VALUE lines, found {one_line(content, 80)!r}")
    return dict(content)


def _trainer_folders() -> Iterator[Path]:
    for folder in folders():
        if (folder / "trainers").is_dir():
            yield from (path for path in (folder / "trainers").iterdir() if path.is_dir())


@cache
def _shipped() -> tuple[Path, ...]:
    spec = importlib.util.find_spec("sar.configs")  # beside the package in a source tree
    found = tuple(map(Path, (spec.submodule_search_locations or []) if spec else []))
    if not found:
        raise ConfigError("the folder configs/ is missing from this installation; install it again")
    return found
