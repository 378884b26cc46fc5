"""From the folder of a training to the text embeddings of its classes."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sar.classes.templates import template_for
from sar.config import add_sar_config
from sar.encoding import encode_tokens
from sar.errors import ConfigError, WeightsError
from sar.host import register
from sar.toolbox.clip import load_clip, tokenize
from sar.toolbox.config import cfg_from_dump
from sar.toolbox.engine import build_trainer
from sar.toolbox.train import register_builtin
from sar.toolbox.utils import load_checkpoint

SUBSETS = ("new", "base", "all")
IMAGES = 16
"""Images whose contexts are averaged where the prompt depends on the image."""


@dataclass(frozen=True)
class Embeddings:
    """Text embeddings of a dataset's classes under a hand-crafted and a trained prompt."""

    trainer: str
    dataset: str
    backbone: str
    epoch: int
    names: tuple[str, ...]
    template: str
    """The hand-crafted prompt."""
    reference: Tensor
    """(C, D) float32, of the hand-crafted prompts."""
    learned: Tensor
    """(C, D) float32, of the learned prompts after the last saved epoch."""


def embeddings(folder: Path, subset: str = "new", root: str = "") -> Embeddings:
    """Embeddings of the classes of `subset` (see `SUBSETS`) by the model trained in `folder`.

    The model is built as for an evaluation on these classes, so the dataset must be there; `root`
    replaces the folder it was read from. CoCoOp's prompt depends on the image: its embeddings are
    the mean over `IMAGES` test images, evenly spread over the test set.

    Raises:
        WeightsError: no checkpoint in `folder`, or one that does not say how it was trained.
        ConfigError: an unknown `subset`, or a trainer or dataset that is not known here.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--classes is {subset!r}; expected one of {', '.join(SUBSETS)}")
    file = last_checkpoint(folder)
    checkpoint = load_checkpoint(file)
    if "config" not in checkpoint:
        raise WeightsError(
            f"{file} does not say how it was trained; expected a checkpoint written by sarclip"
        )
    cfg = cfg_from_dump(checkpoint["config"], add_sar_config)
    cfg.DATASET.SUBSAMPLE_CLASSES = subset
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    cfg.OUTPUT_DIR, cfg.VERBOSE = "", False
    cfg.freeze()
    with contextlib.redirect_stdout(io.StringIO()):  # what trainers report while they are built
        register_builtin()
        register()
        trainer = build_trainer(cfg)
        trainer.load_model(str(folder), epoch=checkpoint["epoch"])
        learned = _learned(trainer)
    names = tuple(trainer.dm.dataset.classnames)
    template = template_for(cfg.DATASET.NAME)
    clip_model = load_clip(cfg.MODEL.BACKBONE.NAME)
    prompts = tokenize([template.format(name.replace("_", " ")) for name in names])
    with torch.no_grad():
        reference = encode_tokens(clip_model, clip_model.token_embedding, prompts)
    return Embeddings(
        trainer=cfg.TRAINER.NAME,
        dataset=cfg.DATASET.NAME,
        backbone=cfg.MODEL.BACKBONE.NAME,
        epoch=checkpoint["epoch"],
        names=names,
        template=template,
        reference=reference,
        learned=learned,
    )


def last_checkpoint(folder: Path) -> Path:
    """The newest `<model>/model.pth.tar-<epoch>` below the folder of a training."""
    files = [f for f in folder.glob("*/model.pth.tar-*") if f.name.rpartition("-")[2].isdigit()]
    if not files:
        raise WeightsError(
            f"no trained prompt in {folder}; expected the output folder of a training, with "
            "<model>/model.pth.tar-<epoch> in it"
        )
    return max(files, key=lambda file: int(file.name.rpartition("-")[2]))


def _learned(trainer: Any) -> Tensor:
    """What the text encoder gives in an evaluation: (C, D)."""
    found: list[Tensor] = []
    trainer.model.text_encoder.register_forward_hook(lambda *call: found.append(call[-1]))
    trainer.set_model_mode("eval")
    data = trainer.test_loader.dataset
    spread = range(0, len(data), max(1, len(data) // IMAGES))[:IMAGES]
    images = torch.stack([data[i]["img"] for i in spread]).to(trainer.device)
    with torch.no_grad():
        trainer.model_inference(images)
    features = torch.cat([F.normalize(output.float(), dim=-1) for output in found])
    return features.mean(dim=0).cpu() if features.dim() == 3 else features.cpu()
