"""CLIPs by name: what each of them takes, and how it is built.

A CLIP of your own is one record, here or in a file given by ``--import``, and is chosen by its name
(``--backbone mine``)::

    register_backbone("mine", Backbone(resolution=224, build=build_mine))
    register_backbone("mine-gelu", from_file("~/mine.safetensors", activation="GELU"))
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch

from sar.command_line.extras import install
from sar.errors import ConfigError, SARError, WeightsError, one_line
from sar.storage.files import expanded

from . import loading, openai, pocket
from .backbone import Backbone, from_file

HUB = "hf-hub:"

# Of OpenAI's: pixels per side, where it is not 224, and heads of the image and text transformers.
_RESOLUTIONS = {"RN50x4": 288, "RN50x16": 384, "RN50x64": 448, "ViT-L/14@336px": 336}
_HEADS = {
    **dict.fromkeys(("RN50", "RN101"), (0, 8)),
    **{"RN50x4": (0, 10), "RN50x16": (0, 12), "RN50x64": (0, 16)},
    **dict.fromkeys(("ViT-B/32", "ViT-B/16"), (12, 8)),
    **dict.fromkeys(("ViT-L/14", "ViT-L/14@336px"), (16, 12)),
}


def register_backbone(name: str, backbone: Backbone) -> None:
    """Make `backbone` known as MODEL.BACKBONE.NAME `name`. ConfigError if the name is taken."""
    if name in _BACKBONES:
        raise ConfigError(f"there is a backbone {name!r} already; choose another name")
    _BACKBONES[name] = backbone


def backbone_names() -> list[str]:
    """Names `load_clip` accepts besides those of open_clip, `hf-hub:` names and paths."""
    return list(_BACKBONES)


def check_backbone(name: str) -> None:
    """ConfigError unless `name` is that of a known CLIP, on a hub, or an existing place."""
    if name in _BACKBONES or _place(name).exists() or name.startswith(HUB):
        return
    first, _, weights = name.partition(":")
    if first in openai.clip.available_models() and weights:
        if not _place(weights).is_file():
            raise ConfigError(f"MODEL.BACKBONE.NAME is {name!r}, and there is no file {weights}")
        return
    foreign = bool(find_spec("open_clip"))
    if foreign:
        from . import architectures

        if first in architectures.names():
            architectures.check(first, weights)
            return
    known = [*_BACKBONES, *(architectures.names() if foreign else ())]
    near = get_close_matches(first, known, n=3, cutoff=0.5)
    raise ConfigError(
        f"MODEL.BACKBONE.NAME is {name!r}"
        + (f" (did you mean {' or '.join(near)}?)" if near else "")
        + f"; expected one of {', '.join(_BACKBONES)}, a model of open_clip with its weights "
        "(ViT-B-32:laion2b_s34b_b79k, or ViT-B-32:FILE)"
        + ("" if foreign else f" if that is installed ({install('openclip')})")
        + f", {HUB}NAME, or the path of a file or folder with CLIP weights"
    )


def find_backbone(name_or_path: str) -> Backbone:
    """The record of a CLIP by its name or place; no model is built.

    Raises:
        ConfigError: unknown name. WeightsError: a place that does not hold a CLIP.
        MissingPackageError: one of open_clip or a hub, and the package is not there.
    """
    check_backbone(name_or_path)
    if name_or_path in _BACKBONES:
        return _BACKBONES[name_or_path]
    place = _place(name_or_path)
    if place.exists() and not place.is_dir():
        return from_file(place)
    first, _, weights = name_or_path.partition(":")
    if first in openai.clip.available_models() and weights:
        return from_file(weights, "QuickGELU")
    return _foreign(name_or_path)


@lru_cache(maxsize=4)  # asked for by the transforms and by the model; a tokenizer takes seconds
def _foreign(name: str) -> Backbone:
    """One that open_clip builds."""
    from . import architectures, clip_folders

    place = _place(name)
    with _buildable(name):
        if name.startswith(HUB):
            found = clip_folders.from_hub(name.removeprefix(HUB))
        elif place.is_dir():
            found = clip_folders.from_folder(place)
        else:
            found = architectures.by_name(name)
    return replace(found, build=_buildable(name)(found.build))


@contextlib.contextmanager
def _buildable(name: str) -> Iterator[None]:
    """WeightsError, in one line, for a description of no CLIP; open_clip fails in many ways."""
    try:
        yield
    except (SARError, MemoryError):
        raise
    except Exception as error:
        raise WeightsError(
            f"{name} is damaged, or describes no CLIP that can be built here "
            f"({type(error).__name__}: {one_line(error)}); get its files again"
        ) from error


def _place(name: str) -> Path:
    return expanded(name or "-")


def load_clip(
    name_or_path: str, device: str | torch.device = "cpu", *, keep_rng: bool = True
) -> Backbone:
    """The record of a CLIP with its model, in fp32 and evaluation mode, on `device`.

    Args:
        name_or_path: a released model ("ViT-B/16", downloaded once into ~/.cache/clip), "pocket",
            a registered name, or a file as `from_file` reads it; "ViT-B/16:FILE" for weights of
            one of OpenAI's. With the extra openclip also a model of open_clip and its weights
            ("ViT-B-32:laion2b_s34b_b79k", "ViT-B-32:FILE"), "hf-hub:NAME", and a folder as such
            hubs have them: open_clip's, or a CLIP or SigLIP of transformers.
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
        model.tokenizer = backbone.tokenizer
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
    "pocket": Backbone(pocket.RESOLUTION, pocket.load_pocket, heads=pocket.HEADS),
    **{
        name: Backbone(
            _RESOLUTIONS.get(name, 224),
            partial(loading.build_released, name),
            heads=_HEADS.get(name),
        )
        for name in openai.clip.available_models()
    },
}
