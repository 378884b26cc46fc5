"""CLIP with learnable prompts for its class names: context, text encoder, logits.

Attribute names are those of the published implementations, so that checkpoints fit both ways.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sar.classes.identity import prompt_name
from sar.encoding import encode_prompts, encode_tokens, whole
from sar.errors import ConfigError
from sar.toolbox.clip.tokens import OPENAI, Tokenizer

_CHARACTERS = 2000  # in more, there are more tokens, and finding them would take for ever


def tokenizer_of(clip_model: Any) -> Tokenizer:
    """The tokenizer of a CLIP; OpenAI's for a CLIP that `load_clip` has not loaded."""
    return getattr(clip_model, "tokenizer", OPENAI)


def tokenize_prompts(
    prompts: Sequence[str], names: Sequence[str] = (), tokenizer: Tokenizer = OPENAI
) -> Tensor:
    """Token ids (n, 77). ConfigError for a prompt that is too long; `names`: their classes."""
    positions = tokenizer.length
    for prompt, name in zip(prompts, names or prompts, strict=True):
        around = tokenizer.starts + 1
        tokens = None if len(prompt) > _CHARACTERS else len(tokenizer.encode(prompt)) + around
        if tokens is None or tokens > positions:
            shown = name if len(name) <= 60 else f"{name[:60]}..."
            count = f"{tokens} tokens" if tokens else f"{len(prompt):,} characters"
            raise ConfigError(
                f"the prompt of {shown!r} has {count}, and CLIP takes {positions} tokens with "
                "start and end; shorten the class name or the context"
            )
    return tokenizer(prompts)


