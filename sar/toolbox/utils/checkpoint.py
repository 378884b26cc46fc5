"""Reading and writing checkpoints, in Dassl's files, with plain types and tensors only."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any, ClassVar

import torch
from torch import Tensor, nn

from sar.errors import NotFiniteError, WeightsError, one_line
from sar.storage.files import atomic_write, damaged_entry
from sar.storage.unpickling import InertUnpickler, check_size
from sar.toolbox.utils.tools import mkdir_if_missing

# Embeddings of the class names a prompt learner was built for: a property of the classes at hand,
# never of the trained prompt. They travel in checkpoints and are left there.
CLASS_BUFFERS = ("token_prefix", "token_suffix", "token_midfix")


def save_checkpoint(state: dict[str, Any], save_dir: str, model_name: str = "") -> Path:
    """Write `state` to `save_dir`/`model_name` (default model.pth.tar-<epoch>), atomically.

    `state["state_dict"]` loses a leading "module." (of parallel wrappers) from its keys.
    """
    mkdir_if_missing(save_dir)
    weights = {key.removeprefix("module."): value for key, value in state["state_dict"].items()}
    path = Path(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    with atomic_write(path) as file:
        torch.save({**state, "state_dict": OrderedDict(weights)}, file)
    print(f"Checkpoint saved to {path}")
    return path


def load_checkpoint(path: str | os.PathLike[str], needed: Sequence[str] = ()) -> dict[str, Any]:
    """Read a checkpoint to the CPU without running any code it may carry.

    Checkpoints of Dassl pickle a scheduler object inside, which becomes
    `sar.storage.unpickling.Inert`.

    Args:
        needed: entries that it must have.

    Raises:
        WeightsError: the file is missing or damaged, or holds something else.
    """
    if not Path(path).is_file():
        raise WeightsError(f"no checkpoint at {path}; {_neighbours(Path(path))}")
    try:
        check_size(path)
        if entry := damaged_entry(path):
            raise ValueError(f"the checksum of {entry} is not what was written")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            content = torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=inert_pickle
            )
    except Exception as error:  # a damaged archive fails in many ways
        raise WeightsError(
            f"checkpoint {path} cannot be read ({one_line(error)}); delete it, or train again"
        ) from error
    return _checked(content, path, needed)


# What a checkpoint of any toolbox may hold, and of which kind it is.
_KINDS: Mapping[str, tuple[Any, str]] = {
    "state_dict": (Mapping, "weights by name"),
    "epoch": (int, "a number"),
    "optimizer": (Mapping | None, "a state"),
    "scheduler": (Mapping | None, "a state"),
    "config": (str, "a text"),
    "classnames": (list, "a list of names"),
    "clip": (str, "a text"),
    "run": (Mapping, "a state"),
}


def _checked(content: Any, path: str | os.PathLike[str], needed: Sequence[str]) -> dict[str, Any]:
    problem = ""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        problem = f"it is a {type(content).__name__} without named entries"
    elif missing := [key for key in needed if key not in content]:
        problem = f"it has no {', '.join(missing)}"
    else:
        for key, (kind, what) in _KINDS.items():
            if key in content and not isinstance(content[key], kind):
                problem = problem or f"its {key} is a {type(content[key]).__name__}, not {what}"
        names = content.get("classnames", ())
        if not problem and not all(isinstance(name, str) for name in names):
            problem = "its classnames are not all texts"
        if not problem and isinstance(content.get("epoch"), bool):
            problem = "its epoch is no number"
    if problem:
        raise WeightsError(
            f"{path} is no checkpoint: {problem}. Expected a file that sarclip, Dassl or CoOp has "
            "written; train again, or name another"
        )
    return dict(content)


def load_weights(model: nn.Module, state: dict[str, Any], source: str) -> None:
    """Load `state`, all of it but the class-name buffers.

    Entries that begin with one of `model.unused_keys`, if it has such an attribute, are skipped:
    other implementations save parameters that nothing uses.

    Raises:
        WeightsError: a weight is missing, unexpected or of another shape; all are named.
    """
    wanted = model.state_dict()
    if odd := [key for key, value in state.items() if not _is_weight(key, value)]:
        raise WeightsError(f"{source} is damaged: {odd[0]!r} in it is no tensor of weights")
    given = {
        key.removeprefix("module."): value
        for key, value in state.items()
        if not is_class_buffer(key)
        and not key.removeprefix("module.").startswith(getattr(model, "unused_keys", ()))
    }
    names = {key: value for key, value in wanted.items() if not is_class_buffer(key)}
    problems = misfits(given, names)
    problems += [
        f"{key} has {given[key].dtype}, expected weights"
        for key in sorted(names.keys() & given.keys())
        if wanted[key].is_floating_point() and not given[key].is_floating_point()
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit the model: {'; '.join(problems)}. Was it trained with the "
            "same trainer, backbone and context settings?"
        )
    check_finite(given, source)
    model.load_state_dict(given, strict=False)


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What is missing among `given`, what is unexpected, and what has another shape."""
    problems = [f"{key} is missing" for key in sorted(wanted.keys() - given.keys())]
    problems += [f"{key} is unexpected" for key in sorted(given.keys() - wanted.keys())]
    problems += [
        f"{key} has shape {tuple(given[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & given.keys())
        if given[key].shape != wanted[key].shape
    ]
    return problems


def _is_weight(key: Any, value: Any) -> bool:
    """Whether an entry of a state dict is what it should be: a plain tensor on the CPU."""
    plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    return plain and isinstance(key, str) and not value.is_complex() and not value.is_quantized


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raises NotFiniteError, naming those of the `weights` that hold NaN or infinite values."""
    odd = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if odd:
        raise NotFiniteError(
            f"{', '.join(odd[:3])} of {source} {'are' if len(odd) > 1 else 'is'} NaN or infinite: "
            "an accuracy would be chance. Train with a lower OPTIM.LR and OPTIM.WEIGHT_DECAY, or a "
            "higher precision (PREC amp or fp32)"
        )


def load_pretrained_weights(
    model: nn.Module,
    path: str,
    check: Callable[[dict[str, Any], nn.Module, Path], None] | None = None,
) -> None:
    """Initialize `model` from a checkpoint or bare state dict (MODEL.INIT_WEIGHTS).

    `check` is given the checkpoint, the model and the path before, and may raise WeightsError.
    """
    checkpoint = load_checkpoint(path)
    if "state_dict" not in checkpoint:
        checkpoint = {"state_dict": checkpoint}
    if check is not None:
        check(checkpoint, model, Path(path))
    load_weights(model, checkpoint["state_dict"], path)
    print(f"Loaded initial weights from {path}")


def is_class_buffer(key: str) -> bool:
    return key.rpartition(".")[2] in CLASS_BUFFERS


def _neighbours(path: Path) -> str:
    found = sorted(file.name for file in path.parent.glob("model*"))
    if found:
        return f"that folder has: {', '.join(found)}"
    return f"{path.parent} has none. Check --model-dir, or train first"


class _Unpickler(InertUnpickler):
    """Knows tensors, too."""

    known: ClassVar = {
        **InertUnpickler.known,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    }


def _load(file: IO[bytes], **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


inert_pickle = ModuleType("inert_pickle")
"""For `torch.load`: what is neither a tensor nor plain becomes `sar.storage.unpickling.Inert`."""
inert_pickle.Unpickler = _Unpickler  # type: ignore[attr-defined]
inert_pickle.load = _load  # type: ignore[attr-defined]
