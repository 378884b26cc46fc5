"""CoOp: Context Optimization.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Learning to Prompt for Vision-Language Models, IJCV 2022,
arXiv 2109.01134. Same weights, batch and configuration give the logits, loss and gradients of the
published implementation; attribute names are the same, too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.errors import ConfigError
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import ContextLearner, PromptedCLIP, TextEncoder
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.engine.origin import CLASS_SPECIFIC
from sar.toolbox.trainers.prompt_learning import PromptTrainer, context_form, context_length

CLASS_TOKEN_POSITIONS = ("end", "middle", "front")


def extend_cfg(cfg: CfgNode) -> None:
    """Adds TRAINER.COOP."""
    coop = cfg.TRAINER.COOP = CfgNode()
    # Context vectors, if CTX_INIT is empty.
    coop.N_CTX = 16
    # Class-specific contexts: one set of context vectors per class.
    coop.CSC = False
    # Words whose embeddings the context starts from, such as "a photo of a".
    coop.CTX_INIT = ""
    # fp32 | fp16 | bf16 | amp, see sar/toolbox/clip/precision.py.
    coop.PREC = "fp16"
    # One of CLASS_TOKEN_POSITIONS: of the class name in the prompt.
    coop.CLASS_TOKEN_POSITION = "end"


class PromptLearner(ContextLearner):
    """CoOp's: the context stands before, around or behind the class names."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        coop = cfg.TRAINER.COOP
        n_ctx = context_length(cfg, "COOP")
        super().__init__(coop.CTX_INIT, n_ctx, classnames, clip_model, specific=coop.CSC)
        self.class_token_position = coop.CLASS_TOKEN_POSITION

    @property
    def shared(self) -> int:
        return super().shared if self.class_token_position == "end" else 0

    def forward(self) -> Tensor:
        """Embeddings (n_cls, 77, d) of every class's prompt, without positions."""
        prompts = self.prompts()
        if self.class_token_position == "end":
            return prompts
        before = self.n_ctx // 2 if self.class_token_position == "middle" else 0
        order = name_order(self.name_lens, self.n_ctx, before, prompts.shape[1])
        order = order.to(prompts.device).unsqueeze(-1).expand_as(prompts)
        return prompts.gather(1, order)


def name_order(name_lens: Sequence[int], n_ctx: int, before: int, length: int) -> Tensor:
    """Where each position's embedding stands in [SOS, context, class name, rest].

    The class name moves behind the first `before` context vectors.

    Returns:
        (classes, length) int64 indices.
    """
    lens = torch.tensor(name_lens).unsqueeze(1)
    position = torch.arange(length).expand(len(name_lens), -1)
    after_name = 1 + before + lens
    name = (position >= 1 + before) & (position < after_name)
    context = (position >= after_name) & (position < 1 + n_ctx + lens)
    moved = torch.where(context, position - lens, position)
    return torch.where(name, position + n_ctx - before, moved)


class CustomCLIP(PromptedCLIP):
    """CoOp's model."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        learner = PromptLearner(cfg, classnames, clip_model)
        text_encoder = TextEncoder(clip_model, learner.shared)
        super().__init__(learner, clip_model.visual, text_encoder, clip_model)


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains the context vectors by cross-entropy."""

    node = "COOP"
    registered = "prompt_learner"
    text_only = True

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        coop = cfg.TRAINER.COOP
        if coop.CLASS_TOKEN_POSITION not in CLASS_TOKEN_POSITIONS:
            raise ConfigError(
                f"TRAINER.COOP.CLASS_TOKEN_POSITION is {coop.CLASS_TOKEN_POSITION!r}; expected "
                f"one of {', '.join(CLASS_TOKEN_POSITIONS)}"
            )
        context_length(cfg, "COOP")
        if coop.CSC and coop.CTX_INIT:
            raise ConfigError(
                "TRAINER.COOP.CSC is True, but a context that starts from words (CTX_INIT "
                f"{coop.CTX_INIT!r}) is one for all classes; set CTX_INIT '', or CSC False"
            )

    def weights_form(self, cfg: CfgNode) -> dict[str, object]:
        coop = cfg.TRAINER.COOP
        return {
            **context_form(coop.CTX_INIT, context_length(cfg, "COOP")),
            "CLASS_TOKEN_POSITION": coop.CLASS_TOKEN_POSITION,
            CLASS_SPECIFIC: coop.CSC,
        }

    def make_model(self, clip_model: Any) -> PromptedCLIP:
        set_precision(clip_model, self.settings.PREC)
        return CustomCLIP(self.cfg, self.dm.dataset.classnames, clip_model)
