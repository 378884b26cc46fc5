"""Checkpoints and weights that hold something else than they should."""

from __future__ import annotations

import argparse
import os
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import changed, without
from torch import nn

Change = Callable[[Any], Any]


CODE = "!!python/object/apply:os.system [touch pwned]"


class Payload:
    """Runs a command when it is unpickled the usual way."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


FOREIGN: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "not a number": float("nan"),
    "a text": "text",
    "a list": [1, 2],
    "an empty mapping": {},
    "a mapping with numbers as keys": {1: 2},
    "a tensor": torch.zeros(3),
    "an array": np.zeros(3),
    "a namespace": argparse.Namespace(a=1),
    "a fraction": Fraction(1, 3),
    "a module": nn.Linear(2, 2),
    "a code that runs": Payload(),
}


def save(change: Change) -> Callable[[Path, random.Random], None]:
    """A mutation of a file: what `change` makes of its content takes the place of it."""

    def mutate(file: Path, rng: random.Random) -> None:
        content = change(torch.load(file, weights_only=False))
        file.unlink()
        torch.save(content, file)

    return mutate


def _instead(value: Any) -> Change:
    return lambda content: value


def _on_one(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda content: {**content, key: change(content[key])}


def _at(place: tuple[Any, ...], value: Any) -> Change:
    return lambda content: changed(content, place, value)


def _without(*place: Any) -> Change:
    return lambda content: without(content, place)


def _weights(change: Callable[[torch.Tensor], Any]) -> Change:
    """Of the context vectors."""
    place = ("state_dict", "ctx")
    return lambda content: changed(content, place, change(content["state_dict"]["ctx"]))


_PARTS: tuple[tuple[Any, ...], ...] = (
    ("state_dict",),
    ("state_dict", "ctx"),
    ("epoch",),
    ("optimizer",),
    ("optimizer", "state"),
    ("optimizer", "param_groups"),
    ("optimizer", "param_groups", 0),
    ("optimizer", "param_groups", 0, "lr"),
    ("optimizer", "param_groups", 0, "momentum"),
    ("optimizer", "param_groups", 0, "params"),
    ("optimizer", "state", 0),
    ("optimizer", "state", 0, "momentum_buffer"),
    ("scheduler",),
    ("scheduler", "last_epoch"),
    ("scheduler", "base_lrs"),
    ("scheduler", "_last_lr"),
    ("scheduler", "successor"),
    ("scheduler", "successor", "T_max"),
    ("scheduler", "warmup_epoch"),
    ("val_result",),
    ("config",),
    ("classnames",),
    ("classnames", 0),
    ("run",),
    ("run", "rng"),
    ("run", "rng", "python"),
    ("run", "rng", "numpy"),
    ("run", "rng", "torch"),
    ("run", "rng", "cuda"),
    ("run", "best_result"),
    ("run", "extra"),
)


def checkpoint_trees() -> Iterator[tuple[str, Change]]:
    """(what, change) of a whole checkpoint."""
    for name, value in FOREIGN.items():
        yield f"{name} in all", _instead(value)
        for place in _PARTS:
            yield f"{name} in {'.'.join(map(str, place))}", _at(place, value)
    for place in _PARTS:
        yield f"no {'.'.join(map(str, place))}", _without(*place)
    yield "the weights alone", lambda content: dict(content["state_dict"])
    yield "a weight more", _at(("state_dict", "more"), torch.zeros(2))
    yield "a key that is no text", _at(("state_dict", 3), torch.zeros(2))
    yield "another shape", _weights(lambda ctx: ctx[:2])
    yield "no numbers", _weights(lambda ctx: ctx * float("nan"))
    yield "infinity", _weights(lambda ctx: ctx + float("inf"))
    yield "whole numbers", _weights(lambda ctx: ctx.long())
    yield "complex numbers", _weights(lambda ctx: ctx.to(torch.complex64))
    yield "sparse", _weights(lambda ctx: ctx.to_sparse())
    yield "on the meta device", _weights(lambda ctx: ctx.to("meta"))
    yield "a view without end", _weights(lambda ctx: torch.zeros(1).expand(10**6, 10**6))
    yield "a negative epoch", _at(("epoch",), -1)
    yield "another epoch", _at(("epoch",), 7)
    yield "a configuration that is no YAML", _at(("config",), "a: [")
    yield (
        "a configuration with code",
        _at(("config",), CODE),
    )
    yield (
        "a buffer of another shape",
        _at(("optimizer", "state", 0, "momentum_buffer"), torch.zeros(3)),
    )
    yield (
        "a buffer without numbers",
        lambda content: _at(
            ("optimizer", "state", 0, "momentum_buffer"),
            content["state_dict"]["ctx"] * float("nan"),
        )(content),
    )
    yield "a random state that is too short", _at(("run", "rng", "torch"), torch.zeros(3).byte())
    yield "random numbers of Python that are none", _at(("run", "rng", "python"), (3, (1, 2), None))
    yield (
        "random numbers of NumPy that are none",
        _at(("run", "rng", "numpy"), ("MT19937", torch.zeros(3).long(), 0, 0, 0.0)),
    )
    yield (
        "another optimizer",
        _at(("optimizer", "param_groups", 0), {"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}),
    )
    yield "another schedule", _at(("scheduler",), {"step_size": 3, "last_epoch": 1})
    yield "a schedule that is far ahead", _at(("scheduler", "last_epoch"), 999)
    yield "other classes", _at(("classnames",), ["a", "b"])


def weight_trees() -> Iterator[tuple[str, Change]]:
    """(what, change) of the weights of a CLIP."""
    for name, value in FOREIGN.items():
        yield f"{name} in all", _instead(value)
        yield f"{name} in one weight", _at(("text_projection",), value)
    for key in ("text_projection", "visual.conv1.weight", "visual.proj", "logit_scale"):
        yield f"no {key}", _without(key)
        yield f"another shape of {key}", _on_one(key, lambda weight: torch.zeros(3, 5))
        yield f"no numbers in {key}", _on_one(key, lambda weight: weight * float("nan"))
    yield "in state_dict", lambda content: {"state_dict": content}
    yield "in model", lambda content: {"model": content, "epoch": 3}
    yield "of a parallel wrapper", lambda content: {f"module.{k}": v for k, v in content.items()}
    yield "with another part", lambda content: {**content, "more": torch.zeros(2)}
    yield "of a ResNet alone", lambda content: {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    yield "ordered", lambda content: OrderedDict(content)
    yield "in half precision", lambda content: {k: v.half() for k, v in content.items()}
    yield (
        "a layer less",
        lambda content: {k: v for k, v in content.items() if ".resblocks.1" not in k},
    )
    yield "pickled alone", lambda content: pickle.dumps(content)
