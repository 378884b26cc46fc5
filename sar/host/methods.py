"""Repairs that single methods of the checkouts need today, each in one trainer's module.

They are applied like those of `sar.host.bridges`, right after the module was imported.
"""

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from sar.errors import ConfigError, HostError

Repair = Callable[[ModuleType], None]


def adam(module: ModuleType) -> None:
    """trainers.tcp: its README has its users edit Dassl, because Adam's `eps` is 0 in fp16."""
    build = module.build_optimizer

    @wraps(build)
    def build_optimizer(*args: Any, **kwargs: Any) -> Any:
        optimizer = build(*args, **kwargs)
        for group in optimizer.param_groups:
            if "betas" in group:
                group["eps"] = max(group["eps"], 1e-3)
        return optimizer

    module.build_optimizer = build_optimizer  # type: ignore[attr-defined]


def all_class_names(module: ModuleType) -> None:
    """prompting.lasp: what it asks its datasets for goes by another name there."""
    build = module.LASP.build_model

    @wraps(build)
    def build_model(self: Any) -> None:
        dataset = self.dm.dataset
        if not hasattr(dataset, "all_class_names"):
            dataset.all_class_names = dataset.all_classnames
        build(self)

    module.LASP.build_model = build_model


def precision(trainer: str, node: str, works: tuple[str, ...], at: str) -> Repair:
    """A repair that refuses a PREC which `trainer` fails with, before the method `at` runs."""

    def check(cfg: Any) -> None:
        import torch

        here = [prec for prec in works if prec != "amp" or torch.cuda.is_available()]
        if (found := cfg.TRAINER[node].PREC) not in here:
            raise ConfigError(
                f"TRAINER.{node}.PREC is {found!r}, with which this checkout's {trainer} fails "
                f"here; expected {' or '.join(here)}"
            )

    return lambda module: _check_before(getattr(module, trainer), at, check)


def own_dassl(trainer: str, method: str, folder: str) -> Repair:
    """A repair that refuses a trainer that another Dassl than its repository's cannot run."""

    def refuse(cfg: Any) -> None:
        raise HostError(
            f"{trainer} needs the Dassl in its own repository, whose TrainerX has {method}(); put "
            f"it in front of any other: PYTHONPATH=../{folder}"
        )

    def apply(module: ModuleType) -> None:
        if not hasattr(base := getattr(module, trainer), method):
            _check_before(base, "check_cfg", refuse)

    return apply


def one_gpu(trainer: str) -> Repair:
    """A repair that refuses training on several GPUs: the replicas' losses do not make one loss."""

    def check(cfg: Any) -> None:
        import torch

        if (count := torch.cuda.device_count()) > 1:
            raise ConfigError(
                f"{trainer} cannot train on {count} GPUs; choose one, as in CUDA_VISIBLE_DEVICES=0"
            )

    return lambda module: _check_before(getattr(module, trainer), "before_train", check)


def _check_before(trainer: type, method: str, check: Callable[[Any], None]) -> None:
    """Lets `check` look at the configuration before `method` runs."""
    original = getattr(trainer, method)

    @wraps(original)
    def checked(self: Any, *args: Any) -> Any:
        check(args[0] if args else self.cfg)  # check_cfg comes before self.cfg
        return original(self, *args)

    setattr(trainer, method, checked)


METHODS: dict[str, list[Repair]] = {
    "trainers.tcp": [adam],
    "prompting.lasp": [all_class_names],
    "trainers.cocoop": [one_gpu("CoCoOp")],
    # Some of MaPLe's layers are fp16 whatever PREC says, which autocast hides on CUDA.
    "trainers.maple": [
        precision("MaPLe", "MAPLE", ("fp16", "amp"), at="check_cfg"),
        one_gpu("MaPLe"),
    ],
    # PromptSRC's frozen image encoder is fp16 whatever PREC says. Its amp branch and KgCoOp's take
    # the tuple that their models return for a tensor. Tests run neither.
    "trainers.promptsrc": [
        precision("PromptSRC", "PROMPTSRC", ("fp16",), at="before_train"),
        one_gpu("PromptSRC"),
    ],
    "trainers.prograd": [
        own_dassl("ProGrad", "prograd_backward_and_update", "Dassl.ProGrad.pytorch")
    ],
    "trainers.kgcoop": [precision("KgCoOp", "COOP", ("fp16", "fp32"), at="before_train")],
}
