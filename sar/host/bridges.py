"""What keeps the original Dassl and the checkouts from running today, repaired in memory.

Each repair is a function of one module, applied right after that module was imported. It changes
nothing else, except for `devices`, which changes calls that could only fail. Run with Dassl 0.6.3
and with the fork of Dassl 0.5.0 in KgCoOp's repository, on PyTorch 2.15.
"""

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import packaging.version

from sar.errors import ConfigError, HostError, WeightsError, one_line
from sar.host.methods import METHODS, Repair
from sar.storage.unpickling import Inert

# CLIP as the checkouts bring it along, some of them with changes of their own beside it.
CLIPS = ("clip.clip", "clip_maple.clip", "trainers.clip_text.clip")
UNSAFE = "SAR_UNSAFE_PICKLES"
"""Environment variable; set to 1, checkpoints that a checkout reads may run code."""
DEPT = ("coop", "cocoop", "kgcoop", "maple")

# What a module imports without need: for datasets that prompt learning does not use, for plots, or
# because it is old. Module -> package.
OPTIONAL = {
    "dassl.data.datasets.base_dataset": "gdown",
    "dassl.data.datasets.dg.wilds.wilds_base": "wilds",
    "dassl.data.datasets.dg.wilds.iwildcam": "pandas",
    **dict.fromkeys(CLIPS, "pkg_resources"),  # gone from setuptools; they want its `packaging`
    **dict.fromkeys([f"trainers.elp_{name}" for name in DEPT], "plotnine"),
}


def check_requirements(folder: Path) -> None:
    """Raises `HostError` if Dassl lacks a package that it needs for every evaluation."""
    if find_spec("sklearn") is None:
        raise HostError(
            f"Dassl in {folder} needs scikit-learn, which is not installed: pip install "
            "scikit-learn. Or take Dassl off Python's search path: the embedded toolbox then "
            "answers in its place"
        )


@contextmanager
def optional_packages(module: str) -> Iterator[None]:
    """While `module` is imported, an empty package answers for the one it may lack."""
    package = OPTIONAL.get(module)
    if package is None or package in sys.modules or find_spec(package) is not None:
        yield
        return
    stub = ModuleType(package)

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise HostError(
                f"{module} needs {package} here, which is missing: pip install {package}"
            )

        return refuse

    stub.__getattr__ = missing  # type: ignore[method-assign]
    stub.packaging = packaging  # type: ignore[attr-defined]
    sys.modules[package] = stub
    try:
        yield
    finally:
        del sys.modules[package]


def schedulers(module: ModuleType) -> None:
    """dassl.optim.lr_scheduler: two defects of the warm-up schedules.

    They hand `verbose` to PyTorch's base class, which no longer takes it. And their checkpoints
    hold the schedule after the warm-up as an object, with an optimizer inside: on resuming, that
    *copy* of the optimizer is scheduled and the learning rate of the real one stays where it was.
    """
    warmup = module._BaseWarmupScheduler
    (parent,) = warmup.__bases__

    class Repaired(parent):  # type: ignore[misc,valid-type]
        def __init__(self, optimizer: Any, last_epoch: int = -1, verbose: Any = None) -> None:
            super().__init__(optimizer, last_epoch)

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            own = dict(state_dict)
            successor = own.pop("successor")  # an object, or its state (the embedded toolbox)
            if isinstance(successor, Inert):
                successor = successor.state
            state = successor if isinstance(successor, dict) else vars(successor)
            self.successor.load_state_dict({k: v for k, v in state.items() if k != "optimizer"})
            super().load_state_dict(own)

    warmup.__bases__ = (Repaired,)


def checkpoints(module: ModuleType) -> None:
    """dassl.utils.torchtools: its own checkpoints hold objects, which torch.load now refuses.

    These objects may be of any class and run any code. They are read as
    `sar.storage.unpickling.Inert` instead, which is enough to test and to resume; the environment
    variable `UNSAFE` lets files that need more run their code, as they always could.
    """
    import torch

    from sar.toolbox.utils.checkpoint import inert_pickle

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return torch.load(file, *args, **{**kwargs, "weights_only": True})
        except (pickle.UnpicklingError, RuntimeError):
            if os.environ.get(UNSAFE) == "1":
                return torch.load(file, *args, **{**kwargs, "weights_only": False})
        try:
            inert = {"weights_only": False, "pickle_module": inert_pickle}
            return torch.load(file, *args, **{**kwargs, **inert})
        except Exception as error:  # a damaged file fails in many ways
            raise WeightsError(
                f"{file} cannot be read without running code that it carries ({one_line(error)}). "
                f"If you trust whoever wrote it, set {UNSAFE}=1"
            ) from error

    _overlay(module, "torch", load=load)


