"""The embedded toolbox under Dassl's name: ``dassl.x`` *is* ``sar.toolbox.x``, one module object.

So there is one registry of trainers and one of datasets, whatever name they are reached by.
"""

import importlib
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from sar.errors import HostError

TOOLBOX = "sar.toolbox"
# Dassl's top-level packages that the toolbox has. Its own clip and trainers are no part of Dassl.
PACKAGES = ("config", "data", "engine", "evaluation", "metrics", "optim", "utils")
# Where Dassl's file of the same content has another name.
RENAMED = {
    "data.datasets.build": "data.datasets.base_dataset",
    "engine.trainer": "engine",
    "optim.radam": "optim",
    "utils.torchtools": "utils.checkpoint",
}
# Dassl's defaults for what the toolbox leaves to the CLIP in use.
DASSL_INPUT = {
    "SIZE": (224, 224),
    "PIXEL_MEAN": [0.485, 0.456, 0.406],
    "PIXEL_STD": [0.229, 0.224, 0.225],
}
# Names Dassl has and the toolbox does not: what needs them.
ABSENT = {
    "engine": {
        "TrainerXU": "training on unlabelled images",
        "SimpleNet": "training whole image classifiers",
    },
    "optim": {"RAdam": "the optimizer radam"},
}
# Names that checkouts take from a module of Dassl that has only imported them.
IMPORTED = {
    "engine.trainer": {
        "AverageMeter": "sar.toolbox.utils",
        "MetricMeter": "sar.toolbox.utils",
        "SummaryWriter": "torch.utils.tensorboard",
    },
}


class MissingFromToolbox(HostError, ModuleNotFoundError):
    """A part of Dassl that the embedded toolbox does not have."""


def spec_for(name: str) -> ModuleSpec:
    """The import specification of ``dassl...``. Raises `MissingFromToolbox`."""
    _, _, part = name.partition(".")
    target = f"{TOOLBOX}.{RENAMED.get(part, part)}".rstrip(".")
    if part and (part.partition(".")[0] not in PACKAGES or find_spec(target) is None):
        raise MissingFromToolbox(_message(name, "what imports it"))
    return ModuleSpec(name, _Alias(part, target))


class _Alias(Loader):
    """Gives the toolbox's own module object, as if it had been loaded under another name."""

    def __init__(self, part: str, target: str) -> None:
        self.part, self.target = part, target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.target)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has just replaced it
        module.__dict__.setdefault("__path__", [])  # Dassl's is a package
        for name, purpose in ABSENT.get(self.part, {}).items():
            module.__dict__.setdefault(name, _absent(name, purpose))
        for name, source in IMPORTED.get(self.part, {}).items():
            module.__dict__.setdefault(name, getattr(importlib.import_module(source), name))
        if self.part == "data.datasets":
            # Checkouts pickle few-shot selections; the original shall be able to read them.
            module.Datum.__module__ = "dassl.data.datasets.base_dataset"
        elif self.target == f"{TOOLBOX}.config":
            module.cfg_default.INPUT.update(DASSL_INPUT)


def _absent(name: str, purpose: str) -> type:
    """A class of that name which can be imported, but neither made nor extended."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise HostError(_message(name, purpose))

    return type(name, (), {"__init__": refuse, "__init_subclass__": classmethod(refuse)})


def _message(name: str, purpose: str) -> str:
    return (
        f"{name} is not in the embedded toolbox, which answers for dassl because Dassl is not "
        f"installed. For {purpose}, install the original: github.com/KaiyangZhou/Dassl.pytorch"
    )
