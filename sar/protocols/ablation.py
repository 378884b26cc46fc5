"""Ablation: base-to-new with one thing about SAR changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from sar.errors import ConfigError
from sar.protocols.base2new import BaseToNew
from sar.protocols.configs import ABLATION
from sar.protocols.jobs import Job
from sar.protocols.plan import Plan
from sar.results.protocol import Protocol

Change = dict[str, object]
"""TRAINER.SAR keys and values that differ from the defaults."""

BASELINE = "baseline"
"""The variant without SAR: the plain trainers, and zero-shot CLIP."""
_DEFAULT: Change = {"WEIGHT": 1.0}  # the default itself, as a point of several studies
STUDIES: dict[str, tuple[Change, ...]] = {
    "weight": ({"WEIGHT": 0.25}, _DEFAULT, {"WEIGHT": 4.0}, {"WEIGHT": 16.0}),
    # Aligning base classes only, with novel ones, and with a random part of all (the default).
    "components": ({"NOVEL": "none", "SAMPLE_SIZE": 0}, {"SAMPLE_SIZE": 0}, _DEFAULT),
    "novel": ({"NOVEL": "none"}, {"NOVEL": "words:150"}, _DEFAULT),
    "temperature": (
        {"TEMPERATURE": 0.05, "WEIGHT": 0.25},
        {"TEMPERATURE": 0.05},
        {"TEMPERATURE": 0.2, "WEIGHT": 4.0},
        {"TEMPERATURE": 0.2, "WEIGHT": 16.0},
    ),
    "divergence": (
        {"DIVERGENCE": "l2", "WEIGHT": 50.0},
        {"DIVERGENCE": "l2", "WEIGHT": 200.0},
        {"DIVERGENCE": "l1", "WEIGHT": 5.0},
        {"DIVERGENCE": "l1", "WEIGHT": 20.0},
    ),
    "sampling": ({"SAMPLE_SIZE": 32}, {"SAMPLE_SIZE": 64}, {"SAMPLE_SIZE": 0}),
}


@dataclass(frozen=True, kw_only=True)
class Ablation(Plan):
    """Every variant of every study, and once the trainers that SAR extends."""

    name = ABLATION
    summary = "Ablation: base-to-new with SAR's components, weights, word sources, ... changed."
    trainers: Sequence[str] = ("SAR_CoOp",)
    datasets: Sequence[str] = ("demo_objects", "demo_travel")
    studies: Sequence[str] = tuple(STUDIES)

    def jobs(self) -> list[Job]:
        if unknown := [t for t in self.trainers if not t.startswith("SAR_")]:
            raise ConfigError(
                f"an ablation changes SAR, found {', '.join(unknown)}; expected SAR_X trainers "
                "(their baselines are trained anyway)"
            )
        plain = ("ZeroshotCLIP", *(t.removeprefix("SAR_") for t in self.trainers))
        baseline = self._base_to_new(BASELINE, plain, ())
        variants = (self._base_to_new(v, self.trainers, o) for v, o in self.variants().items())
        return [job for plan in (baseline, *variants) for job in plan.jobs()]

    def record(self) -> Protocol:
        variants = {name: list(options) for name, options in self.variants().items()}
        return replace(self._record(self.datasets), variants=variants)

    def variants(self) -> dict[str, tuple[str, ...]]:
        """Folder -> KEY VALUE options, each once.

        Raises:
            ConfigError: there is no such study.
        """
        if unknown := [name for name in self.studies if name not in STUDIES]:
            raise ConfigError(
                f"there is no study {', '.join(unknown)}; expected some of {', '.join(STUDIES)}"
            )
        changes = [change for study in self.studies for change in STUDIES[study]]
        return {variant_of(change): options_of(change) for change in changes}

    def _base_to_new(
        self, variant: str, trainers: Sequence[str], options: Sequence[str]
    ) -> BaseToNew:
        common = {field.name: getattr(self, field.name) for field in fields(Plan)}
        changed = {"variant": variant, "trainers": trainers, "options": (*self.options, *options)}
        return BaseToNew(datasets=self.datasets, **{**common, **changed})


def variant_of(change: Change) -> str:
    """The folder of a variant, such as weight_0.25."""
    return "_".join(f"{key.lower()}_{value}" for key, value in change.items()).replace(":", "")


def options_of(change: Change) -> tuple[str, ...]:
    """The KEY VALUE options of a variant."""
    return tuple(w for key, value in change.items() for w in (f"TRAINER.SAR.{key}", str(value)))
