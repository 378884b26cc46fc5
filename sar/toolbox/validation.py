"""Checks of a complete configuration, before anything is built."""

from typing import Any

from yacs.config import CfgNode

from sar.errors import ConfigError
from sar.toolbox.clip import check_backbone
from sar.toolbox.data.data_manager import SAMPLERS
from sar.toolbox.data.datasets import DATASET_REGISTRY
from sar.toolbox.data.datasets.base_dataset import SUBSAMPLES
from sar.toolbox.data.transforms import INTERPOLATION_MODES, TRANSFORMS
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.evaluation import EVALUATOR_REGISTRY
from sar.toolbox.optim import OPTIMIZERS, SCHEDULERS, WARMUPS

_AT_LEAST_ONE = (
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "DATALOADER.TEST.BATCH_SIZE",
    "OPTIM.MAX_EPOCH",
    "TRAIN.PRINT_FREQ",
)


def validate(cfg: CfgNode) -> None:
    """ConfigError for the first key whose value nothing here can work with.

    What only one trainer knows is checked by that trainer's `check_cfg`.
    """
    for key, option in (
        ("TRAINER.NAME", "--trainer NAME"),
        ("DATASET.NAME", "--dataset-config-file datasets/NAME.yaml"),
    ):
        if not _get(cfg, key):
            raise ConfigError(f"{key} is empty; give it by {option} (see sarclip config list)")
    for key, valid in {
        "TRAINER.NAME": TRAINER_REGISTRY.registered_names(),
        "DATASET.NAME": DATASET_REGISTRY.registered_names(),
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
    for key in _AT_LEAST_ONE:
        if _get(cfg, key) < 1:
            raise ConfigError(f"{key} is {_get(cfg, key)}; expected at least 1")
    for key, form, length in (
        ("SIZE", "(height, width)", 2),
        ("PIXEL_MEAN", "[red, green, blue]", 3),
        ("PIXEL_STD", "[red, green, blue]", 3),
    ):
        if len(value := cfg.INPUT[key]) not in (0, length):
            raise ConfigError(f"INPUT.{key} is {value}; expected {form} or nothing")
    if cfg.OPTIM.LR <= 0:
        raise ConfigError(f"OPTIM.LR is {cfg.OPTIM.LR}; expected a positive rate")
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise ConfigError(f"DATALOADER.NUM_WORKERS is {cfg.DATALOADER.NUM_WORKERS}; expected >= 0")
    check_backbone(cfg.MODEL.BACKBONE.NAME)


def _check_choice(key: str, value: str, valid: Any) -> None:
    from sar.toolbox.utils.registry import check_availability

    check_availability(value, valid, key)


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
