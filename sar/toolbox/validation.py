"""Checks of a complete configuration, before anything is built."""

from typing import Any

from yacs.config import CfgNode

from sar.errors import ConfigError
from sar.toolbox.clip import check_backbone
from sar.toolbox.config import Rule, check_values
from sar.toolbox.data.data_manager import SAMPLERS
from sar.toolbox.data.datasets import DATASET_REGISTRY
from sar.toolbox.data.datasets.base_dataset import SUBSAMPLES
from sar.toolbox.data.transforms import INTERPOLATION_MODES, TRANSFORMS
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.evaluation import EVALUATOR_REGISTRY
from sar.toolbox.optim import OPTIMIZERS, SCHEDULERS, WARMUPS


def validate(cfg: CfgNode, rules: dict[str, Rule]) -> None:
    """ConfigError for the first key of a run whose value nothing here can work with.

    Args:
        rules: what numbers and lists may be, by key. What only one trainer knows besides is
            checked by that trainer's `check_cfg`.
    """
    for key, option in (
        ("TRAINER.NAME", "--trainer NAME"),
        ("DATASET.NAME", "--dataset-config-file datasets/NAME.yaml"),
    ):
        if not _get(cfg, key):
            raise ConfigError(f"{key} is empty; give it by {option} (see sarclip config list)")
    _check_choice("DATASET.NAME", cfg.DATASET.NAME, DATASET_REGISTRY.registered_names())
    check_settings(cfg, rules)


def check_settings(cfg: CfgNode, rules: dict[str, Rule]) -> None:
    """`validate` without the dataset, which a trained prompt does not need."""
    check_values(cfg, rules)
    for key, valid in {
        "TRAINER.NAME": TRAINER_REGISTRY.registered_names(),
        "DATASET.SUBSAMPLE_CLASSES": SUBSAMPLES,
        "INPUT.INTERPOLATION": INTERPOLATION_MODES,
        "DATALOADER.TRAIN_X.SAMPLER": SAMPLERS,
        "DATALOADER.TEST.SAMPLER": SAMPLERS,
        "OPTIM.NAME": OPTIMIZERS,
        "OPTIM.LR_SCHEDULER": SCHEDULERS,
        "OPTIM.WARMUP_TYPE": WARMUPS,
        "TEST.EVALUATOR": EVALUATOR_REGISTRY.registered_names(),
        "TEST.SPLIT": ("test", "val"),
        "TEST.FINAL_MODEL": ("last_step", "best_val"),
    }.items():
        _check_choice(key, _get(cfg, key), valid)
    for name in cfg.INPUT.TRANSFORMS:
        _check_choice("INPUT.TRANSFORMS", name, TRANSFORMS)
    if cfg.INPUT.GB_K % 2 == 0:
        raise ConfigError(f"INPUT.GB_K is {cfg.INPUT.GB_K}; expected an odd number")
    loader = cfg.DATALOADER
    if loader.VIEWS and loader.K_TRANSFORMS > 1:
        raise ConfigError(
            f"DATALOADER.VIEWS is {loader.VIEWS} and K_TRANSFORMS {loader.K_TRANSFORMS}; several "
            "views at a time are drawn anew in every epoch: set one of them to its default"
        )
    optim = cfg.OPTIM
    if optim.SGD_NESTEROV and (optim.MOMENTUM == 0 or optim.SGD_DAMPNING != 0):
        raise ConfigError(
            "OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0; found "
            f"{optim.MOMENTUM} and {optim.SGD_DAMPNING}"
        )
    check_backbone(cfg.MODEL.BACKBONE.NAME)


def _check_choice(key: str, value: str, valid: Any) -> None:
    from sar.toolbox.utils.registry import check_availability

    check_availability(value, valid, key)


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
