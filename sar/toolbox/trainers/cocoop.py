"""CoCoOp: Conditional Context Optimization.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Conditional Prompt Learning for Vision-Language Models, CVPR
2022, arXiv 2203.05557. Same weights, batch and configuration give the logits, loss and gradients of
the published implementation; attribute names are the same, too.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import ContextLearner, PromptedCLIP, TextEncoder, normalize
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.prompt_learning import PromptTrainer, context_form, context_length

# Prompts (images times classes) encoded at a time in evaluation, where memory is the only limit.
PROMPTS_AT_A_TIME = 1000


def extend_cfg(cfg: CfgNode) -> None:
    """Adds TRAINER.COCOOP."""
    cocoop = cfg.TRAINER.COCOOP = CfgNode()
    # Context vectors, if CTX_INIT is empty.
    cocoop.N_CTX = 16
    # Words whose embeddings the context starts from, such as "a photo of a".
    cocoop.CTX_INIT = ""
    # fp32 | fp16 | bf16 | amp, see sar/toolbox/clip/precision.py.
    cocoop.PREC = "fp16"


class PromptLearner(ContextLearner):
    """Context vectors, shifted for every image by what `meta_net` makes of its features."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        n_ctx = context_length(cfg, "COCOOP")
        super().__init__(cfg.TRAINER.COCOOP.CTX_INIT, n_ctx, classnames, clip_model)
        in_dim, out_dim = clip_model.visual.output_dim, self.ctx.shape[1]
        hidden = in_dim // 16
        layers = [
            ("linear1", nn.Linear(in_dim, hidden)),
            ("relu", nn.ReLU(inplace=True)),
            ("linear2", nn.Linear(hidden, out_dim)),
        ]
        self.meta_net = nn.Sequential(OrderedDict(layers)).to(self.ctx.dtype)

    def forward(self, im_features: Tensor) -> Tensor:
        """Normalized image features (B, D) -> prompts (B, n_cls, 77, d), without positions."""
        shift = self.meta_net(im_features).unsqueeze(1)  # (B, 1, d)
        ctx = (self.ctx + shift).unsqueeze(1)  # (B, 1, n_ctx, d)
        size = (len(ctx), self.n_cls, -1, -1)
        parts = (self.token_prefix, ctx, self.token_suffix)
        return torch.cat([part.expand(size) for part in parts], dim=2)


class CustomCLIP(PromptedCLIP):
    """CLIP whose class weights are encoded anew for every image."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        learner = PromptLearner(cfg, classnames, clip_model)
        text_encoder = TextEncoder(clip_model, learner.shared)
        super().__init__(learner, clip_model.visual, text_encoder, clip_model)

    def classify(self, image_features: Tensor) -> Tensor:
        """Normalized image features (B, D) -> logits (B, n_cls)."""
        if self.prompt_learner.training:
            return self._classify(image_features)
        images_at_a_time = max(1, PROMPTS_AT_A_TIME // self.prompt_learner.n_cls)
        chunks = image_features.split(images_at_a_time)
        return torch.cat([self._classify(chunk) for chunk in chunks])

    def _classify(self, image_features: Tensor) -> Tensor:
        prompts = self.prompt_learner(image_features)
        learned = normalize(self.text_encoder(prompts, self.tokenized_prompts))
        text_features = self.averaged(learned)
        # Each image has classes of its own, so that `logits` does not fit.
        cosines = torch.einsum("bd,bcd->bc", image_features, text_features)
        return self.logit_scale.exp() * cosines


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains the context vectors and the meta-net by cross-entropy."""

    node = "COCOOP"
    registered = "prompt_learner"
    text_only = True

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        context_length(cfg, self.node)

    def weights_form(self, cfg: CfgNode) -> dict[str, object]:
        return context_form(cfg.TRAINER.COCOOP.CTX_INIT, context_length(cfg, self.node))

    def make_model(self, clip_model: Any) -> CustomCLIP:
        set_precision(clip_model, self.settings.PREC)
        return CustomCLIP(self.cfg, self.dm.dataset.classnames, clip_model)
