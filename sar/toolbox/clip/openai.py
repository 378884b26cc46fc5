"""OpenAI's CLIP as the clip-anytorch package has it, whatever is called ``clip`` here.

Checkouts of the existing toolboxes bring a package of that name, each with a model of its own, and
``import clip`` must go on to give theirs. So this one is loaded from the installed distribution
under a private name, and ``sys.modules["clip"]`` is neither read nor set.
"""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import packaging.version
import torch

from sar.errors import HostError

_NAME = "_sar_openai_clip"


def _load() -> ModuleType:
    try:
        folder = Path(str(distribution("clip-anytorch").locate_file("clip")))
    except PackageNotFoundError as error:
        raise HostError(
            "The package clip-anytorch (OpenAI's CLIP) is not installed; run: "
            "pip install clip-anytorch"
        ) from error
    spec = spec_from_file_location(_NAME, folder / "__init__.py")
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise HostError(f"clip-anytorch is damaged: {folder} is missing. Install it again.")
    package = module_from_spec(spec)
    # While the import runs, and only then:
    # - The package takes `packaging` from `pkg_resources`, which current setuptools no longer has:
    #   a stand-in with this one attribute answers to its name.
    # - A default of `clip.load`, which nothing here calls, asks for a GPU. Who has asked cannot
    #   fork processes that use one, and jobs are forked from a process that has imported this.
    absent: Any = object()
    original = sys.modules.get("pkg_resources", absent)
    is_available = torch.cuda.is_available
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.packaging = packaging
    sys.modules |= {_NAME: package, "pkg_resources": stand_in}
    torch.cuda.is_available = lambda: False
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[_NAME]
        raise
    finally:
        torch.cuda.is_available = is_available
        if original is absent:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = original
    return package


_load()
clip: Any = import_module(f"{_NAME}.clip")
model: Any = import_module(f"{_NAME}.model")
tokenizer: Any = clip._tokenizer
CLIP: Any = model.CLIP
build_model: Any = model.build_model
