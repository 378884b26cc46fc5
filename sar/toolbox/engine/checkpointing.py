"""Saving and resuming a trainer, such that a resumed run ends in the very weights of one that was
never interrupted.

Layout and keys are Dassl's: `<directory>/<model name>/model.pth.tar-<epoch>` and, beside it,
`checkpoint`, a text file naming the one to resume from. Each file also holds the configuration,
the class names and the state of the run: random generators (which decide the order of the next
epoch's batches), best validation result and what the trainer adds in `extra_state`.
"""

import contextlib
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sar.errors import WeightsError
from sar.files import atomic_write
from sar.toolbox import distributed
from sar.toolbox.engine.trainer_base import TrainerBase
from sar.toolbox.utils.checkpoint import load_checkpoint, load_weights, save_checkpoint

BEST = "model-best.pth.tar"
POINTER = "checkpoint"
# Between the checkpoints TRAIN.CHECKPOINT_FREQ asks for, keep one that is at most this old.
AUTOSAVE_SECONDS = 30.0
# Keys that may change between a run and its continuation without a word.
_FREE = ("OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA", "DATASET.ROOT", "TRAIN.", "TEST.")


class Checkpointing(TrainerBase):
    """The part of `SimpleTrainer` that writes and reads checkpoints."""

    cfg: Any
    dm: Any
    best_result: float

    def __init__(self) -> None:
        super().__init__()
        self._last_save = time.monotonic()
        self._autosave: int | None = None  # epoch of the checkpoint to drop after the next one

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
        """Write every registered model. `epoch` counts from 0; files name the next one.

        `is_best` writes model-best.pth.tar as well. A `model_name` of its own does not become
        the one to resume from.
        """
        if not distributed.is_first():
            return
        run = {
            "rng": _get_rng(),
            "best_result": float(self.best_result),
            "extra": self.extra_state(),
        }
        for name, model in self._models.items():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": model.state_dict(),
                "epoch": epoch + 1,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": None if val_result is None else float(val_result),
                "config": self.cfg.dump(),
                "classnames": list(self.dm.dataset.classnames),
                "run": run,
            }
            folder = str(Path(directory, name))
            path = save_checkpoint(state, folder, model_name)
            if is_best:
                save_checkpoint(state, folder, BEST)
            if not model_name:
                with atomic_write(Path(folder, POINTER)) as file:
                    file.write(f"{path.name}\n".encode())

    def save_progress(self, keep: bool) -> None:
        """After an epoch: save if `keep`, or if the last save is long ago (then only until the
        next one)."""
        if not keep and time.monotonic() - self._last_save < AUTOSAVE_SECONDS:
            return
        self.save_model(self.epoch, self.cfg.OUTPUT_DIR)
        # Only now is there a newer one of every model.
        if self._autosave is not None:
            for name in self._models:
                stale = Path(self.cfg.OUTPUT_DIR, name, f"model.pth.tar-{self._autosave}")
                with contextlib.suppress(FileNotFoundError):
                    stale.unlink()
        self._autosave = None if keep else self.epoch + 1
        self._last_save = time.monotonic()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every registered model for evaluation or as a start.

        `epoch` None takes model-best.pth.tar. Class names may differ from the checkpoint's:
        embeddings of class names stay those of the classes at hand.

        Raises:
            WeightsError: a file is missing or damaged, or does not fit the model.
        """
        distributed.wait_for_all()  # the first process may have written it just now
        if not directory:
            print("No model directory given: evaluating the model as it was built")
            return
        file = BEST if epoch is None else f"model.pth.tar-{epoch}"
        for name, model in self._models.items():
            path = Path(directory, name, file)
            checkpoint = load_checkpoint(path)
            load_weights(model, checkpoint["state_dict"], str(path))
            print(f"Loaded {name} from {path} (epoch {checkpoint['epoch']})")

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue from `directory` if it has a checkpoint of every model.

        Returns:
            The epoch (from 0) to begin with.
        """
        folders = {name: Path(directory, name) for name in self._models}
        newest = {name: _pointed(folder) for name, folder in folders.items()}
        if not newest or None in newest.values():
            print("No checkpoint found, train from scratch")
            return 0
        # Killed between two models' files, a run has one model an epoch ahead; the older
        # checkpoint of that model is still there.
        epoch = min(pointed[0] for pointed in newest.values() if pointed)
        print(f"Found checkpoint at {directory} (will resume training)")
        run: dict[str, Any] = {}
        for name, folder in folders.items():
            file = f"model.pth.tar-{epoch}"
            if (pointed := newest[name]) and pointed[0] == epoch:
                file = pointed[1]
            path = folder / file
            checkpoint = load_checkpoint(path)
            self._check_same_run(checkpoint, path)
            load_weights(self._models[name], checkpoint["state_dict"], str(path))
            targets = {"optimizer": self._optims[name], "scheduler": self._scheds[name]}
            for part, target in targets.items():
                if target is not None and checkpoint.get(part) is not None:
                    _load_part(target, checkpoint[part], part, path)
            run = checkpoint.get("run", {})
        if run:
            self.best_result = run["best_result"]
        else:
            print("Note: written by another toolbox, without random state; batches will differ")
        self.load_extra_state(run.get("extra", {}))
        if run:
            _set_rng(run["rng"])
        if epoch < self.max_epoch and not self.wants_checkpoint(epoch):
            self._autosave = epoch
        print(f"Resuming after epoch {epoch}")
        return epoch

    def wants_checkpoint(self, done: int) -> bool:
        """Whether the checkpoint after `done` epochs is one to keep."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        return done == self.max_epoch or (frequency > 0 and done % frequency == 0)

    def _check_same_run(self, checkpoint: dict[str, Any], path: Path) -> None:
        names = checkpoint.get("classnames")
        if names is not None and names != list(self.dm.dataset.classnames):
            raise WeightsError(
                f"{path} was trained on {len(names)} other classes ({', '.join(names[:3])}, ...); "
                "choose another --output-dir, or restore the dataset settings"
            )
        before = _flat(yaml.safe_load(checkpoint.get("config", "{}")))
        now = _flat(yaml.safe_load(self.cfg.dump()))
        for key in sorted(before.keys() & now.keys()):
            if before[key] != now[key] and not key.startswith(_FREE):
                print(f"Note: {key} was {before[key]!r} in the checkpoint, now {now[key]!r}")


def _pointed(folder: Path) -> tuple[int, str] | None:
    """Epoch and name of the checkpoint to resume from, if there is one."""
    try:
        name = (folder / POINTER).read_text().strip()
    except FileNotFoundError:
        return None
    number = name.rpartition("-")[2]
    # Dassl may point to model-best.pth.tar, whose epoch stands inside.
    epoch = int(number) if number.isdigit() else load_checkpoint(folder / name)["epoch"]
    return epoch, name


def _load_part(target: Any, state: dict[str, Any], part: str, path: Path) -> None:
    try:
        target.load_state_dict(state)
    except ValueError as error:  # another number of parameters
        raise WeightsError(
            f"the {part} in {path} does not fit this model ({error}), so that the run cannot be "
            "continued. To start a new one from its weights, choose another --output-dir and set "
            f"MODEL.INIT_WEIGHTS {path}"
        ) from error


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{prefix}{key}.").items()}


def _get_rng() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator's state)
    return {
        "python": random.getstate(),
        # as int64: plain tensors have no uint32 everywhere
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_rng(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
