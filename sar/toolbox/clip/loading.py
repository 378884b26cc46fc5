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
from sar.storage.files import expanded

from .openai import build_model, clip, model

# Of the MLPs; weights do not tell which.
ACTIVATIONS = {"QuickGELU": model.QuickGELU, "GELU": nn.GELU}
# Where OpenAI's own package and all its users keep the released weights.
CACHE = Path("~/.cache/clip")
# Of image transformers, by their widths, where heads are not 64 wide.
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
_FAMILIES = {384: "S", 512: "M", 768: "B", 1024: "L", 1280: "H", 1408: "g", 1664: "bigG"}
# Entries of a CLIP's weights that are whole numbers by nature.
_WHOLE = {"input_resolution", "context_length", "vocab_size", "position_ids", "num_batches_tracked"}
# Keys under which other programs save the weights.
_AROUND = ("state_dict", "model", "model_state_dict", "module")
# One tensor of each part of a CLIP; without them a file holds something else.
_NEEDED = ("text_projection", "token_embedding.weight", "ln_final.weight", "logit_scale")


def build(
    state: dict[str, Tensor],
    source: str,
    activation: str = "QuickGELU",
    heads: tuple[int, int] | None = None,
) -> Any:
    """OpenAI's `CLIP` with the weights `state`; draws random numbers.

    Args:
        heads: of the image and the text transformer; by default as `heads_of` tells.

    Raises WeightsError, naming their `source`, for weights that do not fit.
    """
    with _fitting(source):
        clip_model = build_model(state)
        for transformer, count in zip(
            (getattr(clip_model.visual, "transformer", None), clip_model.transformer),
            heads or heads_of(state, source),
            strict=True,
        ):
            for block in () if transformer is None else transformer.resblocks:
                block.mlp.gelu = ACTIVATIONS[activation]()
                block.attn.num_heads = count
                block.attn.head_dim, rest = divmod(block.attn.embed_dim, count)
                if rest:
                    raise ValueError(f"{block.attn.embed_dim} wide layers with {count} heads")
    return clip_model


def heads_of(state: dict[str, Tensor], source: str) -> tuple[int, int]:
    """Heads of the image and the text transformer: 64 wide, but in the largest published CLIPs.

    0 for an image encoder that is no transformer; errors as `build`.
    """
    with _fitting(source):
        text = len(state["ln_final.weight"])
        image = len(state["visual.conv1.weight"]) if "visual.proj" in state else 0
    return image // _HEAD_WIDTHS.get(image, 64), text // 64


def check_told(state: dict[str, Tensor], source: str) -> None:
    """Raises WeightsError if nothing tells the activation of these weights.

    CLIPs of the shapes that OpenAI released were published with another activation, too.
    """
    layers = {name.split(".")[3] for name in state if name.startswith("visual.transformer.")}
    if "input_resolution" in state or ("visual.proj" in state and len(layers) < 12):
        return  # OpenAI's own, and what nobody has published
    family, patch = "RN50", ""
    if "visual.proj" in state:
        width, _, _, size = state["visual.conv1.weight"].shape
        family, patch = f"ViT-{_FAMILIES.get(width, 'B')}", str(size)
    elif "visual.layer1.0.conv1.weight" not in state or len(state["ln_final.weight"]) < 512:
        return
    other, ours = "-".join(filter(None, (family, patch))), "/".join(filter(None, (family, patch)))
    raise WeightsError(
        f"{source} does not say whether its weights go with QuickGELU (OpenAI's) or GELU (most of "
        "open_clip's), and the wrong one gives wrong features. Name what they are of: "
        f"MODEL.BACKBONE.NAME {ours}:{source} for OpenAI's, {other}:{source} for open_clip's"
    )


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
    """The weights in a file. Raises WeightsError if they are not those of an OpenAI CLIP."""
    state = read_weights(path)
    missing = [key for key in _NEEDED if key not in state]
    if missing:
        raise WeightsError(
            f"{path} holds no CLIP: {', '.join(missing)} missing. Expected the state dict of an "
            "OpenAI CLIP"
        )
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by their names. Raises WeightsError if it cannot be read."""
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
    for key, weight in state.items():
        if not isinstance(weight, Tensor) or weight.is_sparse or weight.is_meta:
            raise WeightsError(f"{path} holds no CLIP: {key} is no plain tensor of weights")
        if not weight.is_floating_point():
            if key.rpartition(".")[2] in _WHOLE:
                continue
            raise WeightsError(
                f"{path} cannot be used: {key} is of {weight.dtype}; expected fp32, fp16 or bf16 "
                "weights, as published, not rounded or quantized ones"
            )
        if not torch.isfinite(weight).all():
            raise WeightsError(
                f"{path} is damaged: {key} is NaN or infinite. If it was downloaded, download it "
                "again"
            )
    return state


def _unwrapped(content: Any) -> dict[str, Any]:
    """The weights by their own names, even if a file has them below a key or in a wrapper."""
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
