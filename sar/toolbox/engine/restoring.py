"""Whether the state in a checkpoint can be that of the run at hand, before and after it is loaded.

PyTorch takes nearly anything for the state of an optimizer or schedule, and fails, or computes
something else, epochs later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from sar.errors import WeightsError


def unlike(found: Any, expected: Any, where: str = "") -> str:
    """The first place at which nested plain values differ in kind; empty if there is none.

    What is None in `expected` may be anything. A mapping in `found` may have more entries, and may
    lack those that begin with an underscore, which depend on the version of PyTorch.
    """
    if expected is None:
        return ""
    kind: Any = (int, float) if isinstance(expected, int | float) else type(expected)
    if isinstance(expected, list | tuple):
        kind = (list, tuple)
    if not isinstance(found, kind) or isinstance(found, bool) != isinstance(expected, bool):
        return f"{where or 'it'} is {type(found).__name__}, not {type(expected).__name__}"
    if isinstance(expected, float) and math.isnan(found):
        return f"{where} is no number"
    if isinstance(expected, Tensor) and found.dtype != expected.dtype:
        return f"{where} is {found.dtype}, not {expected.dtype}"
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            if key not in found and not str(key).startswith("_"):
                return f"{where}{where and '.'}{key} is missing"
            if problem := unlike(found.get(key, value), value, f"{where}{where and '.'}{key}"):
                return problem
    if isinstance(expected, list | tuple):
        if len(found) != len(expected):
            return f"{where} has {len(found)} entries, not {len(expected)}"
        for number, (theirs, ours) in enumerate(zip(found, expected, strict=True)):
            if problem := unlike(theirs, ours, f"{where}.{number}"):
                return problem
    return ""


def restore_optimizer(optimizer: Optimizer, state: Any, path: Path) -> None:
    """Load an optimizer's state. Raises WeightsError if it is another one's, or damaged."""
    _check(unlike(state, optimizer.state_dict()), "optimizer", path)
    _load(optimizer, state, "optimizer", path)
    for group in optimizer.param_groups:
        types = {parameter.dtype for parameter in group["params"]}
        after = {dtype: _state_after_a_step(optimizer, group, dtype) for dtype in types}
        for parameter in group["params"]:
            expected = after[parameter.dtype]
            found = optimizer.state.get(parameter, {})
            # Before the first step there is no state; that is a whole one, too.
            problem = unlike(found, expected, "state") if found else ""
            _check(problem, "optimizer", path)
            for name, value in found.items():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    problem = problem or f"state.{name} has the shape {tuple(value.shape)}"
                if isinstance(value, Tensor) and not torch.isfinite(value).all():
                    problem = problem or f"state.{name} is NaN or infinite"
            _check(problem, "optimizer", path)


def restore_schedule(schedule: LRScheduler, state: Any, done: int, path: Path) -> None:
    """Load a schedule's state after `done` epochs. Raises WeightsError as `restore_optimizer`."""
    ours = schedule.state_dict()
    # Dassl's carries the successor itself, whose state is within it.
    own = {key: value for key, value in ours.items() if key != "successor"}
    _check(unlike(state, own), "schedule", path)
    successor = state.get("successor")
    if isinstance(successor, Mapping):
        _check(unlike(successor, ours.get("successor")), "schedule", path)
    _load(schedule, state, "schedule", path)
    for part in (schedule, getattr(schedule, "successor", schedule)):
        if part.last_epoch > done:
            _check(f"it is at epoch {part.last_epoch}, the run at {done}", "schedule", path)


def check_run(run: Any, expected: Mapping[str, Any], path: Path) -> None:
    """Raises WeightsError unless `run` is a state of a run such as `expected`."""
    problem = unlike(run, expected)
    if not problem and not isinstance(run["rng"].get("cuda"), list):
        problem = "rng.cuda is no list"  # of any length: machines have more GPUs or fewer
    _check(problem, "state of the run", path)


def _state_after_a_step(
    optimizer: Optimizer, group: Mapping[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    """What such an optimizer keeps for a parameter of this dtype."""
    probe = nn.Parameter(torch.zeros(1, dtype=dtype))
    probe.grad = torch.zeros_like(probe)
    kind: Any = type(optimizer)
    twin = kind([probe], lr=group["lr"])
    # Not all settings are arguments: PyTorch's AdamW is Adam with a setting of its own.
    settings = {key: value for key, value in group.items() if key in optimizer.defaults}
    twin.param_groups[0].update(settings)
    twin.step()
    return dict(twin.state[probe])


def _load(target: Any, state: Any, part: str, path: Path) -> None:
    try:
        target.load_state_dict(state)
    except Exception as error:  # a damaged state fails in many ways
        _check(str(error) or type(error).__name__, part, path)


def _check(problem: str, part: str, path: Path) -> None:
    if problem:
        raise WeightsError(
            f"the {part} in {path} does not fit this model ({' '.join(problem.split())}), so that "
            "the run cannot be continued. To start a new one from its weights, choose another "
            f"--output-dir and set MODEL.INIT_WEIGHTS {path}"
        )
