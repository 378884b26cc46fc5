"""Base-to-new: train on the first half of the classes, test on both halves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sar.errors import ConfigError
from sar.protocols.configs import (
    SHOTS,
    TRAINERS,
    config_path,
    default_cfg,
    is_demo,
    setting,
    trainer_names,
)
from sar.protocols.jobs import Job
from sar.results.layout import is_untrained

_SAR_OPTIONS = "TRAINER.SAR."


@dataclass(frozen=True)
class BaseToNew:
    """What to compare, on what, and where the results go."""

    datasets: Sequence[str]
    seeds: Sequence[int]
    output: Path
    trainers: Sequence[str] = TRAINERS
    root: str = ""
    shots: int = SHOTS
    cfg: str = ""
    options: Sequence[str] = ()
    """KEY VALUE pairs for every job; TRAINER.SAR.* only for the SAR trainers."""

    def jobs(self) -> list[Job]:
        """All jobs, a training before the test that needs it.

        Raises:
            ConfigError: an unknown dataset, trainer or configuration, or a real dataset without
                a root, before anything runs.
        """
        return [
            job
            for dataset in self.datasets
            for trainer in self.trainers
            for job in self._jobs_of(dataset, trainer)
        ]

    def _jobs_of(self, dataset: str, trainer: str) -> Iterator[Job]:
        dataset_file = config_path("datasets", dataset)
        if trainer not in (known := trainer_names()):
            raise ConfigError(
                f"there is no trainer {trainer!r}; expected one of {', '.join(known)}"
            )
        cfg = self.cfg or default_cfg(trainer, dataset)
        files = (dataset_file, config_path("trainers", trainer, cfg))
        if not (self.root or is_demo(dataset) or setting("DATASET.ROOT", files, self.options)):
            raise ConfigError(
                f"{dataset} needs the folder that holds the datasets: "
                "--root DIR (for the script: DATA=DIR)"
            )
        for seed in self.seeds:
            model = f"{dataset}/shots_{self.shots}/{trainer}/{cfg}/seed{seed}"
            flags = (
                *(("--root", self.root) if self.root else ()),
                "--seed",
                str(seed),
                "--trainer",
                trainer,
                "--dataset-config-file",
                _typed(files[0]),
                "--config-file",
                _typed(files[1]),
            )
            if is_untrained(trainer):
                yield self._job("test_base", model, (*flags, "--eval-only"))
                yield self._job("test_new", model, (*flags, "--eval-only"))
                return  # nothing is trained, so a second seed would repeat the first
            training = self._job("train_base", model, flags)
            epoch = _last_epoch(files, self.options)
            load = ("--model-dir", str(training.output), "--load-epoch", str(epoch), "--eval-only")
            yield training
            yield self._job("test_new", model, (*flags, *load), needs=training.output)

    def _job(self, part: str, model: str, flags: tuple[str, ...], needs: Path | None = None) -> Job:
        action, _, subset = part.partition("_")
        dataset, _, trainer, _, seed = model.split("/")
        options = [
            word
            for pair in zip(self.options[::2], self.options[1::2], strict=True)
            for word in pair
            if trainer.startswith("SAR_") or not pair[0].startswith(_SAR_OPTIONS)
        ]
        return Job(
            f"{dataset} {trainer} {seed}: {action} {subset}",
            flags,
            self.output / part / model,
            ("DATASET.NUM_SHOTS", str(self.shots), "DATASET.SUBSAMPLE_CLASSES", subset, *options),
            trains=action == "train",
            subset=subset,
            needs=needs,
        )


def _last_epoch(files: Sequence[Path], options: Sequence[str]) -> int:
    epoch = setting("OPTIM.MAX_EPOCH", files, options)
    if not isinstance(epoch, int) or epoch < 1:
        raise ConfigError(
            f"OPTIM.MAX_EPOCH must be a positive number in {files[-1]} or among the "
            f"options, found {epoch!r}; the test needs it to load the last epoch"
        )
    return epoch


def _typed(path: Path) -> str:
    """A path as one would type it here: relative where it lies below the working directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
