from .build import TRAINER_REGISTRY, build_trainer
from .simple_trainer import SimpleTrainer, TrainerX, progress_bar
from .trainer_base import TrainerBase

__all__ = [
    "TRAINER_REGISTRY",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "build_trainer",
    "progress_bar",
]
