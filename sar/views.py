"""A prompt learner seen with another list of class names.

The prompt learners of CoOp and its relatives hold one learned context and, per class, slices of the
embedded prompts (buffers ``token_prefix``, ``token_suffix``, ...; attributes ``n_cls``,
``tokenized_prompts``, ``name_lens``). `PromptView` copies the module objects, keeps the *same*
`Parameter` objects and replaces only those class-name fields, so that it gives the learned
embedding of any class name, with gradients into the one shared context. The host's own objects are
neither changed nor run: no buffer is swapped, no random number drawn, nothing enters a
``state_dict`` or an optimizer.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.classes.identity import prompt_name
from sar.encoding import encode_prompts, shared_prefix_length, whole
from sar.errors import ConfigError, HostError
from sar.prompt_tokens import Tokenizer, encode_behind, pack_tokens, prompt_form, starts

__all__ = ["PromptView"]


def block_prompts(encoder: Any) -> list[Tensor]:
    """The deep prompts (n, d) that a text encoder holds in its blocks, as PromptSRC and IVLP do."""
    blocks = getattr(getattr(encoder, "transformer", None), "resblocks", ())
    return [block.VPT_shallow for block in blocks if hasattr(block, "VPT_shallow")]


class PromptView:
    """Learned-prompt text embeddings for any class names, sharing the host's parameters.

    Args:
        prompt_learner: the host's prompt learner, whose prompts are for `base_names`.
        text_encoder: the host's text encoder (an encoder as in `sar.encoding`); not copied.
        base_names: the class names the host built its prompts for, in its order.
        names: the C class names to see the prompt learner with.
        clip_model: the host's CLIP, with the table `token_embedding` its prompts are made from.
        tokenizer: CLIP's.

    Raises:
        ConfigError: class-specific contexts, which no unseen name has; names too long for L.
        HostError: the host's prompts or buffers are not what its class names give, in which case
            embeddings for other names would be guesses.

    A prompt learner of another structure needs a subclass with `fits` and `encode`; `trainers/`
    has some.
    """

    @classmethod
    def fits(cls, prompt_learner: Any, text_encoder: Any) -> bool:
        """Whether a host's modules have the structure that this view is for."""
        return True

    @classmethod
    def of(cls, prompt_learner: Any, text_encoder: Any, *args: Any, **kwargs: Any) -> "PromptView":
        """The view that fits: a subclass, the user's own first, or `PromptView` itself.

        Arguments and errors are those of a `PromptView`.
        """
        ours = "sar.trainers."
        for view in sorted(cls.__subclasses__(), key=lambda view: view.__module__.startswith(ours)):
            if view.fits(prompt_learner, text_encoder):
                return view(prompt_learner, text_encoder, *args, **kwargs)
        return cls(prompt_learner, text_encoder, *args, **kwargs)

    def __init__(
        self,
        prompt_learner: nn.Module,
        text_encoder: nn.Module,
        base_names: Sequence[str],
        names: Sequence[str],
        *,
        clip_model: Any,
        tokenizer: Tokenizer,
    ) -> None:
        learner: Any = prompt_learner  # host modules: their attributes are known by convention only
        host_tokens = learner.tokenized_prompts.cpu()
        _check_contexts(learner, host_tokens, len(base_names))
        start, encode = starts(clip_model), encode_behind(tokenizer)
        prefix, tail = prompt_form(host_tokens, base_names, tokenizer, start)

        def tokenize(names: Sequence[str]) -> Tensor:
            rows = [prefix + encode(prompt_name(name) + tail) for name in names]
            return pack_tokens(rows, names, host_tokens, start)

        def embed(tokens: Tensor) -> Tensor:
            table = clip_model.token_embedding
            with torch.no_grad():
                x: Tensor = table(tokens.to(next(table.parameters()).device))
            return x.to(learner.token_prefix)  # (C, L, d)

        base_tokens, tokens = tokenize(base_names), tokenize(names)
        places = _slices(learner, embed(base_tokens))
        if not torch.equal(base_tokens, host_tokens) or not places.keys() >= _BUFFERS:
            raise HostError(
                "The token buffers rebuilt for the host's own class names differ from the host's. "
                "Expected its prompt learner to embed '<context> <class name>.' with CLIP's token "
                "embedding. This host's prompt learner needs an adapter (docs/add-a-method.md)."
            )
        parallel = isinstance(text_encoder, nn.DataParallel)
        self._encoder: Any = text_encoder.module if parallel else text_encoder
        self._by_host = False
        # Other class positions put the name before (part of) the context: nothing is shared then.
        at_end = getattr(learner, "class_token_position", "end") == "end"
        self._shared = shared_prefix_length(tokens, int(learner.n_ctx)) if at_end else 0
        self._learner: Any = share(learner)
        # What lies behind the last end of text is attended by no causal encoder.
        length = int(tokens.argmax(dim=-1).max()) + 1 if whole(self._encoder) is None else None
        x = embed(tokens[:, :length])  # a part of all positions would keep all of them
        self._set(
            {
                "tokenized_prompts": tokens,
                "name_lens": [len(encode(prompt_name(name))) for name in names],
                **{
                    name: x[:, start : start + getattr(learner, name).shape[1]]
                    for name, start in places.items()
                },
            }
        )

    def __len__(self) -> int:
        """The number of class names, C."""
        return int(self._learner.n_cls)

    @property
    def tokens(self) -> Tensor:
        """The tokenized prompts (C, 77), where the prompts are."""
        tokens: Tensor = self._learner.tokenized_prompts
        return tokens.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the prompts are."""
        device: torch.device = self._learner.token_prefix.device
        return device

    def select(self, index: Tensor) -> "PromptView":
        """The view of the classes at `index`, (K,) int64 on the CPU. Cheap, for every step."""
        view = copy.copy(self)
        view._learner = share(self._learner)
        moved = index.to(self.device)  # once: a GPU waits for each copy

        def chosen(rows: Any) -> Any:
            if isinstance(rows, Tensor):
                return rows[moved if rows.device == moved.device else index]
            return [rows[i] for i in index.tolist()]

        view._set({name: chosen(rows) for name, rows in self._rows.items()})
        return view

    def through_host(self) -> "PromptView":
        """The same view, encoded by the host's own text encoder at all of CLIP's positions."""
        view = copy.copy(self)
        view._encoder, view._by_host = share(self._encoder), True
        return view

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Text embeddings (C, D), float32, not normalized, with gradients into the host's context.

        `inputs` are what the prompt learner's forward takes (nothing for unconditional prompts).
        """
        return self.encode(self._learner(*inputs)).float()

    def encode(self, output: Any) -> Tensor:
        """What the prompt learner returned -> text embeddings (C, D).

        The method to override for a prompt learner that returns more than prompts.
        """
        return self.text_features(output)

    def text_features(self, prompts: Tensor, deep: Sequence[Tensor] | None = None) -> Tensor:
        """Prompts (C, L, d), and the deep prompts that the text encoder takes, if any -> (C, D)."""
        if self._by_host:
            given = () if deep is None else (deep,)
            return self.host_features(prompts, self.tokens, *given)
        return encode_prompts(
            self._encoder,
            prompts,
            self._learner.tokenized_prompts.argmax(dim=-1),  # on the CPU, where it is read
            shared=self._shared,
            deep_prompts=[*(deep or ()), *block_prompts(self._encoder)],
        )

    def host_features(self, prompts: Tensor, *arguments: Any) -> Tensor:
        """Text features (C, D) by the host's text encoder, called with prompts (C, 77, d)."""
        # Zeros behind the end of text, where a host has padding; they are never attended.
        missing = self._learner.tokenized_prompts.shape[1] - prompts.shape[1]
        features: Tensor = self._encoder(F.pad(prompts, (0, 0, 0, missing)), *arguments)
        return features

    def _set(self, rows: dict[str, Any]) -> None:
        """Gives the copied prompt learner what belongs to the classes: row i to class i."""
        self._rows = rows
        for name, value in rows.items():
            setattr(self._learner, name, value)
        self._learner.n_cls = len(rows["token_prefix"])


