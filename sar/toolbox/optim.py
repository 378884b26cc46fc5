"""Optimizers and learning-rate schedules by configuration."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer
from yacs.config import CfgNode

OPTIMIZERS = ("sgd", "adam", "amsgrad", "adamw", "rmsprop")
SCHEDULERS = ("single_step", "multi_step", "cosine")
WARMUPS = ("constant", "linear")


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: Any = None
) -> Optimizer:
    """The optimizer OPTIM names, over `param_groups` or, without them, the model's parameters."""
    params = param_groups
    if params is None:
        params = model.parameters() if isinstance(model, nn.Module) else model
    name = optim_cfg.NAME
    common: dict[str, Any] = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    betas: dict[str, Any] = {"betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)}
    if name == "sgd":
        return torch.optim.SGD(
            params,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common
        )
    if name == "adamw":
        return torch.optim.AdamW(params, **betas, **common)
    return torch.optim.Adam(params, amsgrad=name == "amsgrad", **betas, **common)


class WarmupScheduler(LRScheduler):
    """A schedule preceded by `warmup_epoch` epochs of constant or linearly growing rate.

    constant: `warmup_lr` throughout. linear: `warmup_lr` in epoch 0, then
    base rate x epoch / `warmup_epoch`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        warmup_type: str,
        warmup_lr: float,
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        self.warmup_type = warmup_type
        self.warmup_lr = warmup_lr
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        if self.warmup_type == "constant" or self.last_epoch == 0:
            return [self.warmup_lr for _ in self.base_lrs]
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch < self.warmup_epoch:
            super().step(epoch)
        else:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Plain values only; the successor's state in place of the successor."""
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes its own `state_dict`, and Dassl's, which carries the successor itself."""
        own = dict(state_dict)
        successor = own.pop("successor")
        if not isinstance(successor, dict):
            successor = {k: v for k, v in successor.state.items() if k != "optimizer"}
        self.successor.load_state_dict(successor)
        super().load_state_dict(own)


def build_lr_scheduler(optimizer: Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """The schedule OPTIM names, stepped once per epoch."""
    scheduler: LRScheduler
    steps = list(optim_cfg.STEPSIZE)
    if optim_cfg.LR_SCHEDULER == "single_step":
        size = steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH
        scheduler = lr_scheduler.StepLR(optimizer, size, optim_cfg.GAMMA)
    elif optim_cfg.LR_SCHEDULER == "multi_step":
        scheduler = lr_scheduler.MultiStepLR(optimizer, steps, optim_cfg.GAMMA)
    else:
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, optim_cfg.MAX_EPOCH)
    if optim_cfg.WARMUP_EPOCH > 0:
        if not optim_cfg.WARMUP_RECOUNT:
            scheduler.last_epoch = optim_cfg.WARMUP_EPOCH
        constant = optim_cfg.WARMUP_TYPE == "constant"
        scheduler = WarmupScheduler(
            optimizer,
            scheduler,
            optim_cfg.WARMUP_EPOCH,
            optim_cfg.WARMUP_TYPE,
            optim_cfg.WARMUP_CONS_LR if constant else optim_cfg.WARMUP_MIN_LR,
        )
    return scheduler


def warmup_note(optim_cfg: CfgNode) -> str:
    """A line on a training that is warm-up from its first epoch to its last; empty for others."""
    last, warmup = optim_cfg.MAX_EPOCH - 1, optim_cfg.WARMUP_EPOCH
    if last >= warmup:
        return ""
    highest = optim_cfg.WARMUP_CONS_LR
    if optim_cfg.WARMUP_TYPE != "constant":
        highest = max(optim_cfg.WARMUP_MIN_LR, optim_cfg.LR * last / warmup)
    return (
        f"Note: the whole training is warm-up (OPTIM.MAX_EPOCH {last + 1}, WARMUP_EPOCH {warmup}): "
        f"its learning rate is {highest:g} at most, never OPTIM.LR {optim_cfg.LR:g}, and a prompt "
        "that hardly learns scores as CLIP without training; raise OPTIM.MAX_EPOCH, or set "
        "OPTIM.WARMUP_EPOCH 0"
    )
