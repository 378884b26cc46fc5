"""CLIP: tokenizer, weights and numerical precision.

The model and tokenizer are those of the clip-anytorch package (OpenAI's CLIP).
"""

import sys
from types import ModuleType

import packaging.version


def _import_clip() -> ModuleType:
    """Import clip-anytorch, which takes `packaging` from `pkg_resources`.

    Current setuptools no longer has that module, so a stand-in with this one attribute answers
    to its name while the import runs, and only then.
    """
    absent = object()
    original = sys.modules.get("pkg_resources", absent)
    stand_in = ModuleType("pkg_resources")
    stand_in.packaging = packaging  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        import clip.clip
    finally:
        if original is absent:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = original  # type: ignore[assignment]
    return clip.clip


clip = _import_clip()

from clip.model import CLIP  # noqa: E402
from clip.simple_tokenizer import SimpleTokenizer  # noqa: E402

from .loading import backbone_names, check_backbone, load_clip  # noqa: E402
from .precision import PRECISIONS, autocast, check_precision, set_precision  # noqa: E402

available_models = clip.available_models
tokenize = clip.tokenize

__all__ = [
    "CLIP",
    "PRECISIONS",
    "SimpleTokenizer",
    "autocast",
    "available_models",
    "backbone_names",
    "check_backbone",
    "check_precision",
    "clip",
    "load_clip",
    "set_precision",
    "tokenize",
]
