"""The parts of a training run: models with their optimizers, the loop, its hooks."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from sar.errors import ConfigError, NotFiniteError
from sar.storage.files import writing
from sar.toolbox import distributed
from sar.toolbox.utils import tolist_if_not
from sar.toolbox.utils.checkpoint import check_finite


class TrainerBase:
    """Models by name, each with optimizer and schedule, and the order of events in training.

    before_train, then for each epoch before_epoch, run_epoch, after_epoch, then after_train.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, LRScheduler | None] = OrderedDict()
        self._writer: Any = None
        self.start_epoch = self.epoch = self.max_epoch = 0

    # Models

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Optimizer | None = None,
        sched: LRScheduler | None = None,
    ) -> None:
        """Have `model` saved, loaded, switched between modes and updated under `name`."""
        if name in self._models or model is None:
            raise ValueError(f"model name {name!r} is taken, or no model was given")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """`names` as a list, checked; all names by default."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise KeyError(f"no model {name!r}; registered: {', '.join(self._models)}")
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Switch models to "train" or "eval" (also called "test")."""
        if mode not in ("train", "eval", "test"):
            raise KeyError(f"mode is {mode!r}; expected train, eval or test")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    # Optimization

    def detect_anomaly(self, loss: Tensor) -> None:
        if not torch.isfinite(loss).all():
            raise NotFiniteError(
                f"Loss is infinite or NaN in epoch {self.epoch + 1}! Lower OPTIM.LR or raise the "
                "precision (PREC amp or fp32)"
            )

    def check_weights(self) -> None:
        """Raises NotFiniteError if what is trained has become NaN or infinite."""
        for name, model in self._models.items():
            learned = {n: p for n, p in model.named_parameters() if p.requires_grad}
            check_finite(learned, f"{name} after epoch {self.epoch + 1}")

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        self.detect_anomaly(loss)
        self.fill_gradients(loss)
        distributed.average_gradients(self.trained_parameters())

    def fill_gradients(self, loss: Tensor) -> None:
        """Computes the gradients; methods override it that do so in another way.

        `loss` is scaled if the precision asks for it.
        """
        loss.backward()

    def trained_parameters(self) -> list[Tensor]:
        """The parameters that the optimizers of all models change."""
        groups = [g for optim in self._optims.values() if optim for g in optim.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.step()

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """One step of every schedule; called once per epoch."""
        for name in self.get_model_names(names):
            if (sched := self._scheds[name]) is not None:
                sched.step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Learning rate of the first model's first parameter group."""
        optim = self._optims[self.get_model_names(names)[0]]
        return optim.param_groups[0]["lr"] if optim is not None else 0.0

    # TensorBoard

    def init_writer(self, log_dir: str, purge_step: int | None = None) -> None:
        """Start writing TensorBoard files; an earlier run's entries from `purge_step` on go."""
        if self._writer is None and distributed.is_first():
            from torch.utils.tensorboard import SummaryWriter

            print(f"Initialize tensorboard (log_dir={log_dir})")
            self._log_dir = log_dir
            with writing(log_dir):
                self._writer = SummaryWriter(log_dir=log_dir, purge_step=purge_step)

    def close_writer(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with writing(self._log_dir):
                writer.close()

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Nothing happens before `init_writer`."""
        if self._writer is not None:
            with writing(self._log_dir):
                self._writer.add_scalar(tag, scalar_value, global_step)

    # The loop

    def train(self, start_epoch: int, max_epoch: int) -> None:
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()
        epochs = range(self.start_epoch, self.max_epoch)
        for self.epoch in epochs:
            self.before_epoch()
            self.run_epoch()
            self.check_weights()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        """Before the first epoch; may move `start_epoch`."""

    def after_train(self) -> None:
        """After the last epoch."""

    def before_epoch(self) -> None:
        """Before each epoch."""

    def after_epoch(self) -> None:
        """After each epoch."""

    def run_epoch(self) -> None:
        raise NotImplementedError

    def test(self, split: str | None = None) -> float:
        raise NotImplementedError

    def parse_batch_train(self, batch: dict[str, Any]) -> Any:
        raise NotImplementedError

    def parse_batch_test(self, batch: dict[str, Any]) -> Any:
        raise NotImplementedError

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One training step; returns what to report."""
        raise ConfigError(f"trainer {type(self).__name__} has nothing to train; add --eval-only")

    def model_inference(self, input: Any) -> Tensor:
        raise NotImplementedError
