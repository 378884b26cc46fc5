"""AAPE: Aggregate-and-Adapted Prompt Embedding.

C. Huang, S. Seto, S. Abnar, D. Grangier, N. Jaitly, J. Susskind, NeurIPS 2024, arXiv 2410.23698. A
generator learns from each class's descriptions to give a prompt embedding for an image; combined
with the features of a hand-crafted template it makes class weights of the image's own. A test needs
no description. Formulas and what is reconstruction: `sar.toolbox.aggregation`,
`sar.toolbox.combination`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.classes.reference_prompts import ReferencePrompts
from sar.classes.templates import template_for
from sar.encoding import float32_text
from sar.errors import ConfigError
from sar.storage.cache import arithmetic, kept, key_of
from sar.toolbox.aggregation import (
    AGGREGATORS,
    DISTANCES,
    REWARDS,
    padded,
)
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import (
    hand_crafted_features,
    normalize,
    tokenize_prompts,
    tokenizer_of,
)
from sar.toolbox.config import Number
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.aape_model import CustomCLIP
from sar.toolbox.trainers.prompt_learning import PromptTrainer

COMBINATIONS = ("feature", "gate", "token")


def extend_cfg(cfg: CfgNode) -> None:
    """Adds TRAINER.AAPE."""
    aape = cfg.TRAINER.AAPE = CfgNode()
    # Descriptions of the classes: shipped, or a file (docs/aape.md). For training alone.
    aape.DESCRIPTIONS = "shipped"
    # Descriptions of each class that are used, the first ones; 0: all.
    aape.PROMPTS = 0
    # attention | mlp | mean | random: how an image's descriptions become one summary.
    aape.AGGREGATOR = "attention"
    # Heads of the attention.
    aape.HEADS = 4
    # cosine | contrastive: what the aggregator learns from, summary against image; and its weight.
    aape.REWARD = "cosine"
    aape.REWARD_WEIGHT = 1.0
    # cosine | l2: generated embedding against summary; and its weight, 0 for no descriptions.
    aape.DISTANCE = "cosine"
    aape.DISTILL_WEIGHT = 1.0
    # feature | gate | token: how class weights come about, see sar/toolbox/combination.py.
    aape.COMBINE = "feature"
    # fp32 | fp16 | bf16 | amp, see sar/toolbox/clip/precision.py. What is learned is fp32 always.
    aape.PREC = "fp16"


VALUES = {
    "TRAINER.AAPE.PROMPTS": Number(least=0, whole=True),
    "TRAINER.AAPE.HEADS": Number(least=1, whole=True),
    "TRAINER.AAPE.REWARD_WEIGHT": Number(least=0),
    "TRAINER.AAPE.DISTILL_WEIGHT": Number(least=0),
}


@TRAINER_REGISTRY.register()
class AAPE(PromptTrainer):
    """Cross-entropy + DISTILL_WEIGHT * distance + REWARD_WEIGHT * reward, both over the batch."""

    node = "AAPE"
    registered = "prompt_learner"
    text_only = True
    training_only = ("prompt_learner.aggregator.",)
    _references: tuple[Tensor, Tensor] | None = None

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        settings = cfg.TRAINER.AAPE
        for key, known in (
            ("AGGREGATOR", AGGREGATORS),
            ("REWARD", REWARDS),
            ("DISTANCE", DISTANCES),
            ("COMBINE", COMBINATIONS),
        ):
            if settings[key] not in known:
                raise ConfigError(
                    f"TRAINER.AAPE.{key} is {settings[key]!r}; expected one of {', '.join(known)}"
                )

    def weights_form(self, cfg: CfgNode) -> dict[str, object]:
        return {key: cfg.TRAINER.AAPE[key] for key in ("COMBINE", "AGGREGATOR")}

    def make_model(self, clip_model: Any) -> CustomCLIP:
        names, template = self.dm.dataset.classnames, template_for(self.cfg.DATASET.NAME)
        features = hand_crafted_features(clip_model, names, template, self.device)
        heads = self.settings.HEADS
        if features.shape[1] % heads:
            raise ConfigError(
                f"TRAINER.AAPE.HEADS is {heads}; expected a divisor of {features.shape[1]}, the "
                f"width of {self.cfg.MODEL.BACKBONE.NAME}'s features"
            )
        set_precision(clip_model, self.settings.PREC)
        self._clip_of_texts = clip_model
        # Batches of a seed are those of any other method, so that all share their features.
        with torch.random.fork_rng(devices=[]):
            return CustomCLIP(self.cfg, names, clip_model, features.cpu())

    def before_train(self) -> None:
        super().before_train()
        if self.settings.DISTILL_WEIGHT > 0:
            self._references = self._encoded(self._reference_prompts())

    def _reference_prompts(self) -> ReferencePrompts:
        settings, names = self.settings, self.dm.dataset.classnames
        encode = tokenizer_of(self._clip_of_texts).encode
        found = ReferencePrompts.chosen(
            names, settings.DESCRIPTIONS, self.cfg.DATASET.NAME, encode, settings.PROMPTS
        )
        print(f"AAPE: {found.summary()}")
        if self.cfg.OUTPUT_DIR:
            found.save(self.cfg.OUTPUT_DIR)
        return found

    @torch.no_grad()
    def _encoded(self, prompts: ReferencePrompts) -> tuple[Tensor, Tensor]:
        """Features (n_cls, K, D) of the classes' sentences, and where there are any (n_cls, K)."""
        of_classes = list(prompts.sentences.values())
        sentences = [sentence for of_one in of_classes for sentence in of_one]
        tokens = tokenize_prompts(sentences, tokenizer=tokenizer_of(self._clip_of_texts))
        table = self._clip_of_texts.token_embedding
        used = tokens.unique().to(next(table.parameters()).device)
        words = {"tokens": tokens, "table": table(used)}
        features = kept(
            "descriptions",
            key_of(arithmetic(self.device), self.origin.clip, self.settings.PREC, words),
            lambda: {"features": normalize(float32_text(self._clip_of_texts)(tokens))},
        )["features"].to(self.device)
        return padded(features, [len(of_one) for of_one in of_classes])

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settings, model = self.settings, self.model
        logits, image_features, generated = model(image)
        loss, report = self.cross_entropy(logits, label)
        if self._references is None:
            return loss, report
        aggregator = model.prompt_learner.aggregator
        step = self.epoch * self.num_batches + self.batch_idx
        seeds = np.random.SeedSequence((max(self.cfg.SEED, 0), step))
        aggregator.begin(int(seeds.generate_state(1)[0]))
        prompts, present = (of_class[label] for of_class in self._references)
        summary = aggregator(image_features, prompts, present)
        scale = model.logit_scale.exp()
        reward = REWARDS[settings.REWARD](summary, image_features, label, scale)
        distance = DISTANCES[settings.DISTANCE](generated, summary.detach())
        loss = loss + settings.DISTILL_WEIGHT * distance + settings.REWARD_WEIGHT * reward
        return loss, {"distance": distance.detach(), "reward": reward.detach(), **report}
