"""MaPLe: Multi-modal Prompt Learning.

M. U. Khattak, H. Rasheed, M. Maaz, S. Khan, F. S. Khan, CVPR 2023, arXiv 2210.03117. Prompts in the
first layers of both encoders; those of the image encoder are linear images of those of the text
encoder. Same weights, batch and configuration give the loss and gradients of the published
implementation; attribute names are the same, too. Other than there, fp32, bf16 and amp work, and
widths are those of the CLIP in use.
"""

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

from sar.errors import ConfigError
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import ContextLearner, PromptedCLIP, TextEncoder, normalize
from sar.toolbox.clip.visual_prompts import (
    PromptedImageEncoder,
    check_depth,
    random_prompt,
    text_transformer,
    vision_transformer,
)
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.prompt_learning import PromptTrainer, context_form

# Beyond so many context vectors, CTX_INIT is not used, as in the published implementation.
MAX_WORDS = 4


def initial_words(ctx_init: str, n_ctx: int) -> str:
    """CTX_INIT, or nothing where the context is too long to start from words."""
    return ctx_init if n_ctx <= MAX_WORDS else ""


def extend_cfg(cfg: CfgNode) -> None:
    """Adds TRAINER.MAPLE."""
    maple = cfg.TRAINER.MAPLE = CfgNode()
    # Context vectors; the same number in each layer of both encoders.
    maple.N_CTX = 2
    # Words whose first N_CTX embeddings the context starts from; unused if N_CTX > MAX_WORDS.
    maple.CTX_INIT = "a photo of a"
    # fp32 | fp16 | bf16 | amp, see sar/toolbox/clip/precision.py.
    maple.PREC = "fp16"
    # Layers of both encoders that get prompts; 1: at the input only.
    maple.PROMPT_DEPTH = 9


class MultiModalPromptLearner(ContextLearner):
    """The context, the text prompts of deeper layers, and the projections to the image encoder."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        maple = cfg.TRAINER.MAPLE
        words = initial_words(maple.CTX_INIT, maple.N_CTX)
        super().__init__(words, maple.N_CTX, classnames, clip_model)
        width = self.ctx.shape[1]
        vision_width = clip_model.visual.transformer.width
        deeper = maple.PROMPT_DEPTH - 1
        self.proj = nn.Linear(width, vision_width).to(clip_model.dtype)
        self.compound_prompts_text = nn.ParameterList(
            [random_prompt(maple.N_CTX, width) for _ in range(deeper)]
        )
        # All projections start as the same one.
        projection = nn.Linear(width, vision_width)
        self.compound_prompt_projections = nn.ModuleList(
            [copy.deepcopy(projection) for _ in range(deeper)]
        )

    def forward(self) -> tuple[Tensor, Tensor, nn.ParameterList, list[Tensor]]:
        """Text prompts (n_cls, 77, d), visual prompts (n_ctx, width), and the deep ones of both:
        lists of (n_ctx, d) and (n_ctx, width)."""
        deep_text = self.compound_prompts_text
        projections = self.compound_prompt_projections
        deep_visual = [
            project(prompt) for project, prompt in zip(projections, deep_text, strict=True)
        ]
        return self.prompts(), self.proj(self.ctx), deep_text, deep_visual


class CustomCLIP(PromptedCLIP):
    """CLIP with coupled prompts in both encoders."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        image_encoder = PromptedImageEncoder(clip_model.visual)
        learner = MultiModalPromptLearner(cfg, classnames, clip_model)
        text_encoder = TextEncoder(clip_model, learner.shared)
        super().__init__(learner, image_encoder, text_encoder, clip_model)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, n_cls)."""
        prompts, visual, deep_text, deep_visual = self.prompt_learner()
        text_features = self.encode_classes(prompts, deep_text)
        image_features = normalize(self.image_encoder(image.type(self.dtype), visual, deep_visual))
        return self.logits(image_features, text_features)


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Trains the prompts of the text encoder and their projections by cross-entropy."""

    node = "MAPLE"
    registered = "MultiModalPromptLearner"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TRAINER.MAPLE.N_CTX < 1:
            raise ConfigError(f"TRAINER.MAPLE.N_CTX is {cfg.TRAINER.MAPLE.N_CTX}; expected >= 1")

    def weights_form(self, cfg: CfgNode) -> dict[str, object]:
        maple = cfg.TRAINER.MAPLE
        form = context_form(initial_words(maple.CTX_INIT, maple.N_CTX), maple.N_CTX)
        return {**form, "PROMPT_DEPTH": maple.PROMPT_DEPTH}

    def make_model(self, clip_model: Any) -> PromptedCLIP:
        transformers = (text_transformer(clip_model), vision_transformer(clip_model))
        check_depth("TRAINER.MAPLE.PROMPT_DEPTH", self.settings.PROMPT_DEPTH, *transformers)
        set_precision(clip_model, self.settings.PREC)
        return CustomCLIP(self.cfg, self.dm.dataset.classnames, clip_model)