def integers(module: ModuleType) -> None:
    """RandAugment and AutoAugment use `numpy.int`, which NumPy 1.24 removed."""
    _overlay(module, "np", int=int)


def values(module: ModuleType) -> None:
    """yacs.config: a whole number for a key that takes any; words for a CTX_INIT that is a switch.

    The latter in KgCoOp's repository and those made from it, which know the words themselves.
    """
    check = module._check_and_coerce_cfg_value_type

    def coerce(value: Any, default: Any, key: str, full_key: str) -> Any:
        kinds = type(value), type(default)
        if kinds == (int, float) or (kinds == (str, bool) and key == "CTX_INIT"):
            value = type(default)(value)
        return check(value, default, key, full_key)

    module._check_and_coerce_cfg_value_type = coerce  # type: ignore[attr-defined]


def devices(module: ModuleType) -> None:
    """PromptSRC, KgCoOp and VPT call `.cuda()` unconditionally: without CUDA it changes nothing.

    There it could only fail, so nothing that works is affected.
    """
    import torch

    if not torch.cuda.is_available():
        for movable in (torch.Tensor, torch.nn.Module):
            movable.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def clip_weights(module: ModuleType) -> None:
    """A checkout's CLIP: MODEL.BACKBONE.NAME may be a file; a failed download is explained."""
    download = module._download

    class Models(dict[str, str]):
        def __missing__(self, name: str) -> str:
            if Path(name).expanduser().is_file():
                return str(Path(name).expanduser())
            raise ConfigError(
                f"MODEL.BACKBONE.NAME is {name!r}; inside a checkout it is one of "
                f"{', '.join(self)} or the path of such a CLIP's weights. The pocket CLIP works "
                "with `sarclip train` only: checkouts rely on the widths of the released ones"
            )

    @wraps(download)
    def find(url: str, *args: Any, **kwargs: Any) -> str:
        if os.path.isfile(url):
            return url
        try:
            path: str = download(url, *args, **kwargs)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"CLIP's weights could not be downloaded ({error}). Fetch {url} elsewhere and put "
                "it into ~/.cache/clip, or give its path as MODEL.BACKBONE.NAME"
            ) from error
        return path

    module._MODELS = Models(module._MODELS)  # type: ignore[attr-defined]
    module._download = find  # type: ignore[attr-defined]


def final_test(module: ModuleType) -> None:
    """A toolbox's trainer: ATPrompt's train.py has its own Dassl end the process by `is_final`."""
    test = module.SimpleTrainer.test
    if "is_final" in signature(test).parameters:
        return

    @wraps(test)
    def tested(self: Any, *args: Any, is_final: bool = False, **kwargs: Any) -> Any:
        return test(self, *args, **kwargs)

    module.SimpleTrainer.test = tested


def _overlay(module: ModuleType, name: str, **replaced: Any) -> None:
    """Lets `module` see `replaced` in the library it imported as `name`, and nobody else."""
    library = getattr(module, name)
    overlay = ModuleType(library.__name__)
    overlay.__dict__.update(replaced)
    overlay.__getattr__ = partial(getattr, library)  # type: ignore[method-assign]
    setattr(module, name, overlay)


REPAIRS: dict[str, list[Repair]] = {
    "dassl.optim.lr_scheduler": [schedulers],
    "dassl.utils.torchtools": [checkpoints],
    "dassl.data.transforms.autoaugment": [integers],
    "dassl.data.transforms.randaugment": [integers],
    "trainers": [devices],
    "prompting": [devices],
    **{name: [clip_weights] for name in CLIPS},
    "yacs.config": [values],
    "dassl.engine.trainer": [final_test],
    "sar.toolbox.engine.simple_trainer": [final_test],
    **METHODS,
}


def repair(name: str) -> None:
    """Applies what is wanted after the import of `name`, which must be imported."""
    for each in REPAIRS.get(name, ()):
        each(sys.modules[name])
