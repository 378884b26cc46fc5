"""SAR, similarity alignment regularization for prompt learning on CLIP, as a plug-in."""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

__version__ = "0.2.0"

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _BesideThePackage:
    """Finds `sar.trainers` and `sar.configs` where a source tree and an editable install have them.

    A wheel has both inside this folder. Here they lie beside it: a second entry of ``__path__``
    would find them too, but with them everything else that lies there, this package included.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return (
            PathFinder.find_spec(name, [_ROOT]) if name in ("sar.trainers", "sar.configs") else None
        )


if os.path.isfile(os.path.join(_ROOT, "trainers", "conditional.py")):
    sys.meta_path.append(_BesideThePackage)


def __getattr__(name: str) -> Any:
    """`sar.Classifier`, which needs torch, is imported when it is asked for."""
    if name == "Classifier":
        return import_module("sar.classifier.predictor").Classifier
    raise AttributeError(f"module 'sar' has no attribute {name!r}")
