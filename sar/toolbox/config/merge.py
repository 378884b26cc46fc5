"""Merging files and command-line options into a configuration, with errors that name the key."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from sar.errors import ConfigError, suggestion
from sar.settings.config_files import find, listed, settings
from sar.settings.trees import dotted


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file. Raises ConfigError for a missing file, bad YAML, key or value."""
    file = find_config(path)
    for key, value in dotted(settings(file)).items():
        _set(cfg, key, value, str(file))


def merge_options(cfg: CfgNode, options: Sequence[str]) -> None:
    """Merge `KEY VALUE KEY VALUE ...`. Raises ConfigError for an odd count, bad key or value."""
    if len(options) % 2:
        raise ConfigError(
            f"options must be KEY VALUE pairs, found {len(options)} words: {' '.join(options)}"
        )
    for key, value in zip(options[::2], options[1::2], strict=True):
        _set(cfg, key, value, "the command line")


def merge_known(cfg: CfgNode, tree: Mapping[str, Any]) -> None:
    """Merge the keys of a nested mapping that `cfg` has; others are left out."""
    known = dotted(cfg)
    for key, value in dotted(tree).items():
        if key in known:
            _set(cfg, key, value, "the earlier run")


def find_config(path: str) -> Path:
    """`path` itself or, if there is no such file, the one in `config_files.folders`."""
    file = Path(path)
    if file.is_file():
        return file
    parts = file.parts[1:] if file.parts[:1] == ("configs",) else file.parts
    if found := find(*parts):
        return found
    siblings = [path.name for path in listed(*parts[:-1])]
    has = f"; {'/'.join(['configs', *parts[:-1]])} has: {', '.join(siblings)}" if siblings else ""
    raise ConfigError(f"configuration file {path} not found{has}")


def _set(cfg: CfgNode, key: str, value: Any, where: str) -> None:
    known = dotted(cfg)
    if key not in known:
        raise ConfigError(f"unknown configuration key {key} in {where}{suggestion(key, known)}")
    value = CfgNode._decode_cfg_value(value)
    default = known[key]
    if value is None and default is not None:  # None is a host's own default
        raise ConfigError(f"{key} in {where} has no value; expected one such as {default!r}")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    try:
        cfg.merge_from_list([key, value])
    except ValueError as error:
        raise ConfigError(
            f"{key} in {where} is {value!r:.200} ({type(value).__name__}); expected a "
            f"{type(default).__name__} such as {default!r}"
        ) from error


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
