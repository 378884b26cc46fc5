"""Training over one labelled set: data, progress, evaluation, checkpoints."""

import datetime
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from sar.errors import ConfigError, WeightsError
from sar.toolbox import distributed
from sar.toolbox.data import DataManager
from sar.toolbox.engine.checkpointing import (
    BEST,
    Checkpoints,
    random_state,
    restore_random_state,
)
from sar.toolbox.engine.origin import Origin
from sar.toolbox.engine.trainer_base import TrainerBase
from sar.toolbox.evaluation import build_evaluator
from sar.toolbox.optim import warmup_note
from sar.toolbox.recording import Recorder
from sar.toolbox.utils import AverageMeter, MetricMeter


class SimpleTrainer(TrainerBase):
    """Builds data, model and evaluator from a configuration; trains, validates and tests.

    Subclasses override `build_model`, which must call `register_model` for whatever is trained.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        cuda = torch.cuda.is_available() and cfg.USE_CUDA
        self.device = torch.device("cuda" if cuda else "cpu")
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.best_result = float("-inf")
        self.build_data_loader()
        self.origin = Origin(cfg, self.dm.dataset.classnames, self.weights_form)
        self.checkpoints = Checkpoints(self._models, self._optims, self._scheds, self.origin)
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise ConfigError for settings the trainer cannot work with; nothing is built yet."""

    def weights_form(self, cfg: CfgNode) -> Mapping[str, object]:
        """The settings on which the meaning of the trained weights depends, named as in messages.

        Plain values, computed from `cfg` alone. A checkpoint is refused if those of the settings
        that it was trained with differ from today's.
        """
        return {}

    def build_data_loader(self) -> None:
        self.dm = DataManager(self.cfg)
        self.train_loader_x = self.dm.train_loader_x
        self.train_loader_u = self.dm.train_loader_u
        self.val_loader = self.dm.val_loader
        self.test_loader = self.dm.test_loader
        if self.cfg.TEST.FINAL_MODEL == "best_val" and self.val_loader is None:
            raise ConfigError(
                f"TEST.FINAL_MODEL is best_val, but {self.cfg.DATASET.NAME} has no validation "
                "images, and the test set must not choose the model; use last_step"
            )
        if self.cfg.TEST.SPLIT == "val" and self.val_loader is None:
            raise ConfigError(
                f"TEST.SPLIT is val, but {self.cfg.DATASET.NAME} has no validation images; use test"
            )
        self.num_classes = self.dm.num_classes
        self.num_source_domains = self.dm.num_source_domains
        self.lab2cname = self.dm.lab2cname

    def build_model(self) -> None:
        raise NotImplementedError

    def train(self) -> None:  # type: ignore[override]
        """Train from the last checkpoint, if there is one, to OPTIM.MAX_EPOCH; then test."""
        try:
            super().train(self.start_epoch, self.max_epoch)
        finally:
            self.close_writer()

    def before_train(self) -> None:
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.output_dir)
        distributed.begin_alike(self.trained_parameters())
        steps = self.start_epoch * len(self.train_loader_x)
        self.init_writer(str(Path(self.output_dir, "tensorboard")), purge_step=steps or None)
        self.time_start = time.time()
        if note := warmup_note(self.cfg.OPTIM):
            print(note)

    def after_epoch(self) -> None:
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(
                    self.epoch,
                    self.output_dir,
                    val_result=result,
                    model_name=BEST,
                )
        keep = self._keeps_checkpoint(self.epoch + 1)
        if keep or self.checkpoints.is_old():
            self.save_model(self.epoch, self.output_dir)
            self.checkpoints.saved(self.epoch + 1, self.output_dir, keep)

    def after_train(self) -> None:
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")

    # Checkpoints

    def extra_state(self) -> dict[str, Any]:
        """Plain values and tensors a subclass needs back on resuming, beyond model and optimizer.

        Saved after an epoch, given to `load_extra_state` before the next.
        """
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Counterpart of `extra_state`; `state` is empty for checkpoints of other toolboxes."""

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write every registered model; see `Checkpoints.save`. `epoch` counts from 0."""
        if distributed.is_first():
            run = {
                **self._run_state(),
                "passing": not self._keeps_checkpoint(epoch + 1),
            }
            self.checkpoints.save(epoch + 1, directory, run, is_best, val_result, model_name)

    def _run_state(self) -> dict[str, Any]:
        """What it takes to go on from here, beyond models, optimizers and schedules."""
        best = float(self.best_result)
        return {"rng": random_state(), "best_result": best, "extra": self.extra_state()}

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load every registered model, for evaluation or as a start; see `Checkpoints.load`."""
        distributed.wait_for_all()  # the first process may have written it just now
        if directory:
            self.checkpoints.load(directory, epoch)
        else:
            print("No model directory given: evaluating the model as it was built")

    def _expected_state(self) -> dict[str, Any]:
        """A state of the run to compare a checkpoint's with; GPUs may be more or fewer."""
        state = self._run_state()
        return {**state, "rng": {**state["rng"], "cuda": None}}

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue from `directory` if it has a checkpoint of every model.

        Returns:
            The epoch (from 0) to begin with.
        """
        own = Path(directory).resolve() == Path(self.output_dir).resolve()
        found = self.checkpoints.resume(directory, own, self._expected_state())
        if found is None:
            print("No checkpoint found, train from scratch")
            return 0
        done, run = found
        if done > self.max_epoch:
            raise WeightsError(
                f"the run in {directory} has trained {done} epochs already, and OPTIM.MAX_EPOCH is "
                f"{self.max_epoch}; choose another --output-dir, or test with --eval-only"
            )
        if run:
            self.best_result = run["best_result"]
        else:
            print("Note: written by another toolbox, without random state; batches will differ")
        self.load_extra_state(run.get("extra", {}))
        if run:
            restore_random_state(run["rng"])
        print(f"Resuming after epoch {done}")
        return done

    def _keeps_checkpoint(self, done: int) -> bool:
        """Whether the checkpoint after `done` epochs is one to keep."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        return done >= self.max_epoch or (frequency > 0 and done % frequency == 0)

    # Evaluation

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on "test" or "val" (TEST.SPLIT by default).

        Returns:
            The evaluator's first result: accuracy in percent.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        loader = self.val_loader if split == "val" else self.test_loader
        if loader is None:
            raise ConfigError(f"{self.cfg.DATASET.NAME} has no validation images to evaluate on")
        print(f"Evaluate on the *{split}* set")
        recorder = Recorder()
        for output, labels in self.predictions(loader, split):
            self.evaluator.process(output, labels)
            recorder.add(output, labels)
        if split == "test":
            recorder.save(self.output_dir, loader, self.dm.dataset.classnames)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def predictions(self, loader: "DataLoader[Any]", desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (B, n_cls) and labels (B,), batch by batch."""
        for batch in progress_bar(loader, desc=desc):
            images, labels = self.parse_batch_test(batch)
            yield self.model_inference(images), labels

    def model_inference(self, input: Tensor) -> Tensor:
        return self.model(input)  # type: ignore[attr-defined]

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and labels (B,) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerX(SimpleTrainer):
    """Trains on labelled images, `forward_backward` by `forward_backward`."""

    def run_epoch(self) -> None:
        self.set_model_mode("train")
        losses = MetricMeter()
        batch_time, data_time = AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        frequency = self.cfg.TRAIN.PRINT_FREQ
        end = time.time()
        title = f"epoch {self.epoch + 1}/{self.max_epoch}"
        self.train_loader_x.dataset.epoch = self.epoch  # type: ignore[attr-defined]
        bar = progress_bar(self.training_batches(title), title, self.num_batches)
        for self.batch_idx, batch in enumerate(bar):
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(batch))
            batch_time.update(time.time() - end)

            if (self.batch_idx + 1) % frequency == 0 or self.num_batches < frequency:
                self._print_progress(losses, batch_time, data_time)
            step = self.epoch * self.num_batches + self.batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", self.get_current_lr(), step)
            end = time.time()

    def training_batches(self, title: str) -> Iterable[dict[str, Any]]:
        """The batches of the next epoch, in its order; `title` names the epoch."""
        return self.train_loader_x

    def _print_progress(
        self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter
    ) -> None:
        epochs_left = self.max_epoch - self.epoch - 1
        batches_left = self.num_batches - self.batch_idx - 1 + epochs_left * self.num_batches
        eta = datetime.timedelta(seconds=int(batch_time.avg * batches_left))
        print(
            f"epoch [{self.epoch + 1}/{self.max_epoch}] "
            f"batch [{self.batch_idx + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
            f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{losses} lr {self.get_current_lr():.4e} eta {eta}"
        )

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))


def progress_bar(items: Any, desc: str, total: int | None = None) -> Any:
    """A bar on the terminal; nothing where output goes to a file."""
    return tqdm(items, desc=desc, total=total, leave=False, disable=None, file=sys.stderr)
