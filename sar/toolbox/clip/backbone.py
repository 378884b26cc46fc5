"""A CLIP, and what must be known to feed it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sar.errors import ConfigError
from sar.storage.files import expanded

from . import loading
from .tokens import OPENAI, Tokenizer


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
    tokenizer: Tokenizer = OPENAI
    activation: str = "QuickGELU"
    """Of the transformers' MLPs, as a class's name. Weights do not tell."""
    heads: tuple[int, int] | None = None
    """Of the image and the text transformer, 0 for another encoder; None if only the model tells.
    Weights do not tell."""
    model: Any = None
    """The CLIP, in fp32 and evaluation mode; None in a record that `load_clip` did not give."""

    def __post_init__(self) -> None:
        """Raises ConfigError for what no picture can be fed with."""
        whole = isinstance(self.resolution, int) and self.resolution > 0
        if not (whole and _colours(self.mean) and _colours(self.std) and min(self.std) > 0):
            raise ConfigError(
                f"a CLIP takes pictures of {self.resolution!r:.80} pixels, mean {self.mean!r:.80} "
                f"and deviation {self.std!r:.80}; expected a whole number, and three finite "
                "numbers each, deviations above 0"
            )


def _colours(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )


def from_file(
    path: str | Path,
    activation: str | None = None,
    heads: tuple[int, int] | None = None,
    **more: Any,
) -> Backbone:
    """The CLIP of OpenAI's structure whose weights are in a file.

    Args:
        path: a state dict (.pt), safetensors, or a JIT archive. Weights pass through fp16, the
            precision CLIP was released in, as they do in CoOp.
        activation: "QuickGELU", which OpenAI's have, or "GELU". By default the former, where
            nobody has published a CLIP of this shape with the latter.
        heads: of the image and the text transformer; by default 64 wide, or as in the published
            CLIPs of this width.
        more: further fields of the record that weights do not tell: mean, std, tokenizer.

    Raises:
        ConfigError: unknown activation. WeightsError: no such file, not a CLIP's weights, or ones
            that go with either activation.
    """
    if activation not in (None, *loading.ACTIVATIONS):
        known = ", ".join(loading.ACTIVATIONS)
        raise ConfigError(f"activation is {activation!r}; expected one of {known}")
    file = expanded(path)
    state = loading.read_state(file)
    if activation is None:
        loading.check_told(state, str(file))
    activation = activation or "QuickGELU"
    heads = heads or loading.heads_of(state, str(file))
    resolution = loading.resolution(state, str(file))
    build = partial(loading.build, state, str(file), activation, heads)
    return Backbone(resolution, build, activation=activation, heads=heads, **more)