_BUFFERS = {"token_prefix", "token_suffix"}


def check_structure(model: Any) -> None:
    """Raises `HostError` unless a host's model has the modules and attributes of CoOp's."""
    learner = getattr(model, "prompt_learner", None)
    expected = {
        "prompt_learner": learner is not None,
        "text_encoder": hasattr(model, "text_encoder"),
        **{
            f"prompt_learner.{name}": hasattr(learner, name)
            for name in ("ctx", "n_ctx", "tokenized_prompts", *sorted(_BUFFERS))
        },
    }
    if missing := [name for name, there in expected.items() if not there]:
        raise HostError(
            f"{type(model).__name__} has no {missing[0]}; SAR needs a model that learns text "
            f"prompts, with {', '.join(expected)}. Train without SAR, or set TRAINER.SAR.WEIGHT "
            "to 0."
        )


def _check_contexts(learner: Any, host_tokens: Tensor, n_base: int) -> None:
    if len(host_tokens) != n_base:
        raise HostError(
            f"{type(learner).__name__} has {len(host_tokens)} prompts for {n_base} classes; SAR "
            "needs one prompt per class, because the similarity of two classes is that of their "
            "two prompts. Train without SAR, or set TRAINER.SAR.WEIGHT to 0."
        )
    if learner.ctx.dim() == 3:
        raise ConfigError(
            f"The prompt learner has class-specific contexts {tuple(learner.ctx.shape)}; SAR "
            "needs one context (n_ctx, d) for all classes, because novel classes have none of "
            "their own. Set CSC to False (TRAINER.COOP.CSC), or TRAINER.SAR.WEIGHT to 0."
        )


def _slices(learner: nn.Module, embedding: Tensor) -> dict[str, int]:
    """Where each buffer (n, k, d) that is a slice of the embedded prompts (n, L, d) starts."""
    found, length = {}, embedding.shape[1]
    for name, buffer in learner.named_buffers(recurse=False):
        if buffer.dim() == 3 and len(buffer) == len(embedding) and buffer.shape[1] <= length:
            windows = embedding.unfold(1, buffer.shape[1], 1).transpose(2, 3)  # (n, starts, k, d)
            for start in range(windows.shape[1]):
                if torch.equal(windows[:, start], buffer):
                    found[name] = start
                    break
    return found


def share(module: Any) -> Any:
    """A copy of the module objects that holds the same `Parameter` objects and no hooks."""
    clone = copy.copy(module)  # a new object with a shallow copy of __dict__
    for name, value in vars(module).items():
        if name.endswith("_hooks"):
            vars(clone)[name] = type(value)()
    clone._parameters = dict(module._parameters)
    clone._buffers = dict(module._buffers)
    clone._modules = {
        name: None if child is None else share(child) for name, child in module._modules.items()
    }
    return clone
