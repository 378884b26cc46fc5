"""Protocols that train on all classes: few-shot, and tests on datasets that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sar.protocols.configs import default_targets
from sar.protocols.jobs import Job
from sar.protocols.plan import Model, Plan
from sar.results.folders import RunKey, is_untrained
from sar.results.protocol import CROSS_DATASET, DOMAIN_GENERALIZATION, FEW_SHOT, ProtocolRecord
from sar.settings.dataset_records import defaults_of


def _first_of(protocol: str) -> str:
    return next(iter(defaults_of(protocol)), "")


def _evaluation_folder(dataset: str, model: RunKey) -> Path:
    return replace(model, dataset=dataset).evaluation_folder()


@dataclass(frozen=True, kw_only=True)
class AllClasses(Plan):
    """Trains on all classes of a dataset and tests on them."""

    averaged: Sequence[float] = ()
    """Shares of the learned text features, as in base-to-new."""

    def model_jobs(self, model: Model) -> list[Job]:
        """The training, which ends with the test, or of zero-shot CLIP the test; its averages."""
        folder = model.all_classes_folder()
        if is_untrained(model.trainer):
            return [self.test(model, folder, "all", None)]
        training = self.train(model, folder, "all")
        folders = RunKey.all_classes_folder
        return [training, *self.averages(model, self.averaged, training, "all", folders)]


@dataclass(frozen=True, kw_only=True)
class FewShot(AllClasses):
    """Per dataset: every trainer with few and with more images per class."""

    name = FEW_SHOT
    summary = "Few-shot: train on 1 to 16 images of every class, test on all classes."
    datasets: Sequence[str] = field(default_factory=partial(defaults_of, FEW_SHOT))
    shots: Sequence[int] = (1, 2, 4, 8, 16)

    def jobs(self) -> list[Job]:
        return [
            job
            for name in self.datasets
            for model in self.models(name)
            for job in self.model_jobs(model)
        ]

    def record(self) -> ProtocolRecord:
        return self._record(self.datasets)


@dataclass(frozen=True, kw_only=True)
class CrossDataset(AllClasses):
    """Train once on the source, test the model on it and on every target."""

    name = CROSS_DATASET
    summary = "Cross-dataset: train on all classes of one dataset, test on others."
    source: str = field(default_factory=partial(_first_of, CROSS_DATASET))
    targets: Sequence[str] = ()
    """Datasets that are tested on; empty: the usual ones of the source."""

    def jobs(self) -> list[Job]:
        jobs = []
        for model in self.models(self.source):
            found = self.model_jobs(model)
            training = found[0] if found[0].trains else None
            jobs += found
            for target in self._targets():
                folder = partial(_evaluation_folder, self.title(target))
                jobs.append(self.test(model, folder(model), "all", training, target))
                jobs += self.averages(model, self.averaged, training, "all", folder, target)
        return jobs

    def record(self) -> ProtocolRecord:
        return self._record(self._targets(), self.source)

    def _targets(self) -> Sequence[str]:
        targets = self.targets or default_targets(self.name, self.source)
        # The training ends with the test on the source, which is no target of its own.
        return tuple(target for target in targets if target != self.source)


@dataclass(frozen=True, kw_only=True)
class DomainGeneralization(CrossDataset):
    """Cross-dataset with targets that show the source's classes in other styles."""

    name = DOMAIN_GENERALIZATION
    summary = "Domain generalization: train on one dataset, test on its classes in other styles."
    same_classes = True
    source: str = field(default_factory=partial(_first_of, DOMAIN_GENERALIZATION))
