"""Saving and resuming a trainer, such that a resumed run ends in the very weights of one that was
never interrupted.

Paths and keys are Dassl's: `<directory>/<model name>/model.pth.tar-<epoch>` and, beside it,
`checkpoint`, a text file naming the one to resume from. Each file also holds the configuration,
the class names and the state of the run: random generators (which decide the order of the next
epoch's batches), best validation result and what the trainer adds in `extra_state`. The rest of its
content, and who may load it: see `sar.toolbox.engine.origin`.
"""

import contextlib
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from sar.errors import WeightsError
from sar.storage.files import write_file
from sar.storage.texts import read_text
from sar.toolbox.engine.origin import Origin
from sar.toolbox.engine.restoring import check_run, restore_optimizer, restore_schedule
from sar.toolbox.utils.checkpoint import load_checkpoint, load_weights, save_checkpoint

BEST = "model-best.pth.tar"
POINTER = "checkpoint"
# Between the checkpoints TRAIN.CHECKPOINT_FREQ asks for, keep one that is at most this old.
AUTOSAVE_SECONDS = 30.0


class Checkpoints:
    """The checkpoint files of one run.

    Args:
        models, optims, scheds: of the run, by name; may still be empty, and are read when needed.
        origin: what the weights belong to.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optims: Mapping[str, Optimizer | None],
        scheds: Mapping[str, LRScheduler | None],
        origin: Origin,
    ) -> None:
        self.models, self.optims, self.scheds = models, optims, scheds
        self.origin = origin
        self._last_save = time.monotonic()
        self._passing: set[Path] = set()  # files to drop after the next checkpoint

    def save(
        self,
        done: int,
        directory: str,
        run: Mapping[str, Any],
        is_best: bool = False,
        val_result: float | None = None,
        file: str = "",
    ) -> None:
        """Write every model after `done` epochs, together with the state of the `run`.

        `is_best` writes model-best.pth.tar as well. A checkpoint with a `file` name of its own does
        not become the one to resume from.
        """
        for name, model in self.models.items():
            optim, sched = self.optims[name], self.scheds[name]
            state = {
                "state_dict": model.state_dict(),
                "epoch": done,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": None if val_result is None else float(val_result),
                **self.origin.state(),
                "run": dict(run),
            }
            folder = str(Path(directory, name))
            path = save_checkpoint(state, folder, file)
            if is_best:
                save_checkpoint(state, folder, BEST)
            if not file:
                write_file(Path(folder, POINTER), f"{path.name}\n")

    def is_old(self) -> bool:
        """Whether the last save was so long ago that there should be one after the next epoch."""
        return time.monotonic() - self._last_save >= AUTOSAVE_SECONDS

    def saved(self, done: int, directory: str, keep: bool) -> None:
        """Call this when there is a checkpoint of every model after `done` epochs.

        Removes the earlier ones that were not to be kept.
        """
        written = {Path(directory, name, f"model.pth.tar-{done}") for name in self.models}
        for stale in self._passing - written:
            stale.unlink(missing_ok=True)
        self._passing = set() if keep else written
        self._last_save = time.monotonic()

    def load(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every model; `epoch` None takes model-best.pth.tar.

        Class names may differ from the checkpoint's: embeddings of class names stay those of the
        classes at hand.

        Raises:
            WeightsError: a file is missing or damaged, or does not fit the model or its settings.
        """
        file = BEST if epoch is None else f"model.pth.tar-{epoch}"
        for name, model in self.models.items():
            path = Path(directory, name, file)
            checkpoint = _whole(path)
            self.origin.check(checkpoint, model, path)
            load_weights(model, checkpoint["state_dict"], str(path))
            print(f"Loaded {name} from {path} (epoch {checkpoint['epoch']})")

    def resume(
        self, directory: str, own: bool, expected: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]] | None:
        """Set models, optimizers and schedules to where the run in `directory` stopped.

        Args:
            own: the directory is this run's, which goes on in it and removes the checkpoints that
                were not to be kept; nothing of another run is removed.
            expected: a state of the run as it would be saved now.

        Returns:
            The number of epochs done and the state of the run, which is empty for checkpoints of
            other toolboxes; None if a model has no checkpoint.

        Raises:
            WeightsError: a file is damaged, or belongs to other classes or another model.
        """
        folders = {name: Path(directory, name) for name in self.models}
        newest = {name: _pointed(folder) for name, folder in folders.items()}
        if not newest or None in newest.values():
            return None
        # Killed between two models' files, a run has one model an epoch ahead; the older
        # checkpoint of that model is still there.
        done = min(pointed[0] for pointed in newest.values() if pointed)
        print(f"Found checkpoint at {directory} (will resume training)")
        run: dict[str, Any] = {}
        for name, folder in folders.items():
            file = f"model.pth.tar-{done}"
            if (pointed := newest[name]) and pointed[0] == done:
                file = pointed[1]
            path = folder / file
            checkpoint = _whole(path)
            if checkpoint["epoch"] != done:
                raise WeightsError(
                    f"{path} is a checkpoint after epoch {checkpoint['epoch']}, and its name says "
                    f"{done}; restore its name, or choose another --output-dir"
                )
            self.origin.check_continued(checkpoint, self.models[name], path)
            load_weights(self.models[name], checkpoint["state_dict"], str(path))
            optim, sched = self.optims[name], self.scheds[name]
            if optim is not None and checkpoint.get("optimizer") is not None:
                restore_optimizer(optim, checkpoint["optimizer"], path)
            if sched is not None and checkpoint.get("scheduler") is not None:
                restore_schedule(sched, checkpoint["scheduler"], done, path)
            run = checkpoint.get("run", {})
            if run:
                check_run(run, expected, path)
            if own:
                self._passing |= _passing(folder, done)
        return done, run


