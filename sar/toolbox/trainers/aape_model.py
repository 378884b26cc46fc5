"""AAPE's model: CLIP whose class weights are those of a template, changed for every image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from sar.classes.identity import prompt_name
from sar.classes.templates import template_for
from sar.encoding import shared_prefix_length
from sar.errors import ConfigError
from sar.toolbox.aggregation import AGGREGATORS, PromptGenerator, zero
from sar.toolbox.clip.prompted import (
    PromptedCLIP,
    TextEncoder,
    normalize,
    tokenize_prompts,
    tokenizer_of,
)
from sar.toolbox.combination import Combination, FeatureCombination, GateCombination
from sar.toolbox.trainers.cocoop import PROMPTS_AT_A_TIME

# Images times classes that are classified at a time, where no prompt is encoded for each.
PAIRS_AT_A_TIME = 2**18


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
