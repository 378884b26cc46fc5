"""What all protocols have in common: who is compared, how, and what a job looks like."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import ClassVar, TypeVar

from sar.classes.novel_names import ORACLE
from sar.errors import ConfigError
from sar.protocols.configs import (
    SEEDS,
    SHOTS,
    TRAINERS,
    check_trainer,
    config_path,
    dataset_record,
    default_cfg,
    published_options,
    setting,
    settings,
)
from sar.protocols.jobs import Job
from sar.results.folders import RunKey, averaged_name, is_untrained
from sar.results.protocol import ProtocolRecord
from sar.settings.config_files import listed
from sar.settings.dataset_records import OWN_PICTURES, place_name

_PlanType = TypeVar("_PlanType", bound="type[Plan]")
_SAR_OPTIONS = "TRAINER.SAR."
_NOVEL = f"{_SAR_OPTIONS}NOVEL"
_TITLE = "DATASET.TITLE"
_SHARE = "TEST.LEARNED_SHARE"
_OF_THE_PROTOCOL = {
    "DATASET.NUM_SHOTS": "--shots (for the script: SHOTS=)",
    "DATASET.SUBSAMPLE_CLASSES": "another protocol",
    "DATASET.NAME": "another dataset",
    "TRAINER.NAME": "--trainers",
    "OUTPUT_DIR": "--output (for the script: OUTPUT=)",
    "SEED": "--seeds",
}
"""Settings that name a job's folder: as options, they would make it hold something else."""


@dataclass(frozen=True, order=True)
class Model(RunKey):
    """A model that a protocol asks for; its `dataset` is what folders and tables call it."""

    config: str = ""
    """The dataset's configuration file."""


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """A protocol: it knows its jobs. Subclasses add what is trained on and tested."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One sentence for --help."""
    same_classes: ClassVar[bool] = False
    """Whether datasets that are only tested have the classes that were trained on."""

    output: Path
    trainers: Sequence[str] = TRAINERS
    seeds: Sequence[int] = SEEDS
    shots: Sequence[int] = (SHOTS,)
    root: str = ""
    cfg: str = ""
    options: Sequence[str] = ()
    """KEY VALUE pairs for every job; TRAINER.SAR.* only for the SAR trainers."""
    variant: str = ""
    imports: Sequence[Path] = ()
    """Python files that every job imports."""

    @abstractmethod
    def jobs(self) -> list[Job]:
        """All jobs, a training before the tests that need it.

        Raises:
            ConfigError: an unknown dataset, trainer or configuration, or a real dataset without
                a root, before anything runs.
        """

    @abstractmethod
    def record(self) -> ProtocolRecord:
        """What protocol.json says about this plan."""

    def _record(self, datasets: Sequence[str], source: str = "") -> ProtocolRecord:
        return ProtocolRecord(
            self.name,
            [self.title(dataset) for dataset in datasets],
            list(self.trainers),
            list(self.seeds),
            list(self.shots),
            source and self.title(source),
            imports=[str(file) for file in self.imports],
        )

    def title(self, dataset: str) -> str:
        """What folders and tables call a dataset: the name of its file.

        One's own pictures, whose file serves them all, are called by DATASET.TITLE or by the name
        of the folder that they lie in.
        """
        record = dataset_record(dataset)
        if record.reader not in OWN_PICTURES:
            return dataset
        found = settings((config_path("datasets", dataset),), self.options)
        if not (name := str(found.get(_TITLE) or "")) and not record.folder:
            option = found.get("DATASET.ROOT") if "DATASET.ROOT" in self.options else ""
            name = place_name(str(option or self.root or found.get("DATASET.ROOT") or ""))
        name = re.sub(r"[^\w.+-]+", "-", name).strip(".-")
        if name in {known.stem for known in listed("datasets")}:
            name += "-own"  # nothing of theirs is compared with it
        return name or dataset

    def models(self, dataset: str) -> Iterator[Model]:
        """Every model on a dataset: trainers, shots, seeds. Of zero-shot CLIP there is one."""
        title = self.title(dataset)
        for trainer in self.trainers:
            check_trainer(trainer)
            for shots, seed in product(self.shots, self.seeds):
                cfg = self.cfg or default_cfg(trainer, dataset, self.name, shots)
                yield Model(title, trainer, cfg, shots, seed, self.variant, dataset)
                if is_untrained(trainer):
                    break  # neither shots nor seeds have an effect

    def train(self, model: Model, folder: Path, subset: str) -> Job:
        """Train a model on a subset of its dataset's classes; the log ends with their test.

        Raises ConfigError for the true new classes as novel names where none are left out.
        """
        job = self._job(model, f"train {subset}", folder, subset)
        sar = model.trainer.startswith("SAR_")
        if sar and subset == "all" and setting(_NOVEL, job.files, job.options) == ORACLE:
            raise ConfigError(
                f"{_NOVEL} {ORACLE} takes the new classes, of which {self.name} has none: it "
                "trains on all; use base2new, or another source of names"
            )
        return job

    def test(
        self, model: Model, folder: Path, subset: str, training: Job | None, target: str = ""
    ) -> Job:
        """Test what `training` made (or zero-shot CLIP) on its dataset, or on another one.

        Raises ConfigError for contexts that belong to the classes of the training.
        """
        others = not self.same_classes if target else training and subset != training.subset
        if training and others and (key := _class_specific(training)):
            raise ConfigError(
                f"{key} gives each class a context of its own, which no other class can use: "
                f"{self.name} tests {target or subset} classes that were not trained on. Set it to "
                "False, or use few-shot"
            )
        load: tuple[str, ...] = ()
        if training:
            epoch = str(_last_epoch(training))
            load = ("--model-dir", str(training.output), "--load-epoch", epoch)
        what = f"test {target or subset}"
        job = self._job(model, what, folder, subset, target, (*load, "--eval-only"))
        return replace(job, needs=training.output) if training else job

    def averages(
        self,
        model: Model,
        shares: Sequence[float],
        training: Job | None,
        subset: str,
        folder: Callable[[RunKey], Path],
        target: str = "",
    ) -> Iterator[Job]:
        """Tests of what `training` made by averages with the hand-crafted prompt's text features.

        Args:
            shares: of the learned features. folder: where a test of a model of this name goes.
        """
        for share in shares if training else ():
            twin = replace(model, trainer=averaged_name(model.trainer, share))
            job = self.test(model, folder(twin), subset, training, target)
            options = (*job.options, _SHARE, f"{share:g}")
            yield replace(job, title=f"{job.title}, averaged {share:g}", options=options)

    def _job(
        self,
        model: Model,
        what: str,
        folder: Path,
        subset: str,
        target: str = "",
        flags: tuple[str, ...] = (),
    ) -> Job:
        dataset = target or model.config
        files = (
            config_path("datasets", dataset),
            config_path("trainers", model.trainer, model.cfg),
        )
        embedded = dataset_record(dataset).embedded
        if not (self.root or embedded or setting("DATASET.ROOT", files, self.options)):
            raise ConfigError(
                f"{dataset} needs the folder that holds the datasets: "
                "--root DIR (for the script: DATA=DIR)"
            )
        for key in self.options[::2]:
            if key in _OF_THE_PROTOCOL:
                raise ConfigError(f"{key} is set by the protocol; use {_OF_THE_PROTOCOL[key]}")
        options = [
            word
            for pair in zip(self.options[::2], self.options[1::2], strict=True)
            for word in pair
            if model.trainer.startswith("SAR_") or not pair[0].startswith(_SAR_OPTIONS)
            if pair[0] != _TITLE
        ]
        root = ("--root", self.root) if self.root else ()
        # A test draws no shots from another dataset.
        shots = () if target else ("DATASET.NUM_SHOTS", str(model.shots))
        published = published_options(model.trainer, dataset, model.cfg)
        imports = [word for file in self.imports for word in ("--import", str(file))]
        title = self.title(dataset)
        named = (_TITLE, title) if title != dataset else ()
        return Job(
            f"{self._title(model)}: {what}",
            self.output / folder,
            (*root, *imports, "--seed", str(model.seed), "--trainer", model.trainer, *flags),
            files,
            (*shots, "DATASET.SUBSAMPLE_CLASSES", subset, *published, *options, *named),
            trains=what.startswith("train"),
            subset=subset,
            code=tuple(file for file in self.imports if file.stem not in _modules_of_protocols()),
        )

    def _title(self, model: Model) -> str:
        variant = f"{model.variant}: " if model.variant else ""
        shots = f" {model.shots}-shot" if len(self.shots) > 1 else ""
        return f"{variant}{model.dataset} {model.trainer}{shots} seed{model.seed}"


