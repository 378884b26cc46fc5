"""From the folder of a training to the text embeddings of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.classes.novel_names import parse_mix, parse_words
from sar.classes.novel_report import NovelClasses
from sar.classes.overlap import known_classes
from sar.errors import ConfigError, WeightsError
from sar.host.embedded import read_config
from sar.reference import FrozenText, Reference, reference_of
from sar.toolbox.clip import load_clip
from sar.toolbox.config import dataset_title
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.engine.checkpointing import last_checkpoint
from sar.toolbox.utils import load_checkpoint
from sar.toolbox.utils.logger import notes_alone

NOVEL = "novel"
SUBSETS = ("new", "base", "all", NOVEL)
IMAGES = 16
"""Images whose contexts are averaged where the prompt depends on the image."""
SAR_PREFIX = "SAR_"


@dataclass(frozen=True)
class Training:
    """A finished training, as its last checkpoint describes it."""

    folder: Path
    epoch: int
    cfg: CfgNode
    """How it was trained; ``TRAINER.SAR`` holds the defaults where it was trained without SAR."""

    @property
    def has_sar(self) -> bool:
        return str(self.cfg.TRAINER.NAME).startswith(SAR_PREFIX)


@dataclass(frozen=True)
class Embeddings:
    """Text embeddings of a dataset's classes under a hand-crafted and a trained prompt."""

    trainer: str
    dataset: str
    backbone: str
    epoch: int
    names: tuple[str, ...]
    crafted: str
    """The hand-crafted prompt, or what stands in its place."""
    reference: Tensor
    """(C, D) float32, of the hand-crafted prompt; of several, the mean."""
    learned: Tensor
    """(C, D) float32, of the learned prompts after the last saved epoch."""


def read_training(folder: Path, root: str = "") -> Training:
    """The training in `folder`; `root` replaces the folder its dataset was read from.

    Raises:
        WeightsError: no checkpoint in `folder`, or one that does not say how it was trained.
    """
    file = last_checkpoint(folder)
    checkpoint = load_checkpoint(file, ("state_dict", "epoch"))
    if "config" not in checkpoint:
        raise WeightsError(
            f"{file} does not say how it was trained; expected a checkpoint written by sarclip"
        )
    cfg = read_config(checkpoint["config"])
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    cfg.freeze()
    return Training(folder, checkpoint["epoch"], cfg)


def embeddings(
    training: Training, subset: str = "new", aligned: Training | None = None
) -> Embeddings:
    """Embeddings of the classes of `subset` (see `SUBSETS`) by a trained model.

    The model is built as for an evaluation on these classes, so the dataset must be there. CoCoOp's
    prompt depends on the image: its embeddings are the mean over `IMAGES` test images, evenly
    spread over the test set.

    Args:
        aligned: the training with SAR whose ``TEMPLATE`` and, for the subset `novel`, whose novel
            classes are meant; by default `training` itself.

    Raises:
        ConfigError: an unknown `subset`, trainer or dataset, or novel classes that did not exist or
            can no longer be told.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--classes is {subset!r}; expected one of {', '.join(SUBSETS)}")
    aligned = aligned or training
    cfg = training.cfg.clone()
    if subset != NOVEL:
        cfg.defrost()
        cfg.DATASET.SUBSAMPLE_CLASSES = subset
        cfg.freeze()
    with notes_alone():  # of what trainers report while they are built
        trainer = _trainer_of_novel(cfg, aligned) if subset == NOVEL else _trainer(cfg)
        trainer.load_model(str(training.folder), epoch=training.epoch)
        learned = _learned(trainer)
    names = tuple(trainer.dm.dataset.classnames)
    backbone = load_clip(cfg.MODEL.BACKBONE.NAME)
    crafted = _crafted(aligned)
    like = trainer.model.prompt_learner.tokenized_prompts.cpu()
    text = FrozenText(backbone.model, backbone.tokenizer.encode, like)
    return Embeddings(
        trainer=cfg.TRAINER.NAME,
        dataset=dataset_title(cfg),
        backbone=cfg.MODEL.BACKBONE.NAME,
        epoch=training.epoch,
        names=names,
        crafted=crafted.title,
        reference=crafted.embeddings(text, names),
        learned=learned,
    )


def _trainer(cfg: CfgNode) -> Any:
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)


def _trainer_of_novel(cfg: CfgNode, aligned: Training) -> Any:
    """The trainer of `cfg`, its prompts being those of the novel classes of `aligned`."""

    class OfNovel(TRAINER_REGISTRY.get(cfg.TRAINER.NAME)):  # type: ignore[misc]
        def build_data_loader(self) -> None:
            super().build_data_loader()
            self.dm.dataset.classnames = _novel_names(self.dm.dataset, aligned)

    return OfNovel(cfg)


def _novel_names(dataset: Any, aligned: Training) -> list[str]:
    """The novel names that `aligned` was trained with, on the classes of `dataset`."""
    sar, seed = aligned.cfg.TRAINER.SAR, aligned.cfg.SEED
    if parse_mix(sar.NOVEL):
        raise ConfigError(
            f"{aligned.folder} was trained with mixtures of base classes (TRAINER.SAR.NOVEL "
            f"{sar.NOVEL}), which are no names; choose other --classes"
        )
    if seed < 0 and parse_words(sar.NOVEL):
        raise ConfigError(
            f"{aligned.folder} was trained without --seed, so nobody knows which words "
            f"TRAINER.SAR.NOVEL {sar.NOVEL} gave; choose other --classes"
        )
    everything = getattr(dataset, "all_classnames", None)
    classes = known_classes(aligned.cfg.DATASET.NAME, dataset.classnames, everything)
    listed = getattr(dataset, "novel_list", "")
    chosen = NovelClasses.chosen(sar, classes, seed, listed=listed)
    names = _crafted(aligned).known(chosen.names)
    if not names:
        raise ConfigError(
            f"{aligned.folder} was trained without novel classes (TRAINER.SAR.NOVEL {sar.NOVEL}); "
            "choose other --classes"
        )
    return names


def _crafted(aligned: Training) -> Reference:
    sar = aligned.cfg.TRAINER.SAR
    return reference_of(sar.TEMPLATE, aligned.cfg.DATASET.NAME, novel=sar.NOVEL)


def _learned(trainer: Any) -> Tensor:
    """Normalized text features (C, D) of an evaluation; the mean over images if they differ."""
    trainer.set_model_mode("eval")
    data = trainer.test_loader.dataset
    spread = range(0, len(data), max(1, len(data) // IMAGES))[:IMAGES]
    images = torch.stack([data[i]["img"] for i in spread]).to(trainer.device)
    with torch.no_grad():
        features: Tensor = trainer.model.class_features(images)
    return features.mean(dim=0).cpu() if features.dim() == 3 else features.cpu()
