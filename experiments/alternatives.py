"""What CoOp can do for unseen classes without an alignment: trainers for comparison, in one file.

Each of `TRAINERS` is made known by `--import`, and needs CoOp's configurations under its own name
(experiments/README.md).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sar.classes.templates import template_for
from sar.divergence import row_kl
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import hand_crafted_features, normalize
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.coop import CoOp, CustomCLIP
from sar.toolbox.trainers.promptsrc import GaussianAverage


class HandCraftedCLIP(CustomCLIP):
    """CoOp's model, which also knows the hand-crafted prompts' features."""

    hand_crafted: Tensor  # (n_cls, D)


class WithHandCrafted(CoOp):
    kind: ClassVar[type[HandCraftedCLIP]]

    def make_model(self, clip_model: nn.Module) -> HandCraftedCLIP:
        names, template = self.dm.dataset.classnames, template_for(self.cfg.DATASET.NAME)
        hand_crafted = hand_crafted_features(clip_model, names, template, self.device)
        set_precision(clip_model, self.settings.PREC)
        model = self.kind(self.cfg, names, clip_model)
        model.register_buffer("hand_crafted", hand_crafted, persistent=False)
        return model


class AveragedCLIP(HandCraftedCLIP):
    """Classifies by the mean of learned and hand-crafted features in training, too."""

    def encode_classes(self, prompts: Tensor, *deep_prompts: Any) -> Tensor:
        if self._kept_text is None:
            learned = normalize(self.text_encoder(prompts, self.tokenized_prompts))
            features = normalize(self.hand_crafted.to(learned) + learned)
            if not self._keep_text:
                return features
            self._kept_text = features
        return self._kept_text


class AveragedCoOp(WithHandCrafted):
    """CoOp, trained as the free average is tested."""

    kind = AveragedCLIP


class LogitsCLIP(HandCraftedCLIP):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> logits of learned and of hand-crafted prompts, (B, n_cls)."""
        features = self.encode_images(image)
        return self.classify(features), self.logits(features, self.hand_crafted.to(features))


class LogitsCoOp(WithHandCrafted):
    """Cross-entropy + weight * KL(zero-shot CLIP || prompts), of the logits of a batch."""

    kind = LogitsCLIP
    weight: ClassVar[float]

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, zero_shot = self.model(image)
        distance = row_kl(zero_shot.float(), logits.float())
        loss, report = self.cross_entropy(logits, label)
        return loss + self.weight * distance, {"loss_logits": distance.detach(), **report}


class ShrunkCoOp(CoOp):
    """Trains as CoOp does. Tests, but no checkpoints, have the context moved back: a share of the
    way from the words it started from to the learned one."""

    share: ClassVar[float]

    def build_model(self) -> None:
        super().build_model()
        self.start = self.model.prompt_learner.ctx.detach().clone()

    def test(self, split: str | None = None) -> float:
        ctx = self.model.prompt_learner.ctx
        learned = ctx.detach().clone()
        with torch.no_grad():
            ctx.copy_(torch.lerp(self.start, learned, self.share))
            accuracy = super().test(split)
            ctx.copy_(learned)
        return accuracy


class MeanCoOp(CoOp):
    """The context's mean over the epochs, weighted by a Gaussian in the middle of the training."""

    def build_model(self) -> None:
        super().build_model()
        epochs, named = self.cfg.OPTIM.MAX_EPOCH, self.model.prompt_learner.named_parameters()
        self.average = GaussianAverage(epochs / 2, epochs / 8, epochs, named)

    def after_epoch(self) -> None:
        self.average.add(self.epoch)
        super().after_epoch()

    def after_train(self) -> None:
        self.average.load()
        self.save_model(self.epoch, self.output_dir)
        super().after_train()


TRAINERS: dict[str, tuple[type[CoOp], dict[str, float]]] = {
    "AveragedCoOp": (AveragedCoOp, {}),
    "MeanCoOp": (MeanCoOp, {}),
    **{f"LogitsCoOp{weight:g}": (LogitsCoOp, {"weight": weight}) for weight in (0.25, 1, 4)},
    **{f"ShrunkCoOp{share:g}": (ShrunkCoOp, {"share": share}) for share in (0.5, 0.75)},
}
for name, (trainer, constants) in TRAINERS.items():
    TRAINER_REGISTRY.register()(type(name, (trainer,), dict(constants)))
