"""CLIPs by name: what each of them takes, and how it is built.

A CLIP of your own is one record, here or in a file given by ``--import``, and is chosen by its name
(``--backbone mine``)::

    register_backbone("mine", Backbone(resolution=224, build=build_mine))
    register_backbone("mine-gelu", from_file("~/mine.safetensors", activation="GELU"))
"""

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sar.errors import ConfigError
from sar.files import expanded

from . import loading, openai, pocket

# Pixels per side, where it is not 224.
_RESOLUTIONS = {"RN50x4": 288, "RN50x16": 384, "RN50x64": 448, "ViT-L/14@336px": 336}


@dataclass(frozen=True)
class Backbone:
    """A CLIP, and what must be known to feed it."""

    resolution: int
    """Pixels per side of the images."""
    build: Callable[[], Any]
    """Makes the model, with the attributes of OpenAI's `CLIP`; may draw random numbers."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Of the red, green and blue in the images it was trained with, from 0 to 1."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    tokenizer: Any = openai.tokenizer
    """`encode` gives a text's token ids, without start and end."""
    activation: str = "QuickGELU"
    """Of the transformers' MLPs, as a class's name. Weights do not tell."""
    model: Any = None
    """The CLIP, in fp32 and evaluation mode; None in a record that `load_clip` did not give."""


def register_backbone(name: str, backbone: Backbone) -> None:
    """Make `backbone` known as MODEL.BACKBONE.NAME `name`. ConfigError if the name is taken."""
    if name in _BACKBONES:
        raise ConfigError(f"there is a backbone {name!r} already; choose another name")
    _BACKBONES[name] = backbone


def from_file(path: str | Path, activation: str = "QuickGELU", **more: Any) -> Backbone:
    """The CLIP of OpenAI's structure whose weights are in a file.

    Args:
        path: a state dict (.pt), safetensors, or a JIT archive. Weights pass through fp16, the
            precision CLIP was released in, as they do in CoOp.
        activation: "QuickGELU", which OpenAI's have, or "GELU".
        more: further fields of the record that weights do not tell: mean, std, tokenizer.

    Raises:
        ConfigError: unknown activation. WeightsError: no such file, or not a CLIP's weights.
    """
    if activation not in loading.ACTIVATIONS:
        known = ", ".join(loading.ACTIVATIONS)
        raise ConfigError(f"activation is {activation!r}; expected one of {known}")
    file = expanded(path)
    state = loading.read_state(file)
    resolution = loading.resolution(state, str(file))
    build = partial(loading.build, state, str(file), activation)
    return Backbone(resolution, build, activation=activation, **more)


def backbone_names() -> list[str]:
    """Names `load_clip` accepts besides paths."""
    return list(_BACKBONES)


def check_backbone(name: str) -> None:
    """ConfigError unless `name` is a known CLIP or an existing file."""
    if name not in _BACKBONES and not os.path.isfile(os.path.expanduser(name)):
        raise ConfigError(
            f"MODEL.BACKBONE.NAME is {name!r}; expected one of {', '.join(backbone_names())}, "
            "or the path of a file with CLIP weights"
        )


def find_backbone(name_or_path: str) -> Backbone:
    """The record of a registered name or of a file with weights; no model is built.

    Raises:
        ConfigError: unknown name. WeightsError: a file that does not hold a CLIP.
    """
    check_backbone(name_or_path)
    return _BACKBONES.get(name_or_path) or from_file(name_or_path)


def load_clip(
    name_or_path: str, device: str | torch.device = "cpu", *, keep_rng: bool = True
) -> Backbone:
    """The record of a CLIP with its model, in fp32 and evaluation mode, on `device`.

    Args:
        name_or_path: a released model ("ViT-B/16", downloaded once into ~/.cache/clip), "pocket",
            a registered name, or a file as `from_file` reads it.
        keep_rng: building a CLIP draws its initial weights from torch's global generator before
            the real ones replace them. True puts the generator back. The trainers pass False:
            CoOp's context initialization and batch order come after these draws, and the same
            seed shall give the same run.

    Raises:
        ConfigError: unknown name. WeightsError: no such weights here and no download, or a file
            that does not hold a CLIP.
    """
    if _kept is not None and name_or_path in _kept:
        found = _kept[name_or_path]
    else:
        backbone = find_backbone(name_or_path)
        with torch.random.fork_rng(devices=[]) if keep_rng else contextlib.nullcontext():
            model = backbone.build()
        found = replace(backbone, model=model.float().eval())
        if _kept is None:
            return replace(found, model=found.model.to(device))
        _kept[name_or_path] = found
    return replace(found, model=copy.deepcopy(found.model).to(device))


@contextlib.contextmanager
def keeping_clips(kept: dict[str, Backbone]) -> Iterator[None]:
    """Within, `load_clip` builds each CLIP once, keeps it in `kept` and gives copies.

    For whoever builds several models from one CLIP; random draws of the later ones differ.
    """
    global _kept
    before, _kept = _kept, kept
    try:
        yield
    finally:
        _kept = before


_kept: dict[str, Backbone] | None = None


_BACKBONES: dict[str, Backbone] = {
    "pocket": Backbone(pocket.RESOLUTION, pocket.load_pocket),
    **{
        name: Backbone(_RESOLUTIONS.get(name, 224), partial(loading.build_released, name))
        for name in openai.clip.available_models()
    },
}
