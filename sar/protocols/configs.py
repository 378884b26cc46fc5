"""Where configuration files lie, and which one a trainer uses by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from sar.config_files import folders, listed, trainers
from sar.config_files import settings as file_settings
from sar.dataset_records import DatasetRecord, in_group, record_in
from sar.errors import ConfigError
from sar.results.folders import is_untrained
from sar.results.protocol import (
    BASE2NEW,
    CROSS_DATASET,
    DOMAIN_GENERALIZATION,
    FEW_SHOT,
)
from sar.trees import dotted

TRAINERS = ("ZeroshotCLIP", "CoOp", "SAR_CoOp")
SEEDS = (1, 2, 3)
SHOTS = 16

_PUBLISHED_CFG = {
    "ZeroshotCLIP": "vit_b16",
    "CoOp": "vit_b16_ctxv1",
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx",
    "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx",
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1",
    "KgCoOp": "vit_b16_ep100_ctxv1",
}
"""The configurations of the published results, but for the exceptions below."""
_PUBLISHED_CFG_TRANSFER = {
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx_cross_datasets",
    "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets",
}
_PUBLISHED_CFG_FEW_SHOT = {"PromptSRC": "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"}
_LATE_AVERAGE = ("TRAINER.PROMPTSRC.GPA_MEAN", "45", "TRAINER.PROMPTSRC.GPA_STD", "5")
_LATE_AVERAGE_DATASETS = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")


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
    return _choose(f"configuration of {owner}", name, kind, _files_of(owner))


def check_trainer(trainer: str) -> None:
    """Raises ConfigError, which lists what exists, if a trainer has no configurations."""
    if trainer not in (known := trainer_names()):
        raise ConfigError(
            f"there is no trainer {trainer!r}; expected one of {', '.join(known)}. One of your own "
            f"needs a folder trainers/{_files_of(trainer)} in {' or '.join(map(str, folders()))}"
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
    files = _files_of(trainer)
    if files == "CoOp" and protocol == FEW_SHOT:
        # Random context of 16 vectors; the fewer images, the fewer epochs (CoOp, section 4.1).
        if dataset == "imagenet" or shots == 1:
            return "vit_b16_ep50"
        return "vit_b16_ep100" if shots <= 4 else "vit_b16"
    if files == "CoOp" and dataset == "imagenet":
        return "vit_b16_ep50_ctxv1"
    special: dict[str, str] = {}
    if protocol in (CROSS_DATASET, DOMAIN_GENERALIZATION):
        special = _PUBLISHED_CFG_TRANSFER
    elif protocol == FEW_SHOT:
        special = _PUBLISHED_CFG_FEW_SHOT
    cfg = special.get(files) or _PUBLISHED_CFG.get(files)
    if not cfg:
        raise ConfigError(f"{trainer} has no default configuration for {dataset}; name one (--cfg)")
    return cfg


def published_options(trainer: str, dataset: str, cfg: str) -> tuple[str, ...]:
    """KEY VALUE pairs that the published results add to a configuration on some datasets."""
    few_shot = cfg == _PUBLISHED_CFG_FEW_SHOT.get(_files_of(trainer))
    return _LATE_AVERAGE if few_shot and dataset in _LATE_AVERAGE_DATASETS else ()


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
    except yaml.YAMLError:
        return text
    return value if isinstance(value, int | float | list) else text


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
