"""What trainers and datasets are registered, and the configuration keys that they bring along."""

import sys
from itertools import chain
from typing import Any

from yacs.config import CfgNode

from sar.toolbox.config import VALUES, Rule


def register_builtin() -> None:
    """Make the toolbox's own trainers and datasets known."""
    import sar.toolbox.data.datasets.demo
    import sar.toolbox.data.datasets.imagenet
    import sar.toolbox.trainers  # noqa: F401
    from sar.toolbox.data.datasets.recorded import register_recorded

    register_recorded()


def add_registered_keys(cfg: CfgNode) -> None:
    """Add what only one trainer or dataset has: the file of any may define `extend_cfg(cfg)`."""
    for add_keys in _of_modules("extend_cfg"):
        add_keys(cfg)


def registered_rules() -> dict[str, Rule]:
    """What numbers and lists may be, by key: VALUES of the toolbox and of any such file."""
    return dict(chain(VALUES.items(), *(table.items() for table in _of_modules("VALUES"))))


def _of_modules(name: str) -> list[Any]:
    """What the files of the registered trainers and datasets have by this name."""
    from sar.toolbox.data import DATASET_REGISTRY
    from sar.toolbox.engine import TRAINER_REGISTRY

    registered = (*TRAINER_REGISTRY.registered(), *DATASET_REGISTRY.registered())
    modules = (sys.modules.get(name) for name in dict.fromkeys(r.__module__ for r in registered))
    return [found for module in modules if (found := getattr(module, name, None)) is not None]
