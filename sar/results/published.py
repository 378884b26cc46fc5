"""Published accuracies to compare with: `published.json`, which names its sources."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from importlib import resources
from statistics import fmean
from typing import Any

from sar.results.protocol import BASE2NEW
from sar.results.statistics import harmonic_mean

TOLERANCE = 1.0
"""Percent points beyond which an own result counts as deviating."""
AVERAGE = "average"
_BACKBONE, _SHOTS = "vit_b16", 16
_SOURCES = ("imagenet",)


def comparable(cfg: str, shots: int) -> bool:
    """Whether a run's configuration and shots are those of the published numbers."""
    return cfg.startswith(_BACKBONE) and shots == _SHOTS


def conditions() -> str:
    """The conditions under which all published numbers were measured."""
    return str(_data()["conditions"])


def source(protocol: str) -> str:
    """Where the numbers of a protocol (or of "plugins") were read."""
    return str(_data()["sources"].get(protocol, ""))


def datasets() -> list[str]:
    """The eleven datasets of the published averages."""
    return list(_data()[BASE2NEW]["ZeroshotCLIP"])


def base_to_new(trainer: str, dataset: str) -> dict[str, float] | None:
    """Published base, new and H on one dataset, named as in configs/datasets; None if unknown."""
    pair = _data()[BASE2NEW].get(trainer, {}).get(dataset)
    return _with_h(*pair) if pair else None


def base_to_new_average(trainer: str, tested: Collection[str]) -> dict[str, float] | None:
    """Published averages over the `tested` datasets and their H; None unless all are known."""
    found = [base_to_new(trainer, dataset) for dataset in tested]
    known = [values for values in found if values]
    if not known or len(known) < len(found):
        return None
    return _with_h(fmean(v["base"] for v in known), fmean(v["new"] for v in known))


def transfer(
    protocol: str, trainer: str, source_dataset: str, targets: Collection[str]
) -> dict[str, float] | None:
    """Published accuracies on the source and on those of `targets` that are known.

    With all targets known, `average` is their mean. None for another source than ImageNet.
    """
    row: dict[str, float] = _data().get(protocol, {}).get(trainer, {})
    if not row or source_dataset not in _SOURCES:
        return None
    known = {dataset: row[dataset] for dataset in (source_dataset, *targets) if dataset in row}
    if targets and all(target in row for target in targets):
        known[AVERAGE] = fmean(row[target] for target in targets)
    return known


def plugins(trainer: str, tested: Collection[str]) -> dict[str, dict[str, float]]:
    """Other plug-ins on a baseline, published as averages over the eleven datasets.

    Empty unless the `tested` datasets are these eleven.
    """
    if set(tested) != set(datasets()):
        return {}
    return {name: _with_h(*pair) for name, pair in _data()["plugins"].get(trainer, {}).items()}


def _with_h(base: float, new: float) -> dict[str, float]:
    return {"base": base, "new": new, "h": harmonic_mean(base, new)}


@cache
def _data() -> dict[str, Any]:
    file = resources.files("sar.results") / "published.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data
