"""Ablation: base-to-new with one thing about SAR changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

from sar.dataset_records import defaults_of
from sar.errors import ConfigError
from sar.protocols.base2new import BaseToNew
from sar.protocols.jobs import Job
from sar.protocols.plan import Plan
from sar.results.protocol import ABLATION, ProtocolRecord

Change = dict[str, object]
"""TRAINER.SAR keys and values that differ from the defaults."""

BASELINE = "baseline"
"""The variant without SAR: the plain trainers, and zero-shot CLIP."""
_DEFAULT: Change = {"WEIGHT": 1.0}  # the default itself: a row of several studies, trained once
STUDIES: dict[str, dict[str, Change]] = {
    "components": {
        "base classes only": {"NOVEL": "none", "SAMPLE_SIZE": 0},
        "base and novel": {"SAMPLE_SIZE": 0},
        "random part (default)": _DEFAULT,
    },
    "weight": {
        "0.25": {"WEIGHT": 0.25},
        "1 (default)": _DEFAULT,
        "2": {"WEIGHT": 2.0},
        "4": {"WEIGHT": 4.0},
        "8": {"WEIGHT": 8.0},
        "16": {"WEIGHT": 16.0},
    },
    "novel": {
        "none": {"NOVEL": "none"},
        "150 random words": {"NOVEL": "words:150"},
        "shipped (default)": _DEFAULT,
    },
    "temperature": {
        "0.05, weight 0.25": {"TEMPERATURE": 0.05, "WEIGHT": 0.25},
        "0.05": {"TEMPERATURE": 0.05},
        "0.2, weight 4": {"TEMPERATURE": 0.2, "WEIGHT": 4.0},
        "0.2, weight 16": {"TEMPERATURE": 0.2, "WEIGHT": 16.0},
    },
    "divergence": {
        "l2, weight 50": {"DIVERGENCE": "l2", "WEIGHT": 50.0},
        "l2, weight 200": {"DIVERGENCE": "l2", "WEIGHT": 200.0},
        "l1, weight 5": {"DIVERGENCE": "l1", "WEIGHT": 5.0},
        "l1, weight 20": {"DIVERGENCE": "l1", "WEIGHT": 20.0},
    },
    "sampling": {
        "32 classes a step": {"SAMPLE_SIZE": 32},
        "64": {"SAMPLE_SIZE": 64},
        "all": {"SAMPLE_SIZE": 0},
    },
}
"""Study -> name of a setting -> what it changes; rows of the table, in printing order."""


@dataclass(frozen=True, kw_only=True)
class Ablation(Plan):
    """Every variant of every study, and once the trainers that SAR extends."""

    name = ABLATION
    summary = "Ablation: base-to-new with SAR's components, weights, word sources, ... changed."
    trainers: Sequence[str] = ("SAR_CoOp",)
    datasets: Sequence[str] = field(default_factory=partial(defaults_of, ABLATION))
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

    def record(self) -> ProtocolRecord:
        return replace(
            self._record(self.datasets),
            variants={name: list(options) for name, options in self.variants().items()},
            studies={
                study: {label: variant_of(change) for label, change in STUDIES[study].items()}
                for study in self.studies
            },
        )

    def variants(self) -> dict[str, tuple[str, ...]]:
        """Folder -> KEY VALUE options, each once.

        Raises:
            ConfigError: there is no such study.
        """
        if unknown := [name for name in self.studies if name not in STUDIES]:
            raise ConfigError(
                f"there is no study {', '.join(unknown)}; expected some of {', '.join(STUDIES)}"
            )
        changes = [change for study in self.studies for change in STUDIES[study].values()]
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
