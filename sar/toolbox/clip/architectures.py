"""Models of open_clip by name: the architecture, and behind a colon its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sar.command_line.extras import extra
from sar.errors import ConfigError, WeightsError, nearest, one_line
from sar.storage.files import expanded

from . import loading, openclip
from .backbone import Backbone

with extra("openclip"):
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg


def names() -> list[str]:
    """All names that open_clip knows."""
    return list(open_clip.list_models())


def check(architecture: str, weights: str) -> None:
    """ConfigError unless `weights` are a file, or published ones of a known architecture."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights in tags or expanded(weights).is_file() or (not weights and len(tags) == 1):
        return
    near = nearest(weights, tags)
    found = f"has no weights {weights!r}" if weights else "needs the name of its weights"
    raise ConfigError(
        f"open_clip's {architecture} {found}"
        + (f" (did you mean {architecture}:{near}?)" if near else "")
        + f"; expected {architecture}:FILE"
        + (f", or {architecture}:WEIGHTS with one of {', '.join(tags)}" if tags else "")
    )


def by_name(name: str) -> Backbone:
    """The record of "ARCHITECTURE:WEIGHTS", which `check` has passed."""
    architecture, _, weights = name.partition(":")
    config = copy.deepcopy(open_clip.get_model_config(architecture))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights and weights not in tags:
        published = [get_pretrained_cfg(architecture, tag) for tag in tags]
        means = {(one["mean"], one["std"]) for one in published}
        preprocess = published[0] if len(means) == 1 else {}
        return described(config, preprocess, partial(loading.read_weights, expanded(weights)), name)
    published_as = get_pretrained_cfg(architecture, weights or tags[0])
    # What the weights were trained with; the architecture's own name does not always tell.
    config["quick_gelu"] = bool(published_as.get("quick_gelu", config.get("quick_gelu", False)))
    return described(config, published_as, partial(_published, published_as, name), name)


def described(
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    read: Callable[[], dict[str, Tensor]],
    source: str,
    folder: str = "",
) -> Backbone:
    """The record of an open_clip configuration.

    Args:
        config: open_clip's `model_cfg`. preprocess: its `preprocess_cfg`, whose mean and std count.
        read: gives the weights.
        source: what messages call them.
        folder: with the files of the tokenizer, where it is not on a hub.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    sides = preprocess.get("size") or vision.get("image_size", 224)
    side, *others = [sides] if isinstance(sides, int) else sides
    if any(other != side for other in others):
        raise ConfigError(f"{source} takes pictures of {sides} pixels; only squares are known here")
    tokenizer = openclip.tokenizer_of(config, folder)
    build = partial(_build, config, read, source, side, tokenizer)
    default = Backbone(side, build)
    mean, std = preprocess.get("mean"), preprocess.get("std")
    return Backbone(
        side,
        build,
        default.mean if mean is None else tuple(mean),
        default.std if std is None else tuple(std),
        tokenizer,
        _activation(config),
        _heads(vision, text),
    )


def _build(
    config: Mapping[str, Any], read: Callable[[], dict[str, Tensor]], source: str, *more: Any
) -> Any:
    return openclip.build(config, read(), source, *more)


def _activation(config: Mapping[str, Any]) -> str:
    if config.get("quick_gelu"):
        return "QuickGELU"
    tanh = (config["text_cfg"].get("act_kwargs") or {}).get("approximate") == "tanh"
    return "GELU (tanh)" if tanh else "GELU"


def _heads(vision: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[int, int] | None:
    if vision.get("timm_model_name") or text.get("hf_model_name"):
        return None
    transformer = isinstance(vision.get("layers", 12), int)
    image = vision.get("width", 768) // vision.get("head_width", 64) if transformer else 0
    return image, text.get("heads", 8)


def _published(published_as: dict[str, Any], name: str) -> dict[str, Tensor]:
    try:
        file = download_pretrained(published_as)
    except Exception as error:  # of the network, a hub or a disk
        raise WeightsError(
            f"the weights of {name} are not here, and downloading them failed ({one_line(error)}). "
            f"Download them elsewhere, and give the file: {name.partition(':')[0]}:FILE"
        ) from error
    return loading.read_weights(Path(file))
