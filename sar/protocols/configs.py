"""Where configuration files lie, and which one a trainer uses by default."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sar.errors import ConfigError
from sar.results.folders import is_untrained
from sar.results.protocol import (
    BASE2NEW,
    CROSS_DATASET,
    DOMAIN_GENERALIZATION,
    FEW_SHOT,
    IMAGENET_SHIFTS,
)
from sar.trees import dotted

DEMO_DATASETS = ("demo_animals", "demo_food")
"""The embedded datasets that base-to-new runs on unless others are named."""
DATASET_GROUPS = {
    "all": (
        "imagenet",
        "caltech101",
        "oxford_pets",
        "stanford_cars",
        "oxford_flowers",
        "food101",
        "fgvc_aircraft",
        "sun397",
        "dtd",
        "eurosat",
        "ucf101",
    ),
    "demo": ("demo_animals", "demo_food", "demo_objects", "demo_travel"),
}
"""Names that stand for several datasets: the field's eleven, and the embedded ones."""
DEMO_CFG = "pocket"
TRAINERS = ("ZeroshotCLIP", "CoOp", "SAR_CoOp")
SEEDS = (1, 2, 3)
SHOTS = 16

_DEMO_STYLES = ("contrast", "fx")
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


def is_demo(dataset: str) -> bool:
    """The embedded datasets need no --root and use the pocket CLIP."""
    return dataset.startswith("demo_")


def config_path(kind: str, owner: str, name: str = "") -> Path:
    """The YAML file of a dataset or of a trainer's configuration.

    Args:
        kind: "datasets" or "trainers".
        owner: the dataset (its file's name without .yaml), or the trainer; SAR_X uses X's files.
        name: the trainer's configuration; unused for datasets.

    Raises:
        ConfigError: there is no such file; the message lists what exists.
    """
    folder = _root() / kind
    if kind == "datasets":
        return _choose(folder, "dataset", owner)
    if owner not in (known := trainer_names()):
        raise ConfigError(f"there is no trainer {owner!r}; expected one of {', '.join(known)}")
    return _choose(folder / _files_of(owner), f"configuration of {owner}", name)


def trainer_names() -> list[str]:
    """The trainers that have configurations: every X and, where X trains anything, its SAR_X."""
    names = sorted(p.name for p in (_root() / "trainers").iterdir() if p.is_dir())
    return [*names, *(f"SAR_{name}" for name in names if not is_untrained(name))]


def config_files() -> Iterator[tuple[str, str, list[str]]]:
    """("trainer" or "dataset", its name, its configurations) of all that are shipped."""
    for name in sorted(path.name for path in (_root() / "trainers").iterdir() if path.is_dir()):
        files = (_root() / "trainers" / name).glob("*.yaml")
        yield "trainer", name, sorted(path.stem for path in files)
    for path in sorted((_root() / "datasets").glob("*.yaml")):
        yield "dataset", path.stem, []


def default_cfg(trainer: str, dataset: str, protocol: str = BASE2NEW, shots: int = SHOTS) -> str:
    """The configuration a trainer uses on a dataset unless one is named.

    Raises:
        ConfigError: there is no default for this trainer.
    """
    if is_demo(dataset):
        return DEMO_CFG
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
        ConfigError: only ImageNet and the embedded datasets have such a list.
    """
    group = "demo" if source in DATASET_GROUPS["demo"] else "all"
    if group == "demo" and protocol == DOMAIN_GENERALIZATION:
        return tuple(f"{source}_{style}" for style in _DEMO_STYLES)
    if group == "demo" or (source == "imagenet" and protocol == CROSS_DATASET):
        return tuple(name for name in DATASET_GROUPS[group] if name != source)
    if source == "imagenet":
        return IMAGENET_SHIFTS
    raise ConfigError(f"there are no usual targets for {source}; name them (--targets A,B)")


def setting(key: str, files: Sequence[Path], options: Sequence[str] = ()) -> Any:
    """What a run's configuration says about a dotted `key`; None if nothing does."""
    return settings(files, options).get(key)


def settings(files: Sequence[Path], options: Sequence[str] = ()) -> dict[str, Any]:
    """A run's settings by dotted key: later files win, and KEY VALUE `options` over files."""
    found: dict[str, Any] = {}
    for file in files:
        found.update(_settings_in(file, file.stat().st_mtime_ns))
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


@cache
def _settings_in(file: Path, modified: int) -> dict[str, Any]:
    """One file's settings; `modified` makes an edited file a new one to the cache."""
    return dotted(yaml.safe_load(file.read_text(encoding="utf-8")) or {})


def _files_of(trainer: str) -> str:
    return trainer.removeprefix("SAR_")


def _choose(folder: Path, what: str, name: str) -> Path:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ConfigError(
            f"there is no {what} {name!r}; expected one of "
            f"{', '.join(known) or 'none'} (files in {folder})"
        )
    return path


def _root() -> Path:
    spec = importlib.util.find_spec("sar.configs")  # beside the package in a source tree
    for location in (spec.submodule_search_locations or []) if spec else []:
        return Path(location)
    raise ConfigError("the folder configs/ is missing from this installation; install it again")
