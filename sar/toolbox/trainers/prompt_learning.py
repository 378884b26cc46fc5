"""What the trainers of all prompt learners share: building the model, and the training step."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from sar.classes.templates import template_for
from sar.errors import ConfigError
from sar.toolbox.clip import autocast, check_precision, load_clip
from sar.toolbox.clip import tokenizer as _tokenizer
from sar.toolbox.clip.prompted import PromptedCLIP, hand_crafted_features
from sar.toolbox.engine import TrainerX
from sar.toolbox.engine.origin import content_of
from sar.toolbox.features import shared_predictions
from sar.toolbox.metrics import compute_accuracy
from sar.toolbox.optim import build_lr_scheduler, build_optimizer
from sar.toolbox.training_features import TrainingFeatures
from sar.toolbox.utils import load_pretrained_weights


def load_clip_to_cpu(cfg: CfgNode) -> Any:
    """The CLIP of MODEL.BACKBONE.NAME in fp32, checked against INPUT.SIZE if that is given."""
    backbone = load_clip(cfg.MODEL.BACKBONE.NAME, keep_rng=False)
    size = (backbone.resolution, backbone.resolution)
    if cfg.INPUT.SIZE and tuple(cfg.INPUT.SIZE) != size:
        raise ConfigError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but {cfg.MODEL.BACKBONE.NAME} takes "
            f"{size[0]} x {size[1]} pixels; leave INPUT.SIZE out, or set it to {size}"
        )
    return backbone.model


def context_length(cfg: CfgNode, node: str) -> int:
    """Number of context vectors: one for each word of CTX_INIT, else N_CTX.

    `node` is the trainer's, below cfg.TRAINER. ConfigError unless it is at least 1.
    """
    settings = cfg.TRAINER[node]
    if settings.CTX_INIT:
        return len(settings.CTX_INIT.replace("_", " ").split(" "))
    if settings.N_CTX < 1:
        raise ConfigError(f"TRAINER.{node}.N_CTX is {settings.N_CTX}; expected at least 1")
    return int(settings.N_CTX)


def context_form(words: str, n_ctx: int) -> dict[str, object]:
    """What the meaning of n_ctx context vectors that start from `words` depends on."""
    fixed = _tokenizer.decode(_tokenizer.encode(words.replace("_", " "))[n_ctx:])
    return {"context vectors": n_ctx, "fixed words behind the context": fixed.strip()}


class PromptTrainer(TrainerX):
    """Trains what is learnable in a `PromptedCLIP`; everything else is frozen.

    Subclasses give the model and the names under which it is known.
    """

    node: str  # below cfg.TRAINER
    registered: str  # name of the folder with the checkpoints
    # Whether all that is learned belongs to the text side, and images are seen by `encode_images`
    # alone: then the prompt learner is what is trained and saved, test images are encoded once for
    # all methods and seeds, and training images once for all methods and settings of a seed.
    text_only = False
    # Prefixes of parameters, by their names in the model, that a test does not use.
    training_only: tuple[str, ...] = ()
    _features: TrainingFeatures | None = None
    model: Any

    @property
    def settings(self) -> CfgNode:
        """The trainer's own configuration."""
        return self.cfg.TRAINER[self.node]

    def check_cfg(self, cfg: CfgNode) -> None:
        check_precision(f"TRAINER.{self.node}.PREC", cfg.TRAINER[self.node].PREC)

    def make_model(self, clip_model: Any) -> PromptedCLIP:
        """The model on the CPU, from a CLIP that is not yet in the precision of the training."""
        raise NotImplementedError

    def is_learnable(self, name: str) -> bool:
        """Whether the model's parameter of this name is trained."""
        return name.startswith("prompt_learner.")

    def trained_module(self) -> nn.Module:
        """The module whose parameters are trained and saved."""
        return self.model.prompt_learner if self.text_only else self.model

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and further scalars to report."""
        return self.cross_entropy(self.model(image), label)

    @staticmethod
    def cross_entropy(logits: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of logits (B, n_cls) for labels (B,), and the accuracy in percent to report."""
        return F.cross_entropy(logits, label), {"acc": compute_accuracy(logits, label)[0]}

    def build_model(self) -> None:
        cfg = self.cfg
        print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME})")
        clip_model = load_clip_to_cpu(cfg)
        self.origin.clip = content_of(clip_model)
        crafted = self._hand_crafted(clip_model)
        self.model = self.make_model(clip_model)
        if crafted is not None:
            self.model.average_with(crafted, cfg.TEST.LEARNED_SHARE)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.is_learnable(name))
        trained = self.trained_module()
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(trained, cfg.MODEL.INIT_WEIGHTS, self.origin.check)
        self.model.to(self.device)
        self.optim = build_optimizer(trained, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.registered, trained, self.optim, self.sched)
        # bf16, used on the CPU, has the range of fp32 and needs no scaling.
        scaled = self.settings.PREC == "amp" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler() if scaled else None

    def _hand_crafted(self, clip_model: Any) -> Tensor | None:
        """Text features (n_cls, D) of zero-shot CLIP, where evaluation has a share of them."""
        if self.cfg.TEST.LEARNED_SHARE == 1:
            return None
        template, names = template_for(self.cfg.DATASET.NAME), self.dm.dataset.classnames
        return hand_crafted_features(clip_model, names, template, self.device)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        image, label = self.parse_batch_train(batch)
        with autocast(self.settings.PREC, self.device):
            loss, more = self.compute_loss(image, label)
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.model_zero_grad()
            self.model_backward(self.scaler.scale(loss))
            self.scaler.step(self.optim)
            self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), **{name: value.item() for name, value in more.items()}}

    def training_batches(self, title: str) -> Iterable[dict[str, Any]]:
        loader = self.train_loader_x
        if not self.text_only or not TrainingFeatures.fit(loader, self.cfg.SEED):
            return super().training_batches(title)
        if self._features is None:
            self._features = TrainingFeatures(
                self.model, loader, self.device, self.settings.PREC, self.max_epoch
            )
        return self._features.epoch(self.epoch, title)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def model_inference(self, input: Tensor) -> Tensor:
        return self.model.predict(input) if self.text_only else self.model(input)

    def predictions(self, loader: "DataLoader[Any]", desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        if self.text_only:
            return shared_predictions(self.model, loader, self.device, desc)
        return super().predictions(loader, desc)

    def test(self, split: str | None = None) -> float:
        with self.model.text_encoded_once():
            return super().test(split)

    def extra_state(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict()} if self.scaler else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        if self.scaler and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
