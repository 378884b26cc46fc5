"""What is known of a dataset: one record each, in its configuration file.

``configs/datasets/NAME.yaml`` has under RECORD the fields of `DatasetRecord`, all of them optional,
beside the setting DATASET.NAME. Datasets of one's own are found in the same way, see
`sar.settings.config_files`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sar.errors import ConfigError
from sar.settings.config_files import RECORD, folders, listed, read

READERS = ("split", "folders", "table")
OWN_PICTURES = ("folders", "table")
"""Readers of one's own pictures."""


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A dataset. Other datasets are named by their configuration files, without suffix."""

    name: str
    """Registered name, the file's DATASET.NAME."""
    config: str
    """The file's own name, without suffix."""
    file: Path
    template: str = ""
    """Hand-crafted prompt with one {} for the class name; empty: "a photo of a {}."."""
    novel: str = ""
    """File with novel class names, relative to the record's."""
    descriptions: str = ""
    """File with descriptions of the classes, relative to the record's, or the registered name of a
    dataset whose shipped ones are meant."""
    group: str = ""
    """`--datasets GROUP` stands for all datasets of a group."""
    targets: str = ""
    """Group of datasets that cross-dataset tests a model on that was trained on this one."""
    domains: tuple[str, ...] = ()
    """Datasets of the same classes in other styles: the targets of domain generalization."""
    default_of: tuple[str, ...] = ()
    """Protocols that take this dataset unless others are named."""
    cfg: str = ""
    """The trainers' configuration on it; empty: the published one."""
    embedded: bool = False
    """Its pictures are in the package, so it needs no --root."""
    reader: str = ""
    """How pictures are found in `folder`: `split` (by a split_*.json), `folders` (train/CLASS/ and
    test/CLASS/), `table` (images.csv); empty: a Python file registers the dataset."""
    folder: str = ""
    """Below the data folder; everything that follows is below it."""
    images: tuple[str, ...] = ()
    """Folders with pictures."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """Files that name the pictures -> SHA-256 of the published ones, or empty."""
    classes: int = 0
    counts: tuple[int, ...] = ()
    """Images for training, validation and test."""
    archive: str = ""
    """File in the hub repository."""
    archive_revision: str = ""
    """Commit of the repository that has the archive of this SHA-256; empty: not pinned."""
    archive_sha256: str = ""


def records() -> list[DatasetRecord]:
    """All that are known, sorted by configuration file.

    Raises ConfigError for a RECORD that is none.
    """
    return [record_in(file) for file in (*_used, *listed("datasets"))]


def by_name(name: str) -> DatasetRecord | None:
    """The dataset of a registered name; None: nothing is known of it."""
    return next((record for record in records() if record.name == name), None)


def called(name: str, root: str, title: str = "") -> str:
    """What tables and model cards call a dataset of a registered name.

    One's own pictures, for which the name stands whatever they show, are called by their `title`
    (DATASET.TITLE) or by the place that they lie in, `root`.
    """
    record = by_name(name)
    if title or record is None or record.reader not in OWN_PICTURES or record.folder:
        return title or name
    return place_name(root) or name


def place_name(root: str) -> str:
    """What the place of one's own pictures is called: the folder, or a table beside others."""
    if not root:
        return ""
    place = Path(os.path.abspath(os.path.expanduser(root)))
    if place.is_file():
        return place.parent.name if place.stem == "images" else place.stem
    return place.name


def in_group(group: str) -> tuple[str, ...]:
    """The datasets of a group; empty: there is no such group."""
    return tuple(record.config for record in records() if group and record.group == group)


def defaults_of(protocol: str) -> tuple[str, ...]:
    """The datasets that a protocol takes unless others are named."""
    return tuple(record.config for record in records() if protocol in record.default_of)


def use(file: Path) -> None:
    """Makes the record in a file known, wherever the file lies."""
    if file.resolve() not in {known.resolve() for known in (*_used, *listed("datasets"))}:
        _used.append(file)


_used: list[Path] = []


def record_in(file: Path) -> DatasetRecord:
    """The record of a dataset's file; its name is empty where the file names no dataset.

    A file that says nothing, as in a checkout's own ``configs/``, has the record of the one shipped
    for the same dataset.
    """
    name, content = _named(file)
    for folder in () if content is not None else folders():
        other = folder / "datasets" / file.name
        if content is None and other.is_file() and _named(other)[0] == name:
            content = _named(other)[1]
    return _record(file, name, content or {})


def _named(file: Path) -> tuple[str, Any]:
    """DATASET.NAME and RECORD; empty and None where a file does not say so."""
    try:
        content = read(file)
    except ConfigError:  # said when a run reads the file
        return "", None
    dataset = content.get("DATASET")
    return (dataset.get("NAME", "") if isinstance(dataset, dict) else ""), content.get(RECORD)


def _record(file: Path, name: str, content: Any) -> DatasetRecord:
    own = [f.name for f in fields(DatasetRecord) if f.name not in ("name", "config", "file")]
    if not isinstance(content, dict) or (unknown := [key for key in content if key not in own]):
        what = f"unknown: {', '.join(unknown)}" if isinstance(content, dict) else "no mapping"
        raise ConfigError(f"{RECORD} in {file} is wrong ({what}); expected {', '.join(own)}")
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in content.items()
    }
    for key, value in values.items():
        default = getattr(_EMPTY, key)
        if not isinstance(value, type(default)):
            kind = {tuple: "list", dict: "mapping", bool: "yes or no", int: "number"}
            raise ConfigError(
                f"{RECORD}.{key} in {file} is {value!r}; expected {kind.get(type(default), 'text')}"
            )
    record = DatasetRecord(name=name, config=file.stem, file=file, **values)
    if record.reader not in ("", *READERS):
        raise ConfigError(
            f"{RECORD}.reader in {file} is {record.reader!r}; expected one of {', '.join(READERS)}"
        )
    return record


_EMPTY = DatasetRecord(name="", config="", file=Path())
