"""Base-to-new: train on the first half of the classes, test on both halves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller

from sar.protocols.jobs import Job
from sar.protocols.plan import Model, Plan
from sar.results.folders import is_untrained
from sar.results.protocol import BASE2NEW, ProtocolRecord
from sar.settings.dataset_records import defaults_of


@dataclass(frozen=True, kw_only=True)
class BaseToNew(Plan):
    """Per dataset and model: a training on base classes (and their test), a test on new ones."""

    name = BASE2NEW
    summary = "Base-to-new: train on the base half of the classes, test on both halves."
    datasets: Sequence[str] = field(default_factory=partial(defaults_of, BASE2NEW))
    averaged: Sequence[float] = ()
    """Shares of the learned text features, the rest being the hand-crafted ones: each of them a
    further test of every trained model."""

    def jobs(self) -> list[Job]:
        return [
            job
            for dataset in self.datasets
            for model in self.models(dataset)
            for job in self._jobs_of(model)
        ]

    def record(self) -> ProtocolRecord:
        return self._record(self.datasets)

    def _jobs_of(self, model: Model) -> Iterator[Job]:
        training = None
        if is_untrained(model.trainer):
            yield self.test(model, model.base_to_new_folder("test_base"), "base", None)
        else:
            training = self.train(model, model.base_to_new_folder("train_base"), "base")
            yield training
        yield self.test(model, model.base_to_new_folder("test_new"), "new", training)
        for subset in ("base", "new"):
            folder = methodcaller("base_to_new_folder", f"test_{subset}")
            yield from self.averages(model, self.averaged, training, subset, folder)
