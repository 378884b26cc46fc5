"""Configuration: Dassl's and CoOp's yacs keys, merged with checks that name the mistake.

`cfg_default` is the live default tree: whoever adds a method adds its node there (or to a clone)
before configuration files are read.
"""

from yacs.config import CfgNode

from .defaults import cfg_default
from .merge import find_config, merge_file, merge_options

__all__ = ["cfg_default", "find_config", "get_cfg_default", "merge_file", "merge_options"]


def get_cfg_default() -> CfgNode:
    """A fresh copy of the default configuration."""
    return cfg_default.clone()