def _passing(folder: Path, done: int) -> set[Path]:
    """The passing checkpoints in `folder` that may be left when the one to resume from is `done`.

    A run drops the one before when there is a later one. If it is killed in between, two are left,
    or one that nothing points to yet. What does not say that it is passing was wanted.
    """
    epochs = {_epoch(file.name): file for file in folder.glob("model.pth.tar-*")}
    before = max((epoch for epoch in epochs if 0 <= epoch < done), default=done)
    found = set()
    for epoch, file in epochs.items():
        if epoch >= done or epoch == before:
            with contextlib.suppress(WeightsError):
                if load_checkpoint(file).get("run", {}).get("passing"):
                    found.add(file)
    return found


def last_checkpoint(folder: Path) -> Path:
    """The newest `<model>/model.pth.tar-<epoch>` below the folder of a training.

    Raises WeightsError if there is none.
    """
    files = [file for file in folder.glob("*/model.pth.tar-*") if _epoch(file.name) >= 0]
    if not files:
        deeper = min(folder.rglob("model.pth.tar-*"), default=None)
        raise WeightsError(
            f"no trained prompt in {folder}; expected the output folder of a training, with "
            "<model>/model.pth.tar-<epoch> in it"
            + (f", such as {deeper.parents[1]}" if deeper else "")
        )
    return max(files, key=lambda file: _epoch(file.name))


def _epoch(name: str) -> int:
    """The epoch that a checkpoint's file name says; -1 if it says none."""
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _pointed(folder: Path) -> tuple[int, str] | None:
    """Epoch and name of the checkpoint to resume from, if there is one."""
    file = folder / POINTER
    if not file.exists():
        return None
    name = read_text(file, "expected the name of a checkpoint beside it", WeightsError).strip()
    if not name or Path(name).name != name or len(name) > 200:
        raise WeightsError(
            f"{file} says {name[:100]!r}, which names no checkpoint beside it; write the name of "
            "one into it, such as model.pth.tar-5"
        )
    # Dassl may point to model-best.pth.tar, whose epoch stands inside.
    if (epoch := _epoch(name)) < 0:
        epoch = _whole(folder / name)["epoch"]
    return epoch, name


def _whole(path: Path) -> dict[str, Any]:
    """A checkpoint with weights and epoch; raises as `load_checkpoint` does."""
    return load_checkpoint(path, ("state_dict", "epoch"))


def random_state() -> dict[str, Any]:
    """The global generators of Python, NumPy and torch, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global generator's state)
    return {
        "python": random.getstate(),
        # as int64: plain tensors have no uint32 everywhere
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to what `random_state` gave."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