PLANS: dict[str, type[Plan]] = {}
"""The protocols by name."""


def add_protocol(plan: _PlanType) -> _PlanType:
    """Makes a protocol known; decorates its class.

    Raises:
        ConfigError: there is another one of its name.
    """
    known = PLANS.setdefault(plan.name, plan)
    if (known.__module__, known.__qualname__) != (plan.__module__, plan.__qualname__):
        raise ConfigError(f"{plan.__module__}: there is a protocol {plan.name} already; rename it")
    PLANS[plan.name] = plan
    return plan


_TAKEN_BY_SOME = {
    _SAR_OPTIONS: "SAR_X alone takes it: add such a trainer, as in --trainers SAR_CoOp",
    _TITLE: "pictures of one's own alone take it: add them, as in --datasets image_folder",
    _SHARE: "nothing is trained that could be averaged: add a trainer, as in --trainers CoOp",
}
"""Beginning of settings that not every job takes -> why none does, and what to do."""


def refuse_idle(plan: Plan, jobs: Sequence[Job]) -> None:
    """Raises ConfigError for what the user has given and none of the plan's jobs takes."""
    given = {key: key for key in plan.options[::2]}
    if getattr(plan, "averaged", ()):
        given[_SHARE] = "--averaged"
    taken = {key for job in jobs for key in job.options[::2]}
    for key, name in given.items():
        for beginning, reason in _TAKEN_BY_SOME.items():
            if key.startswith(beginning) and key not in taken:
                raise ConfigError(f"{name} would have no effect: {reason}, or leave it out")


def _modules_of_protocols() -> set[str]:
    """An edit of a file that defines a protocol changes no job's result."""
    return {plan.__module__ for plan in PLANS.values()}


def _class_specific(training: Job) -> str:
    """The setting by which a training has a context for each class; empty if it has none."""
    own = {key.rpartition(".")[0] for key in settings(training.files)}
    found = settings(training.files, training.options)
    keys = [key for key in found if key.endswith(".CSC") and key.rpartition(".")[0] in own]
    return next((key for key in keys if found[key] is True), "")


def _last_epoch(training: Job) -> int:
    epoch = setting("OPTIM.MAX_EPOCH", training.files, training.options)
    if not isinstance(epoch, int) or epoch < 1:
        raise ConfigError(
            f"OPTIM.MAX_EPOCH must be a positive number in {training.files[-1]} or among the "
            f"options, found {epoch!r}; the test needs it to load the last epoch"
        )
    return epoch
