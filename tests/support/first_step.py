"""A trainer with SAR at its first step, and the features that its teacher has."""

from pathlib import Path
from typing import Any

import torch
from tiny_host import BASE, NOVEL, tiny_clip, tiny_trainer, tokenize
from torch import Tensor

NAMES = [name.replace("_", " ") for name in BASE + NOVEL]


def start(folder: Path, method: str = "SAR_CoOp", **sar: Any) -> Any:
    """A trainer at its first step; its alignment is `trainer._injection.alignment`."""
    options = {f"TRAINER__SAR__{key}": value for key, value in {"SAMPLE_SIZE": 0, **sar}.items()}
    trainer: Any = tiny_trainer(folder, method, **options)
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 3
    return trainer


def texts(template: str) -> Tensor:
    """(C, D), by CLIP's own encoder."""
    with torch.no_grad():
        return tiny_clip().float().encode_text(tokenize([template.format(name) for name in NAMES]))
