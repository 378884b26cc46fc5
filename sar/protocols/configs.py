"""Where configuration files lie, and which one a trainer uses by default."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sar.errors import ConfigError
from sar.results.layout import is_untrained

DEMO_DATASETS = ("demo_animals", "demo_food")
"""The embedded datasets of the main job."""
DEMO_CFG = "pocket"
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
_PUBLISHED_CFG_IMAGENET = {"CoOp": "vit_b16_ep50_ctxv1"}
"""The configurations of the published base-to-new results, ImageNet where it has its own."""


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


def default_cfg(trainer: str, dataset: str) -> str:
    """The configuration a trainer uses on a dataset unless one is named.

    Raises:
        ConfigError: there is no default for this trainer.
    """
    if is_demo(dataset):
        return DEMO_CFG
    files = _files_of(trainer)
    cfg = _PUBLISHED_CFG_IMAGENET.get(files) if dataset == "imagenet" else None
    cfg = cfg or _PUBLISHED_CFG.get(files)
    if not cfg:
        raise ConfigError(f"{trainer} has no default configuration for {dataset}; name one (--cfg)")
    return cfg


def setting(key: str, files: Sequence[Path], options: Sequence[str] = ()) -> Any:
    """What a run's configuration says about a dotted `key`; None if nothing does.

    Later files win over earlier ones, and KEY VALUE `options` over files.
    """
    value: Any = None
    for file in files:
        node: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        value = node if node is not None else value
    for name, text in zip(options[::2], options[1::2], strict=True):
        if name == key:
            value = yaml.safe_load(text)
    return value


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
