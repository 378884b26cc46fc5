"""An optimizer's state comes back for parameters of every type, and no other one does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from sar.errors import WeightsError
from sar.toolbox.engine.restoring import restore_optimizer


def stepped(kind: Any, dtype: torch.dtype, **options: float) -> Optimizer:
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    weight.grad = torch.full_like(weight, 0.5)
    optimizer: Optimizer = kind([weight], **options)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SGD, {"lr": 0.1, "momentum": 0.9}),
        (Adam, {}),
        (Adam, {"amsgrad": True}),
        (AdamW, {"weight_decay": 0.1}),
        (RMSprop, {"momentum": 0.9}),
    ],
)
def test_a_state_comes_back_in_the_type_of_its_parameters(
    dtype: torch.dtype, kind: type[Optimizer], options: dict[str, float]
) -> None:
    first, again = stepped(kind, dtype, **options), stepped(kind, dtype, **options)
    restore_optimizer(again, first.state_dict(), Path("model.pth.tar-1"))
    for theirs, ours in zip(first.state.values(), again.state.values(), strict=True):
        for name, value in theirs.items():
            assert torch.equal(ours[name], value)
            assert ours[name].dtype == value.dtype


def test_the_state_of_another_shape_is_refused() -> None:
    optimizer = stepped(SGD, torch.float16, lr=0.1, momentum=0.9)
    state = optimizer.state_dict()
    for odd in (float("nan"), 3, "text", [1]):
        with pytest.raises(WeightsError, match="optimizer"):
            restore_optimizer(optimizer, {**state, "state": {0: odd}}, Path("model.pth.tar-1"))
    state["state"][0]["momentum_buffer"] = torch.zeros(4)
    with pytest.raises(WeightsError, match=r"state\.momentum_buffer has the shape \(4,\)"):
        restore_optimizer(optimizer, state, Path("model.pth.tar-1"))