class TextEncoder(nn.Module):
    """CLIP's text transformer for prompts that are embeddings already.

    Args:
        shared: number of leading positions (SOS, context) that are the same for every class; they
            are computed once. 0 if the classes have nothing in common.
    """

    def __init__(self, clip_model: Any, shared: int = 0) -> None:
        super().__init__()
        self.whole = whole(clip_model)
        if self.whole is None:
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
    """Context vectors between start token and class names; the base of all prompt learners.

    The context is `ctx`, (n_ctx, d), or (n_cls, n_ctx, d) if it is class-specific; embeddings of
    SOS and of what follows the context (rest of the words, class name, full stop, EOT, padding) are
    the buffers token_prefix (n_cls, 1, d) and token_suffix (n_cls, 76 - n_ctx, d); a CLIP without
    SOS has none in the former.

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
        tokenizer = tokenizer_of(clip_model)
        start = tokenizer.starts
        if words:
            prompt_prefix = words.replace("_", " ")
            tokens = tokenize_prompts([prompt_prefix], tokenizer=tokenizer)
            with torch.no_grad():
                embedding = clip_model.token_embedding(tokens)
            ctx = embedding[0, start : start + n_ctx].type(dtype).clone()
        else:
            dim = clip_model.token_embedding.weight.shape[1]
            shape = (len(classnames), n_ctx, dim) if specific else (n_ctx, dim)
            ctx = nn.init.normal_(torch.empty(shape, dtype=dtype), std=0.02)
            prompt_prefix = " ".join(["X"] * n_ctx)
        print(f'Initial context: "{prompt_prefix}"')
        print(f"Number of context words (tokens): {n_ctx}")
        self.n_common = len(tokenizer.encode(prompt_prefix))
        if self.n_common < n_ctx:
            raise ConfigError(
                f"CTX_INIT {words!r} has {self.n_common} tokens, but there are {n_ctx} context "
                f"vectors to start from it; lower N_CTX to {self.n_common}, or use more words"
            )
        self.ctx = nn.Parameter(ctx)

        names = [prompt_name(name) for name in classnames]
        self.tokenized_prompts = tokenize_prompts(
            [f"{prompt_prefix} {name}." for name in names], names, tokenizer
        )
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts).type(dtype)
        self.register_buffer("token_prefix", embedding[:, :start])
        self.register_buffer("token_suffix", embedding[:, start + n_ctx :])
        self.n_cls = len(names)
        self.n_ctx = n_ctx
        self.name_lens = [len(tokenizer.behind(name)) for name in names]

    @property
    def shared(self) -> int:
        """Leading positions that are the same whatever the classes."""
        return self.token_prefix.shape[1] + self.n_common if self.ctx.dim() == 2 else 0

    def prompts(self) -> Tensor:
        """Embeddings (n_cls, 77, d) of every class's prompt, without positions."""
        ctx: Tensor = self.ctx
        if ctx.dim() == 2:
            ctx = ctx.expand(self.n_cls, -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


class Classifier(nn.Module):
    """CLIP as a classifier; subclasses have an `image_encoder` and say how classes are encoded."""

    image_encoder: nn.Module

    def __init__(self, clip_model: Any) -> None:
        super().__init__()
        self.logit_scale = clip_model.logit_scale
        self.dtype = clip_model.dtype

    def encode_images(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> normalized features (B, D). Features (B, D) stay as they are."""
        if image.dim() == 2:
            return image
        return normalize(self.image_encoder(image.type(self.dtype)))

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Normalized features (B, D) and (n_cls, D) -> scaled cosines (B, n_cls)."""
        return self.logit_scale.exp() * image_features @ text_features.t()

    def classify(self, image_features: Tensor) -> Tensor:
        """Normalized image features (B, D) -> logits (B, n_cls)."""
        raise NotImplementedError

    def predict(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, n_cls)."""
        return self.classify(self.encode_images(image))

    def forward(self, image: Tensor) -> Any:
        """The same; what a loss is computed from may follow in a tuple."""
        return self.predict(image)


class PromptedCLIP(Classifier):
    """CLIP whose class weights are encoded learnable prompts; the base of every `CustomCLIP`."""

    def __init__(
        self, learner: Any, image_encoder: nn.Module, text_encoder: nn.Module, clip_model: Any
    ) -> None:
        super().__init__(clip_model)
        self.prompt_learner = learner
        self.tokenized_prompts = learner.tokenized_prompts
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self._hand_crafted: Tensor | None = None
        self._learned_share = 1.0
        self._kept_text: Tensor | None = None
        self._keep_text = False

    def average_with(self, hand_crafted: Tensor, learned_share: float) -> None:
        """Have evaluation classify by interpolated text features.

        Args:
            hand_crafted: (n_cls, D) normalized.
            learned_share: from 0 (hand-crafted) to 1 (learned).
        """
        self._hand_crafted, self._learned_share = hand_crafted, learned_share

    @property
    def averages(self) -> bool:
        """Whether `averaged` changes anything now."""
        return self._hand_crafted is not None and self._keep_text

    def averaged(self, features: Tensor) -> Tensor:
        """Normalized learned text features (..., n_cls, D), interpolated as evaluation asks."""
        if self._hand_crafted is None or not self._keep_text:
            return features
        return normalize(torch.lerp(self._hand_crafted.to(features), features, self._learned_share))

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

    def encode_classes(self, prompts: Tensor, *deep_prompts: Sequence[Tensor]) -> Tensor:
        """Normalized text features (n_cls, D) of what the prompt learner gave."""
        if self._kept_text is not None:
            return self._kept_text
        features = normalize(self.text_encoder(prompts, self.tokenized_prompts, *deep_prompts))
        if self._keep_text:
            self._kept_text = features = self.averaged(features)
        return features

    def classify(self, image_features: Tensor) -> Tensor:
        return self.logits(image_features, self.encode_classes(self.prompt_learner()))

    def class_features(self, image: Tensor) -> Tensor:
        """Learned text features for images (B, 3, H, W), in evaluation; normalized, float32.

        (n_cls, D), or (B, n_cls, D) where they depend on the image.
        """
        found: list[Tensor] = []
        kept, self._kept_text = self._kept_text, None  # so that they are encoded now
        hook = self.text_encoder.register_forward_hook(lambda *call: found.append(call[-1]))
        try:
            self(image)
        finally:
            hook.remove()
            self._kept_text = kept
        return normalize(torch.cat(found).float())


@torch.no_grad()
def hand_crafted_features(
    clip_model: Any, classnames: Sequence[str], template: str, device: torch.device
) -> Tensor:
    """Normalized text features (n_cls, D) of a template with one {} for the class name.

    Computed by the fp32 `clip_model` on `device`; the model is back on the CPU afterwards.
    """
    prompts = [template.format(prompt_name(name)) for name in classnames]
    print(f"Prompts: {prompts}")
    tokens = tokenize_prompts(prompts, tokenizer=tokenizer_of(clip_model)).to(device)
    clip_model.to(device)
    features = encode_tokens(clip_model, clip_model.token_embedding, tokens)
    clip_model.cpu()
    return normalize(features)


def normalize(features: Tensor) -> Tensor:
    """(..., D) divided by their norms."""
    return features / features.norm(dim=-1, keepdim=True)
