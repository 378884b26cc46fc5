"""Configuration: Dassl's and CoOp's yacs keys, merged with checks that name the mistake.

`cfg_default` is the live default tree. What only one trainer has is added to a copy of it before
configuration files are read (`sar.toolbox.registered`).
"""

from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from sar.settings.dataset_records import called
from sar.storage.texts import parse_yaml

from .defaults import VALUES, cfg_default
from .merge import find_config, merge_file, merge_known, merge_options
from .rules import Number, Rule, Several, check_values

__all__ = [
    "VALUES",
    "Number",
    "Rule",
    "Several",
    "cfg_default",
    "cfg_from_dump",
    "check_values",
    "clean_cfg",
    "dataset_title",
    "find_config",
    "get_cfg_default",
    "merge_file",
    "merge_options",
]


def get_cfg_default() -> CfgNode:
    """A fresh copy of the default configuration."""
    return cfg_default.clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the TRAINER nodes of all methods but `trainer`, so that printing `cfg` is short."""
    for key in [key for key in cfg.TRAINER if key not in ("NAME", trainer.upper())]:
        del cfg.TRAINER[key]


def dataset_title(cfg: CfgNode) -> str:
    """What model cards and tables call the dataset of a configuration."""
    return called(cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.TITLE)


def cfg_from_dump(text: str, extend_cfg: Callable[[CfgNode], Any] | None = None) -> CfgNode:
    """The configuration that `CfgNode.dump` wrote, over today's defaults.

    `extend_cfg` adds nodes to the defaults first. Keys that no longer exist are left out.
    """
    cfg = get_cfg_default()
    if extend_cfg is not None:
        extend_cfg(cfg)
    merge_known(cfg, parse_yaml(text, "the configuration of the earlier run"))
    return cfg
