"""AAPE: Aggregate-and-Adapted Prompt Embedding.

C. Huang, S. Seto, S. Abnar, D. Grangier, N. Jaitly, J. Susskind, NeurIPS 2024, arXiv 2410.23698. A
generator learns from each class's descriptions to give a prompt embedding for an image; combined
with the features of a hand-crafted template it makes class weights of the image's own. A test needs
no description. Formulas and what is reconstruction: `sar.toolbox.aggregation`,
`sar.toolbox.combination`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from sar.cache import arithmetic, kept, key_of
from sar.classes.identity import prompt_name
from sar.classes.reference_prompts import ReferencePrompts
from sar.classes.templates import template_for
from sar.encoding import float32_text, shared_prefix_length
from sar.errors import ConfigError
from sar.toolbox.aggregation import (
    AGGREGATORS,
    DISTANCES,
    REWARDS,
    PromptGenerator,
    padded,
    zero,
)
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import (
    PromptedCLIP,
    TextEncoder,
    hand_crafted_features,
    normalize,
    tokenize_prompts,
    tokenizer_of,
)
from sar.toolbox.combination import Combination, FeatureCombination, GateCombination
from sar.toolbox.config import Number
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.cocoop import PROMPTS_AT_A_TIME
from sar.toolbox.trainers.prompt_learning import PromptTrainer

COMBINATIONS = ("feature", "gate", "token")
# Images times classes that are classified at a time, where no prompt is encoded for each.
PAIRS_AT_A_TIME = 2**18


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


class PromptLearner(nn.Module):
    """Generator, combination and aggregator, which are learned; and the classes in a template.

    The buffers are the classes' alone, and no checkpoint has them: `text_features` (n_cls, D)
    float32, normalized, of the template; and its embedded tokens, cut as CoOp's are: `token_prefix`
    (n_cls, 1, d), `ctx` (n_ctx, d), the words in front of the class names, and `token_suffix`
    (n_cls, 76 - n_ctx, d).

    Raises ConfigError where `token` has no place to shift.
    """

    text_features: Tensor
    token_prefix: Tensor
    ctx: Tensor
    token_suffix: Tensor

    def __init__(
        self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any, text_features: Tensor
    ) -> None:
        super().__init__()
        settings, dim = cfg.TRAINER.AAPE, text_features.shape[1]
        self.template = template_for(cfg.DATASET.NAME)
        names = [prompt_name(name) for name in classnames]
        texts, tokenizer = [self.template.format(name) for name in names], tokenizer_of(clip_model)
        self.tokenized_prompts = tokenize_prompts(texts, names, tokenizer)
        in_front = self.template.partition("{}")[0].strip()
        self.n_cls, self.n_ctx = len(names), len(tokenizer.encode(in_front))
        with torch.no_grad():
            embedded = clip_model.token_embedding(self.tokenized_prompts).type(clip_model.dtype)
        start, end = tokenizer.starts, tokenizer.starts + self.n_ctx
        sos, words, rest = embedded.tensor_split((start, end), dim=1)
        for name, buffer in (
            ("text_features", text_features),
            ("token_prefix", sos),
            ("ctx", words[0]),
            ("token_suffix", rest),
        ):
            self.register_buffer(name, buffer, persistent=False)

        self.aggregator = AGGREGATORS[settings.AGGREGATOR](dim, settings.HEADS)
        self.generator = PromptGenerator(dim)
        self.combination: Combination | None = None  # token: the text encoder combines
        if settings.COMBINE == "token":
            if end == 0:
                raise ConfigError(
                    f"TRAINER.AAPE.COMBINE token shifts what stands in front of the class name; "
                    f"with {cfg.MODEL.BACKBONE.NAME} nothing does in {self.template!r}. Choose "
                    "feature or gate"
                )
            self.shift = zero(nn.Linear(dim, embedded.shape[-1]))
        else:
            feature = settings.COMBINE == "feature"
            self.combination = FeatureCombination(dim) if feature else GateCombination(dim)

    def forward(self, image_features: Tensor) -> Tensor:
        """Normalized image features (B, D) -> generated prompt embeddings (B, D)."""
        generated: Tensor = self.generator(image_features.float())
        return generated

    def prompts(self, generated: Tensor) -> Tensor:
        """Prompt embeddings (B, D) -> embedded prompts (B, n_cls, 77, d), without positions.

        The position in front of the class names, which every template has, is shifted.
        """
        shift = self.shift(generated).to(self.token_prefix.dtype)
        ctx = self.ctx.expand(self.n_cls, -1, -1)
        leading = torch.cat([self.token_prefix, ctx], dim=1)
        size = (len(generated), self.n_cls, -1, -1)
        last = leading[:, -1:] + shift[:, None, None]  # (B, n_cls, 1, d)
        parts = (leading[:, :-1].expand(size), last, self.token_suffix.expand(size))
        return torch.cat(parts, dim=2)


class CustomCLIP(PromptedCLIP):
    """CLIP whose class weights are those of a template, changed for every image."""

    prompt_learner: PromptLearner

    def __init__(
        self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any, text_features: Tensor
    ) -> None:
        learner = PromptLearner(cfg, classnames, clip_model, text_features)
        # As many as the hand-crafted features were computed with, so that these are given exactly.
        shared = shared_prefix_length(learner.tokenized_prompts, learner.n_ctx)
        text_encoder = TextEncoder(clip_model, shared)
        super().__init__(learner, clip_model.visual, text_encoder, clip_model)

    def forward(self, image: Tensor) -> Any:
        """Images (B, 3, H, W) -> logits (B, n_cls).

        In training, image features and generated prompt embeddings follow, (B, D) each.
        """
        image_features = self.encode_images(image).float()
        if not self.prompt_learner.training:
            return self.classify(image_features)
        generated = self.prompt_learner(image_features)
        return self._logits(image_features, generated), image_features, generated

    def classify(self, image_features: Tensor) -> Tensor:
        at_a_time = PAIRS_AT_A_TIME if self._in_closed_form else PROMPTS_AT_A_TIME
        return torch.cat(
            [
                self._logits(some, self.prompt_learner(some))
                for some in image_features.float().split(
                    max(1, at_a_time // self.prompt_learner.n_cls)
                )
            ]
        )

    @property
    def _in_closed_form(self) -> bool:
        """Whether logits are given without class weights (B, n_cls, D)."""
        return self.prompt_learner.combination is not None and not self.averages

    def _logits(self, image_features: Tensor, generated: Tensor) -> Tensor:
        learner = self.prompt_learner
        text, scaled = learner.text_features, self.logit_scale.exp() * image_features
        if self._in_closed_form:
            assert learner.combination is not None
            return learner.combination.cosines(scaled, text, generated)
        moved = self.averaged(self.class_weights(generated)) - text
        return scaled @ text.t() + torch.einsum("bd,bcd->bc", scaled, moved)

    def class_weights(self, generated: Tensor) -> Tensor:
        """Prompt embeddings (B, D) -> normalized class weights (B, n_cls, D), float32."""
        learner = self.prompt_learner
        if learner.combination is not None:
            return normalize(learner.combination.weights(learner.text_features, generated))
        if not torch.is_grad_enabled() and not learner.shift.weight.any():
            # Nothing is shifted yet; encoding it anew, among others, could differ in the last bit.
            return learner.text_features.expand(len(generated), -1, -1)
        prompts = learner.prompts(generated)
        return normalize(self.text_encoder(prompts, self.tokenized_prompts).float())

    def class_features(self, image: Tensor) -> Tensor:
        return self.class_weights(self.prompt_learner(self.encode_images(image)))


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
