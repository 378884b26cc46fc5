"""What the prompt learners share: context vectors, text encoder, CLIP with prompts, training step.

Attribute names are those of the published implementations, so that checkpoints fit both ways.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from sar.encoding import encode_prompts, encode_tokens
from sar.errors import ConfigError
from sar.toolbox.clip import SimpleTokenizer, autocast, check_precision, clip, load_clip
from sar.toolbox.engine import TrainerX
from sar.toolbox.features import FrozenImageEncoder
from sar.toolbox.optim import build_lr_scheduler, build_optimizer
from sar.toolbox.utils import load_pretrained_weights

_tokenizer = SimpleTokenizer()


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

    def forward(
        self, prompts: Tensor, tokenized_prompts: Tensor, deep_prompts: Sequence[Tensor] = ()
    ) -> Tensor:
        """prompts (C, 77, d), tokenized_prompts (C, 77) ids -> features (C, D).

        Groups of prompts and `deep_prompts`: see `sar.encoding.encode_prompts`.
        """
        # EOT has the highest id, so that argmax finds its position.
        eot = tokenized_prompts.argmax(dim=-1)
        return encode_prompts(self, prompts, eot, shared=self.shared, deep_prompts=deep_prompts)


class ContextLearner(nn.Module):
    """Context vectors between SOS and class names; the base of all prompt learners.

    The context is `ctx`, (n_ctx, d), or (n_cls, n_ctx, d) if it is class-specific; embeddings of
    SOS and of what follows the context (rest of the words, class name, full stop, EOT, padding) are
    the buffers token_prefix (n_cls, 1, d) and token_suffix (n_cls, 76 - n_ctx, d).

    Args:
        words: the context starts from the embeddings of their first n_ctx tokens; the others stay
            as they are. Empty: from random vectors.
        specific: one context for each class; for random vectors only.

    Raises:
        ConfigError: fewer than n_ctx tokens, or prompts that are too long.
    """

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(
        self,
        words: str,
        n_ctx: int,
        classnames: Sequence[str],
        clip_model: Any,
        specific: bool = False,
    ) -> None:
        super().__init__()
        dtype = clip_model.dtype
        if words:
            prompt_prefix = words.replace("_", " ")
            with torch.no_grad():
                embedding = clip_model.token_embedding(tokenize_prompts([prompt_prefix]))
            ctx = embedding[0, 1 : 1 + n_ctx].type(dtype).clone()
        else:
            dim = clip_model.ln_final.weight.shape[0]
            shape = (len(classnames), n_ctx, dim) if specific else (n_ctx, dim)
            ctx = nn.init.normal_(torch.empty(shape, dtype=dtype), std=0.02)
            prompt_prefix = " ".join(["X"] * n_ctx)
        print(f'Initial context: "{prompt_prefix}"')
        print(f"Number of context words (tokens): {n_ctx}")
        self.n_common = len(_tokenizer.encode(prompt_prefix))
        if self.n_common < n_ctx:
            raise ConfigError(
                f"CTX_INIT {words!r} has {self.n_common} tokens, but there are {n_ctx} context "
                f"vectors to start from it; lower N_CTX to {self.n_common}, or use more words"
            )
        self.ctx = nn.Parameter(ctx)

        names = [name.replace("_", " ") for name in classnames]
        self.tokenized_prompts = tokenize_prompts([f"{prompt_prefix} {name}." for name in names])
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts).type(dtype)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_suffix", embedding[:, 1 + n_ctx :])
        self.n_cls = len(names)
        self.n_ctx = n_ctx
        self.name_lens = [len(_tokenizer.encode(name)) for name in names]

    @property
    def shared(self) -> int:
        """Leading positions that are the same whatever the classes."""
        return 1 + self.n_common if self.ctx.dim() == 2 else 0

    def prompts(self) -> Tensor:
        """Embeddings (n_cls, 77, d) of every class's prompt, without positions."""
        ctx: Tensor = self.ctx
        if ctx.dim() == 2:
            ctx = ctx.expand(self.n_cls, -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


@torch.no_grad()
def hand_crafted_features(
    clip_model: Any, classnames: Sequence[str], template: str, device: torch.device
) -> Tensor:
    """Normalized text features (n_cls, D) of a template with one {} for the class name.

    Computed by the fp32 `clip_model` on `device`; the model is back on the CPU afterwards.
    """
    prompts = [template.format(name.replace("_", " ")) for name in classnames]
    print(f"Prompts: {prompts}")
    tokens = tokenize_prompts(prompts).to(device)
    clip_model.to(device)
    features = encode_tokens(clip_model, clip_model.token_embedding, tokens)
    clip_model.cpu()
    return normalize(features)


class PromptedCLIP(nn.Module):
    """CLIP whose class weights are encoded learnable prompts; the base of every `CustomCLIP`."""

    def __init__(
        self, learner: Any, image_encoder: nn.Module, text_encoder: nn.Module, clip_model: Any
    ) -> None:
        super().__init__()
        self.prompt_learner = learner
        self.tokenized_prompts = learner.tokenized_prompts
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
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

    def encode_images(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> normalized features (B, D)."""
        return normalize(self.image_encoder(image.type(self.dtype)))

    def encode_classes(self, prompts: Tensor, *deep_prompts: Sequence[Tensor]) -> Tensor:
        """Normalized text features (n_cls, D) of what the prompt learner gave."""
        if self._kept_text is not None:
            return self._kept_text
        features = normalize(self.text_encoder(prompts, self.tokenized_prompts, *deep_prompts))
        if self._keep_text:
            self._kept_text = features
        return features


def normalize(features: Tensor) -> Tensor:
    """(..., D) divided by their norms."""
    return features / features.norm(dim=-1, keepdim=True)


class PromptTrainer(TrainerX):
    """Trains what is learnable in a `PromptedCLIP`; everything else is frozen.

    Subclasses give the model, its loss, and the names under which both are known.
    """

    node: str  # below cfg.TRAINER
    registered: str  # name of the folder with the checkpoints

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
        """What is given to the optimizer and saved."""
        return self.model

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and further scalars to report."""
        raise NotImplementedError

    def build_model(self) -> None:
        cfg = self.cfg
        print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME})")
        self.model = self.make_model(load_clip_to_cpu(cfg))
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.is_learnable(name))
        trained = self.trained_module()
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(trained, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(trained, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.registered, trained, self.optim, self.sched)
        # bf16, used on the CPU, has the range of fp32 and needs no scaling.
        scaled = self.settings.PREC == "amp" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler() if scaled else None

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


class TextPromptTrainer(FrozenImageEncoder, PromptTrainer):
    """Trains prompts on the text side only: the image encoder stays CLIP's.

    The prompt learner is what is trained and saved. The model classifies image features:
    `classify`, (B, D) normalized -> logits (B, n_cls).
    """

    model: Any

    def trained_module(self) -> nn.Module:
        return self.model.prompt_learner

    def image_tower(self) -> nn.Module:
        return self.model.image_encoder

    def encode_images(self, images: Tensor) -> Tensor:
        return self.model.encode_images(images)

    def classify(self, features: Tensor) -> Tensor:
        return self.model.classify(features)
