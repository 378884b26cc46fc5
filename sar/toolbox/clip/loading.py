"""CLIP weights in files, and OpenAI's `CLIP` built from them."""

import contextlib
import math
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sar.errors import WeightsError, one_line
from sar.files import expanded

from .openai import build_model, clip, model

# Of the MLPs; weights do not tell which.
ACTIVATIONS = {"QuickGELU": model.QuickGELU, "GELU": nn.GELU}
# Where OpenAI's own package and all its users keep the released weights.
CACHE = Path("~/.cache/clip")
# Under which other programs save the weights.
_AROUND = ("state_dict", "model", "model_state_dict", "module")
# One tensor of each part of a CLIP; without them a file holds something else.
_NEEDED = ("text_projection", "token_embedding.weight", "ln_final.weight", "logit_scale")


def build(state: dict[str, Tensor], source: str, activation: str = "QuickGELU") -> Any:
    """OpenAI's `CLIP` with the weights `state`; draws random numbers.

    Raises WeightsError, naming their `source`, for weights that do not fit.
    """
    with _fitting(source):
        clip_model = build_model(state)
    for module in clip_model.modules():
        if isinstance(module, model.ResidualAttentionBlock):
            module.mlp.gelu = ACTIVATIONS[activation]()
    return clip_model


def build_released(name: str) -> Any:
    """A model that OpenAI released. Raises WeightsError where it cannot be had."""
    path = _find(name)
    return build(read_state(path), str(path))


def resolution(state: dict[str, Tensor], source: str) -> int:
    """Pixels per side of the images that a CLIP with these weights takes; errors as `build`."""
    with _fitting(source):
        if "visual.proj" in state:
            patch = state["visual.conv1.weight"].shape[-1]
            positions = state["visual.positional_embedding"]
        else:
            patch, positions = 32, state["visual.attnpool.positional_embedding"]
    return patch * math.isqrt(len(positions) - 1)


@contextlib.contextmanager
def _fitting(source: str) -> Iterator[None]:
    try:
        yield
    except (
        RuntimeError,
        KeyError,
        IndexError,
        ValueError,
        AssertionError,
        ArithmeticError,
    ) as error:
        raise WeightsError(f"{source} does not fit CLIP's structure: {one_line(error)}") from error


def _find(name: str) -> Path:
    url = clip._MODELS[name]
    cache = expanded(CACHE)
    try:
        return Path(clip._download(url, str(cache)))
    except (OSError, RuntimeError) as error:
        target = cache / os.path.basename(url)
        raise WeightsError(
            f"no weights for {name} at {target}, and downloading them failed ({error}). "
            f"Download {url} elsewhere and put it there, or give its path as "
            "MODEL.BACKBONE.NAME, or use MODEL.BACKBONE.NAME pocket"
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file. Raises WeightsError if they are not those of a CLIP."""
    if not path.is_file():
        raise WeightsError(f"{path} is no file with CLIP weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        elif _is_jit(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of TorchScript's deprecation
                state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            mapped = zipfile.is_zipfile(path)  # what is not needed is not read
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # each format fails in its own way
        raise WeightsError(
            f"{path} could not be read as CLIP weights ({one_line(error)}); expected a state dict, "
            "a safetensors file or a JIT archive. If it was downloaded, download it again"
        ) from error
    state = _unwrapped(state)
    missing = [key for key in _NEEDED if key not in state]
    if missing:
        raise WeightsError(
            f"{path} holds no CLIP: {', '.join(missing)} missing. Expected the state dict of an "
            "OpenAI CLIP"
        )
    for key, weight in state.items():
        if not isinstance(weight, Tensor) or weight.is_sparse or weight.is_meta:
            raise WeightsError(f"{path} holds no CLIP: {key} is no plain tensor of weights")
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise WeightsError(
                f"{path} is damaged: {key} is NaN or infinite. If it was downloaded, download it "
                "again"
            )
    return state


def _unwrapped(content: Any) -> dict[str, Any]:
    """The weights by their own names, of a file that has them below a key, or of a wrapper."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _AROUND if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return {}
    # Of parallel and of compiled modules.
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", key): value for key, value in content.items()}


def _is_jit(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
