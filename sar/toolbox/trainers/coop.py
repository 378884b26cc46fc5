"""CoOp: Context Optimization.

K. Zhou, J. Yang, C. C. Loy, Z. Liu, Learning to Prompt for Vision-Language Models, IJCV 2022,
arXiv 2109.01134. Same weights, batch and configuration give the logits, loss and gradients of the
published implementation; attribute names are the same, too.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from sar.encoding import encode_prompts
from sar.errors import ConfigError
from sar.toolbox.clip import (
    SimpleTokenizer,
    autocast,
    check_precision,
    clip,
    load_clip,
    set_precision,
)
from sar.toolbox.engine import TRAINER_REGISTRY, TrainerX
from sar.toolbox.metrics import compute_accuracy
from sar.toolbox.optim import build_lr_scheduler, build_optimizer
from sar.toolbox.utils import load_pretrained_weights

_tokenizer = SimpleTokenizer()
POSITIONS = ("end", "middle", "front")


def load_clip_to_cpu(cfg: CfgNode) -> Any:
    """The CLIP of MODEL.BACKBONE.NAME in fp32, checked against INPUT.SIZE."""
    model = load_clip(cfg.MODEL.BACKBONE.NAME, keep_rng=False)
    resolution = model.visual.input_resolution
    if tuple(cfg.INPUT.SIZE) != (resolution, resolution):
        raise ConfigError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but {cfg.MODEL.BACKBONE.NAME} takes "
            f"{resolution} x {resolution} pixels; set INPUT.SIZE ({resolution}, {resolution})"
        )
    return model


def tokenize_prompts(prompts: Sequence[str]) -> Tensor:
    """(n, 77) token ids. ConfigError for a prompt that is too long."""
    try:
        return clip.tokenize(list(prompts))
    except RuntimeError as error:
        raise ConfigError(f"{error}; shorten the class name or the context") from error


class TextEncoder(nn.Module):
    """CLIP's text transformer for prompts that are embeddings already.

    Args:
        shared: number of leading positions (SOS, context) that are the same for every class; they
            are computed once. 0 if the classes have nothing in common.
    """

    def __init__(self, clip_model: Any, shared: int = 0) -> None:
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype
        self.shared = shared

    def forward(self, prompts: Tensor, tokenized_prompts: Tensor) -> Tensor:
        """prompts (C, 77, d), tokenized_prompts (C, 77) ids -> features (C, D)."""
        # EOT has the highest id, so that argmax finds its position.
        eot = tokenized_prompts.argmax(dim=-1)
        return encode_prompts(self, prompts, eot, shared=self.shared)


class PromptLearner(nn.Module):
    """Context vectors around class names.

    The context is `ctx`, (n_ctx, d) or with CSC (n_cls, n_ctx, d); embeddings of SOS and of class
    name, full stop, EOT and padding are the buffers token_prefix (n_cls, 1, d) and token_suffix
    (n_cls, 76 - n_ctx, d).
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        super().__init__()
        coop = cfg.TRAINER.COOP
        n_cls = len(classnames)
        dtype = clip_model.dtype

        if coop.CTX_INIT:
            prompt_prefix = coop.CTX_INIT.replace("_", " ")
            n_ctx = len(prompt_prefix.split(" "))
            with torch.no_grad():
                embedding = clip_model.token_embedding(tokenize_prompts([prompt_prefix]))
            ctx = embedding[0, 1 : 1 + n_ctx].type(dtype).clone()
        else:
            n_ctx = coop.N_CTX
            dim = clip_model.ln_final.weight.shape[0]
            shape = (n_cls, n_ctx, dim) if coop.CSC else (n_ctx, dim)
            ctx = nn.init.normal_(torch.empty(shape, dtype=dtype), std=0.02)
            prompt_prefix = " ".join(["X"] * n_ctx)
        print(f'Initial context: "{prompt_prefix}"')
        print(f"Number of context words (tokens): {n_ctx}")
        self.ctx = nn.Parameter(ctx)

        names = [name.replace("_", " ") for name in classnames]
        self.tokenized_prompts = tokenize_prompts([f"{prompt_prefix} {name}." for name in names])
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts).type(dtype)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_suffix", embedding[:, 1 + n_ctx :])
        self.n_cls = n_cls
        self.n_ctx = n_ctx
        self.name_lens = [len(_tokenizer.encode(name)) for name in names]
        self.class_token_position = coop.CLASS_TOKEN_POSITION

    @property
    def shared(self) -> int:
        """Leading positions that are the same whatever the classes."""
        generic = self.ctx.dim() == 2 and self.class_token_position == "end"
        return 1 + self.n_ctx if generic else 0

    def forward(self) -> Tensor:
        """Embeddings (n_cls, 77, d) of every class's prompt, without positions."""
        ctx: Tensor = self.ctx
        if ctx.dim() == 2:
            ctx = ctx.expand(self.n_cls, -1, -1)
        prompts = torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)
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


class CustomCLIP(nn.Module):
    """CLIP whose class weights are the encoded learnable prompts."""

    def __init__(self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any) -> None:
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model, self.prompt_learner.shared)
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype
        self._kept_text: Tensor | None = None
        self._keep_text = False

    @contextlib.contextmanager
    def text_encoded_once(self) -> Iterator[None]:
        """Encode the prompts at the first forward pass inside, and use that until the end.

        For evaluation: parameters must not change meanwhile.
        """
        self._keep_text = True
        try:
            yield
        finally:
            self._keep_text, self._kept_text = False, None

    def encode_classes(self) -> Tensor:
        """Normalized text features (n_cls, D)."""
        if self._kept_text is not None:
            return self._kept_text
        features = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        features = features / features.norm(dim=-1, keepdim=True)
        if self._keep_text:
            self._kept_text = features
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, n_cls)."""
        image_features = self.image_encoder(image.type(self.dtype))
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        return self.logit_scale.exp() * image_features @ self.encode_classes().t()


@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    """Trains the context vectors by cross-entropy; everything else of CLIP is frozen."""

    def check_cfg(self, cfg: CfgNode) -> None:
        coop = cfg.TRAINER.COOP
        check_precision("TRAINER.COOP.PREC", coop.PREC)
        if coop.CLASS_TOKEN_POSITION not in POSITIONS:
            raise ConfigError(
                f"TRAINER.COOP.CLASS_TOKEN_POSITION is {coop.CLASS_TOKEN_POSITION!r}; expected "
                f"one of {', '.join(POSITIONS)}"
            )
        if not coop.CTX_INIT and coop.N_CTX < 1:
            raise ConfigError(f"TRAINER.COOP.N_CTX is {coop.N_CTX}; expected at least 1")

    def build_model(self) -> None:
        cfg = self.cfg
        print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME})")
        clip_model = load_clip_to_cpu(cfg)
        set_precision(clip_model, cfg.TRAINER.COOP.PREC)
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, clip_model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith("prompt_learner."))
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)

        learner = self.model.prompt_learner
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        # bf16, used on the CPU, has the range of fp32 and needs no scaling.
        scaled = cfg.TRAINER.COOP.PREC == "amp" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler() if scaled else None

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        image, label = self.parse_batch_train(batch)
        with autocast(self.cfg.TRAINER.COOP.PREC, self.device):
            output = self.model(image)
            loss = F.cross_entropy(output, label)
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def test(self, split: str | None = None) -> float:
        with self.model.text_encoded_once():
            return super().test(split)

    def extra_state(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict()} if self.scaler else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        if self.scaler and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
