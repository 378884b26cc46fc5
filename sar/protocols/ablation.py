"""Ablation: base-to-new with one thing about SAR changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import partial

from sar.errors import ConfigError
from sar.protocols.base2new import BaseToNew
from sar.protocols.jobs import Job
from sar.protocols.plan import Plan
from sar.protocols.studies import KNOWN, STUDIES, Change
from sar.results.protocol import ABLATION, ProtocolRecord
from sar.settings.dataset_records import defaults_of

BASELINE = "baseline"
"""The variant without SAR: the plain trainers, and zero-shot CLIP."""


@dataclass(frozen=True, kw_only=True)
class Ablation(Plan):
    """Every variant of every study, and once the trainers that SAR extends."""

    name = ABLATION
    summary = "Ablation: base-to-new with SAR's components, weights, word sources, ... changed."
    trainers: Sequence[str] = ("SAR_CoOp",)
    datasets: Sequence[str] = field(default_factory=partial(defaults_of, ABLATION))
    studies: Sequence[str] = ()
    """Names of studies; empty: `STUDIES`, or all in which there are the `settings`."""
    settings: Sequence[str] = ()
    """Those of the studies' settings that are wanted, by the names of the tables; empty: all."""

    def jobs(self) -> list[Job]:
        if unknown := [t for t in self.trainers if not t.startswith("SAR_")]:
            raise ConfigError(
                f"an ablation changes SAR, found {', '.join(unknown)}; expected SAR_X trainers "
                "(their baselines are trained anyway)"
            )
        plain = ("ZeroshotCLIP", *(t.removeprefix("SAR_") for t in self.trainers))
        self._refuse_options_that_settings_change()
        baseline = self._base_to_new(BASELINE, plain, ())
        variants = (self._base_to_new(v, self.trainers, o) for v, o in self.variants().items())
        return [job for plan in (baseline, *variants) for job in plan.jobs()]

    def record(self) -> ProtocolRecord:
        return replace(
            self._record(self.datasets),
            variants={name: list(options) for name, options in self.variants().items()},
            studies={
                study: {label: variant_of(change) for label, change in settings.items()}
                for study, settings in self.chosen().items()
            },
        )

    def chosen(self) -> dict[str, dict[str, Change]]:
        """Study -> name of a setting -> what it changes.

        Raises:
            ConfigError: there is no such study, or no such setting in the studies.
        """
        if unknown := [name for name in self.studies if name not in KNOWN]:
            raise ConfigError(
                f"there is no study {', '.join(unknown)}; expected some of {', '.join(KNOWN)}"
            )
        asked = {
            name: KNOWN[name] for name in self.studies or (KNOWN if self.settings else STUDIES)
        }
        if not self.settings:
            return asked
        if unknown := [s for s in self.settings if not any(s in of for of in asked.values())]:
            named = " | ".join(repr(setting) for setting in unknown)
            there = list(dict.fromkeys(label for of in asked.values() for label in of))
            meant = list(dict.fromkeys(m for s in unknown for m in get_close_matches(s, there)))
            hint = (
                f"did you mean {' | '.join(meant)}?" if meant else f"there are {' | '.join(there)}"
            )
            raise ConfigError(f"there is no setting {named}; {hint}")
        wanted = {*self.settings}
        found = {
            study: {label: change for label, change in of.items() if label in wanted}
            for study, of in asked.items()
        }
        if self.studies and (without := [study for study, of in found.items() if not of]):
            raise ConfigError(
                f"none of the settings is in the study {', '.join(without)}: leave it out, or name "
                "one of its settings"
            )
        return {study: of for study, of in found.items() if of}

    def variants(self) -> dict[str, tuple[str, ...]]:
        """Folder -> KEY VALUE options, each once; raises as `chosen`."""
        changes = [change for of in self.chosen().values() for change in of.values()]
        return {variant_of(change): options_of(change) for change in changes}

    def _refuse_options_that_settings_change(self) -> None:
        """A setting would win over an option for every job, without a word."""
        given = dict(zip(self.options[::2], self.options[1::2], strict=True))
        for of in self.chosen().values():
            for label, change in of.items():
                for key in given.keys() & set(options_of(change)[::2]):
                    raise ConfigError(
                        f"{key} {given[key]} for every job, but it is what the setting {label!r} "
                        "changes; leave it out, or choose other --studies or --settings"
                    )

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
