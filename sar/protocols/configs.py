"""Which configuration a trainer uses by default, and what a run's files say.

A trainer's folder may have a `protocols.yaml` beside its configurations: a list of entries, the
first of which that fits names the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sar.errors import ConfigError, one_line
from sar.results.folders import is_untrained
from sar.results.protocol import (
    BASE2NEW,
    DOMAIN_GENERALIZATION,
)
from sar.settings.config_files import RULES, find, folders, listed, trainers
from sar.settings.config_files import settings as file_settings
from sar.settings.dataset_records import DatasetRecord, in_group, record_in
from sar.settings.trees import dotted
from sar.storage.texts import read_yaml

TRAINERS = ("ZeroshotCLIP", "CoOp", "SAR_CoOp")
SEEDS = (1, 2, 3)
SHOTS = 16


@dataclass(frozen=True)
class _Rule:
    """An entry of a trainer's protocols.yaml: the configuration of some protocols and datasets."""

    config: str
    protocols: Sequence[str] = ()  # empty: all
    datasets: Sequence[str] = ()  # empty: all
    max_shots: float = math.inf
    options: Sequence[str] = ()
    """KEY VALUE pairs added to the configuration."""

    def fits(self, dataset: str, protocol: str, shots: int) -> bool:
        return (
            (not self.protocols or protocol in self.protocols)
            and (not self.datasets or dataset in self.datasets)
            and shots <= self.max_shots
        )


def dataset_record(dataset: str) -> DatasetRecord:
    """What is known of a dataset. Raises ConfigError, which lists those that exist."""
    return record_in(config_path("datasets", dataset))


def config_path(kind: str, owner: str, name: str = "") -> Path:
    """The YAML file of a dataset or of a trainer's configuration.

    Args:
        kind: "datasets" or "trainers".
        owner: the dataset (its file's name without .yaml), or the trainer; SAR_X uses X's files.
        name: the trainer's configuration; unused for datasets.

    Raises:
        ConfigError: there is no such file; the message lists what exists.
    """
    if kind == "datasets":
        return _choose("dataset", owner, kind)
    check_trainer(owner)
    what = f"configuration of {owner}"
    if owner != (plain := _files_of(owner)):
        what += f" (its settings are {plain}'s, and TRAINER.SAR.* by KEY VALUE)"
    return _choose(what, name, kind, plain)


def check_trainer(trainer: str) -> None:
    """Raises ConfigError, which lists what exists, if a trainer has no configurations."""
    plain = _files_of(trainer)
    if trainer not in (known := trainer_names()):
        extended = f", that of the method which {trainer} extends" * (plain != trainer)
        raise ConfigError(
            f"there is no trainer {trainer!r}; expected one of {', '.join(known)}. One of your own "
            f"needs a folder trainers/{plain} in {' or '.join(map(str, folders()))}{extended}"
        )


def trainer_names() -> list[str]:
    """The trainers that have configurations: every X and, where X trains anything, its SAR_X."""
    names = trainers()
    return [*names, *(f"SAR_{name}" for name in names if not is_untrained(name))]


def config_files() -> Iterator[tuple[str, str, list[str]]]:
    """("trainer" or "dataset", its name, its configurations) of all that can be used here."""
    for name in trainers():
        yield "trainer", name, [path.stem for path in listed("trainers", name)]
    for path in listed("datasets"):
        yield "dataset", path.stem, []


def default_cfg(trainer: str, dataset: str, protocol: str = BASE2NEW, shots: int = SHOTS) -> str:
    """The configuration a trainer uses on a dataset unless one is named.

    Raises:
        ConfigError: there is no default for this trainer.
    """
    if own := dataset_record(dataset).cfg:
        return own
    for rule in _rules(trainer):
        if rule.fits(dataset, protocol, shots):
            return rule.config
    raise ConfigError(f"{trainer} has no default configuration for {dataset}; name one (--cfg)")


def published_options(trainer: str, dataset: str, cfg: str) -> tuple[str, ...]:
    """KEY VALUE pairs that the published results add to a configuration on some datasets."""
    for rule in _rules(trainer):
        if rule.config == cfg and dataset in rule.datasets:
            return tuple(map(str, rule.options))
    return ()


def default_targets(protocol: str, source: str) -> tuple[str, ...]:
    """What a model trained on `source` is tested on by cross-dataset or domain generalization.

    Raises:
        ConfigError: the record of `source` names none.
    """
    record = dataset_record(source)
    found = record.domains if protocol == DOMAIN_GENERALIZATION else in_group(record.targets)
    if not found:
        raise ConfigError(f"there are no usual targets for {source}; name them (--targets A,B)")
    return tuple(name for name in found if name != source)


def setting(key: str, files: Sequence[Path], options: Sequence[str] = ()) -> Any:
    """What a run's configuration says about a dotted `key`; None if nothing does."""
    return settings(files, options).get(key)


def settings(files: Sequence[Path], options: Sequence[str] = ()) -> dict[str, Any]:
    """A run's settings by dotted key: later files win, and KEY VALUE `options` over files."""
    found: dict[str, Any] = {}
    for file in files:
        found.update(dotted(file_settings(file)))
    for key, text in zip(options[::2], options[1::2], strict=True):
        found[key] = _value(text)
    return found


def _value(text: str) -> Any:
    """An option's value as YAML reads it; what only looks like YAML ("{} texture.") is text."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float | list) else text


def _rules(trainer: str) -> list[_Rule]:
    """What the trainer's protocols.yaml says, if it has one."""
    file = find("trainers", _files_of(trainer), RULES)
    if file is None:
        return []
    entries = read_yaml(file, error=ConfigError)
    try:
        return [_Rule(**entry) for entry in entries]
    except TypeError as error:
        fields = ", ".join(_Rule.__dataclass_fields__)
        problem = one_line(error)
        raise ConfigError(f"{file} must be a list of entries with {fields}: {problem}") from error


def _files_of(trainer: str) -> str:
    return trainer.removeprefix("SAR_")


def _choose(what: str, name: str, *parts: str) -> Path:
    known = {path.stem: path for path in listed(*parts)}
    if name not in known:
        places = ", ".join(str(Path(folder, *parts)) for folder in folders())
        raise ConfigError(
            f"there is no {what} {name!r}; expected one of {', '.join(known) or 'none'} "
            f"(files in {places})"
        )
    return known[name]
