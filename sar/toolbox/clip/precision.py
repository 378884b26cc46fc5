"""Numerical precision of a frozen CLIP and of the prompts trained through it.

fp32  everything in fp32.
fp16  weights of linear, convolution and attention layers in fp16, no loss scaling: what the
      existing toolboxes call fp16.
bf16  the same in bf16.
amp   fp32 weights under autocast: fp16 with a gradient scaler on CUDA, bf16 on the CPU.
"""

import contextlib
from typing import Any

import torch
from torch import nn

from sar.errors import ConfigError

from .towers import Tower

PRECISIONS = ("fp32", "fp16", "bf16", "amp")
_LOW = {"fp16": torch.float16, "bf16": torch.bfloat16}


def check_precision(key: str, precision: str) -> None:
    """ConfigError naming `key` unless `precision` is one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ConfigError(f"{key} is {precision!r}; expected one of {', '.join(PRECISIONS)}")


def set_precision(model: nn.Module, precision: str) -> None:
    """Convert a CLIP's weights in place.

    Layer norms and embeddings stay in fp32, as in CLIP's own fp16 conversion: its LayerNorm
    computes in fp32. Encoders of other packages, which need not, are converted as a whole.
    """
    model.float()
    if precision not in _LOW:
        return
    dtype = _LOW[precision]
    for module in model.modules():
        if isinstance(module, Tower):
            module.to(dtype)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | nn.MultiheadAttention):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
        for name in ("text_projection", "proj"):
            projection = getattr(module, name, None)
            if isinstance(projection, nn.Parameter):
                projection.data = projection.data.to(dtype)


def autocast(precision: str, device: torch.device) -> Any:
    """The context a training step runs in: autocast for "amp", nothing otherwise."""
    if precision != "amp":
        return contextlib.nullcontext()
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype)
