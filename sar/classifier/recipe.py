"""What a classifier is made from, and the trainer that is built from it, without any pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.classes.identity import told_apart
from sar.classes.templates import GENERIC, template_for
from sar.errors import ConfigError, WeightsError
from sar.host.embedded import read_config
from sar.results import Score
from sar.toolbox.clip import check_backbone, load_clip
from sar.toolbox.data.transforms import image_input
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.engine.checkpointing import BEST, last_checkpoint
from sar.toolbox.engine.origin import content_of, method_of
from sar.toolbox.registered import registered_rules
from sar.toolbox.utils import load_checkpoint
from sar.toolbox.utils.checkpoint import check_finite, misfits
from sar.toolbox.utils.logger import notes_alone
from sar.toolbox.validation import check_settings

ZERO_SHOT = "ZeroshotCLIP"
TEMPERATURE, THRESHOLD = "temperature", "threshold"
_FITTED = {TEMPERATURE: "temperature", THRESHOLD: "limit for unknown pictures"}


class Result(NamedTuple):
    """The result of a test of the trained model."""

    test: str
    score: Score


@dataclass(frozen=True)
class Recipe:
    """A trained prompt, or a template, and the settings under which it means something."""

    cfg: CfgNode
    """That of the run; nothing about the dataset and the training is used."""
    base: tuple[str, ...]
    """The classes it was trained on; for zero-shot CLIP those beside which others are new."""
    classes: tuple[str, ...]
    """The classes it tells apart, in the order of its logits."""
    learned: Mapping[str, Tensor]
    """The trained parameters, by their names in the model."""
    template: str
    """The hand-crafted prompt of zero-shot CLIP, and what a learned one is compared with."""
    run: Path | None = None
    """The output folder of the training, where that is what it was read from."""
    temperature: float = 1.0
    """Logits are divided by it before they become probabilities."""
    negatives: tuple[str, ...] = ()
    """Names that stand for what is none of the classes."""
    threshold: float = 0.0
    """Pictures with a smaller share of probability for the classes, beside the negatives, are
    none of them."""
    repeated: Mapping[str, str] = field(default_factory=dict)
    """Classes of the training with the name of an earlier one: the name here -> that name."""
    fitted_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The classes that TEMPERATURE and THRESHOLD were fitted with, if they were."""
    results: tuple[Result, ...] = ()
    """Those of the training's tests, if its folder is gone; otherwise they are in `run`."""

    def spoken(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The names of classes as a prompt has them."""
        return tuple(self.repeated.get(name, name) for name in classes)

    @property
    def fitted(self) -> str:
        """What was fitted on held-out pictures, in words; empty: nothing."""
        return " and ".join(_FITTED[what] for what in _FITTED if what in self.fitted_with)

    @property
    def of_other_classes(self) -> list[str]:
        """Which of TEMPERATURE and THRESHOLD were fitted with other classes than these."""
        return [
            what
            for what in _FITTED
            if {*self.fitted_with.get(what, self.classes)} != {*self.classes}
        ]

    @property
    def misfit(self) -> str:
        """A note if what was fitted is used with other classes; otherwise empty."""
        if THRESHOLD in self.fitted_with and not self.negatives:
            return (
                "Note: all negative labels are classes now, so that no picture is told as unknown; "
                "to have others: --unknown --novel FILE --held-out FOLDER"
            )
        if not (other := self.of_other_classes):
            return ""
        options = {TEMPERATURE: "--calibrate", THRESHOLD: "--unknown"}
        return (
            f"Note: {' and '.join(_FITTED[what] for what in other)} "
            f"{'were' if len(other) > 1 else 'was'} fitted with other classes; to fit with these: "
            f"{' '.join(options[what] for what in other)} --held-out FOLDER"
        )

    @property
    def encoded(self) -> tuple[str, ...]:
        """The names that are encoded: the classes, then the negatives."""
        return (*self.spoken(self.classes), *self.negatives)

    def with_classes(
        self, classes: Sequence[str], specific: bool, negatives: Sequence[str] = ()
    ) -> Recipe:
        """The same for other classes.

        Args:
            specific: each class has a context of its own; those that stay keep theirs.

        Raises:
            ConfigError: a class would need a context of its own, and has none.
        """
        learned = self.learned
        if specific and negatives:
            raise ConfigError(
                "each class has a context of its own here (TRAINER.COOP.CSC True), so that there "
                "can be no negative labels; train with CSC False"
            )
        if specific:
            rows = {name: row for row, name in enumerate(self.classes)}
            if unknown := [name for name in classes if name not in rows]:
                raise ConfigError(
                    f"{unknown[0]!r} cannot be added: each class has a context of its own here "
                    "(TRAINER.COOP.CSC True), and there is none for it; train with CSC False"
                )
            kept = [rows[name] for name in classes]
            learned = {name: value[kept] for name, value in learned.items()}
        return replace(self, classes=tuple(classes), learned=learned, negatives=tuple(negatives))

    def build(self) -> Any:
        """The trainer in evaluation mode, for these classes and with what was learned.

        Raises:
            WeightsError: the parameters do not fit the model. ConfigError: names that are too long.
        """
        trainer = bare_trainer(self.cfg, self.encoded, self.template)
        wanted = parameters_of(trainer)
        if problems := misfits(self.learned, wanted):
            raise WeightsError(
                f"the learned parameters do not fit {self.cfg.TRAINER.NAME}: "
                f"{'; '.join(sorted(problems))}. Export the classifier again"
            )
        check_finite(self.learned, "the learned parameters")
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(self.learned[name])
        trainer.set_model_mode("eval")
        return trainer


def read_run(folder: Path, epoch: int | None = None, clip: str = "") -> tuple[Recipe, Any]:
    """The recipe of a training's output folder, and its trainer, as `Recipe.build` gives it.

    The checkpoint is the one that the training itself tested.

    Args:
        epoch: another checkpoint, by the number of epochs done.
        clip: name or file of the CLIP, if it has moved.

    Raises:
        WeightsError: no checkpoint, one that does not say how it was trained, or another CLIP.
        ConfigError: a trainer that is not known here.
    """
    newest = last_checkpoint(folder)
    best = newest.with_name(BEST)
    checkpoint = load_checkpoint(newest)
    if "config" not in checkpoint or "classnames" not in checkpoint:
        raise WeightsError(
            f"{newest} does not say how it was trained; expected a checkpoint written by sarclip"
        )
    cfg = read_config(checkpoint["config"])
    cfg.MODEL.BACKBONE.NAME = clip or cfg.MODEL.BACKBONE.NAME
    check_config(cfg)
    cfg.INPUT = image_input(cfg)
    cfg.freeze()
    if epoch is None and not (cfg.TEST.FINAL_MODEL == "best_val" and best.is_file()):
        epoch = checkpoint["epoch"]
    names = tuple(checkpoint["classnames"])
    trainer = bare_trainer(cfg, names)
    with notes_alone():
        trainer.load_model(str(folder), epoch=epoch)
    learned = {name: value.detach().cpu().clone() for name, value in parameters_of(trainer).items()}
    trainer.set_model_mode("eval")
    apart = told_apart(names)
    repeated = {name: said for name, said in apart.items() if name != said}
    template, classes = template_for(cfg.DATASET.NAME), tuple(apart)
    return Recipe(cfg, classes, classes, learned, template, folder, repeated=repeated), trainer


def zero_shot(
    clip: str, names: Sequence[str], template: str = GENERIC, base: Sequence[str] = ()
) -> Recipe:
    """The recipe of a CLIP with a hand-crafted prompt; `base`: the recipe's.

    Raises ConfigError for an unknown CLIP, or a template without exactly one {}.
    """
    if template.count("{}") != 1:
        raise ConfigError(
            f"the template is {template!r}; expected one {{}} in it, for the class name"
        )
    cfg = read_config("")
    cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME = ZERO_SHOT, clip
    check_backbone(clip)
    # As in all configurations of CLIP that were published.
    cfg.INPUT.INTERPOLATION, cfg.INPUT.TRANSFORMS = "bicubic", ("normalize",)
    cfg.INPUT = image_input(cfg)
    cfg.freeze()
    return Recipe(cfg, tuple(base), tuple(names), {}, template)


def check_config(cfg: CfgNode) -> None:
    """ConfigError for settings that no prompt can have been trained with."""
    check_settings(cfg, registered_rules())


def bare_trainer(cfg: CfgNode, names: Sequence[str], template: str = "") -> Any:
    """The trainer of a configuration, which has class names in place of a dataset.

    That of SAR_X is X, which tests the same weights. The global random state stays as it is.
    `template` is zero-shot CLIP's.
    """

    class Bare(TRAINER_REGISTRY.get(method_of(cfg.TRAINER.NAME))):  # type: ignore[misc]
        def build_data_loader(self) -> None:
            self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=list(names)))
            self.lab2cname = dict(enumerate(names))
            self.num_classes = len(names)

    if template:
        Bare.template = template
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        return Bare(cfg)


def clip_content(trainer: Any) -> str:
    """What the CLIP of a trainer computes, as a hash."""
    name = trainer.cfg.MODEL.BACKBONE.NAME
    return trainer.origin.clip or content_of(load_clip(name).model)


def parameters_of(trainer: Any) -> dict[str, Tensor]:
    """The parameters that the trainer would train and a test uses, by their names in the model."""
    if not trainer.get_model_names():  # nothing is trained
        return {}
    return {
        name: p
        for name, p in trainer.model.named_parameters()
        if p.requires_grad and not name.startswith(getattr(trainer, "training_only", ()))
    }
