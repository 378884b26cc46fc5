"""A prompt learner seen with another list of class names.

The prompt learners of CoOp and its relatives hold one learned context and, per class, the embedded
start token, class name and padding (buffers ``token_prefix`` and ``token_suffix``, attributes
``n_cls``, ``tokenized_prompts``, ``name_lens``). `PromptView` copies the module objects, keeps the
*same* `Parameter` objects and replaces only those class-name fields, so that it gives the learned
embedding of any class name, with gradients into the one shared context. The host's own objects are
neither changed nor run: no buffer is swapped, no random number drawn, nothing enters a
``state_dict`` or an optimizer.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sar.encoding import encode_prompts, shared_prefix_length
from sar.errors import ConfigError, HostError

Encode = Callable[[str], list[int]]


def clean(name: str) -> str:
    """A class name as the hosts put it into a prompt: underscores read as spaces."""
    return name.replace("_", " ")


def pack_tokens(rows: Sequence[Sequence[int]], names: Sequence[str], like: Tensor) -> Tensor:
    """Token ids without special tokens -> padded prompts (C, L), in the layout of `like` (n, L).

    The start and end tokens, L and the dtype are those of `like`, a host's tokenized prompts.
    Raises `ConfigError` with the names whose prompts do not fit into L positions.
    """
    length = like.shape[1]
    too_long = [name for row, name in zip(rows, names, strict=True) if len(row) + 2 > length]
    if too_long:
        raise ConfigError(
            f"The prompts of these class names exceed CLIP's {length} positions: "
            f"{', '.join(map(repr, too_long))}. Shorten or remove them, or shorten the context."
        )
    start, end = int(like[0, 0]), int(like[0].max())
    tokens = torch.zeros(len(rows), length, dtype=like.dtype)
    for packed, row in zip(tokens, rows, strict=True):
        packed[: len(row) + 2] = torch.tensor([start, *row, end], dtype=like.dtype)
    return tokens


def textual_prefix(tokens: Tensor, names: Sequence[str], encode: Encode) -> list[int]:
    """The token ids between start token and class name in a host's tokenized prompts (n, L).

    Hosts write ``<prefix> <class name>.``; the prefix ("a photo of a", "X X X X", ...) is read off
    their tokens instead of their configuration. Raises `HostError` where a prompt is not of that
    form or where two classes have different prefixes.
    """
    prefixes = []
    for row, name in zip(tokens, names, strict=True):
        tail = encode(clean(name) + ".")
        text = row[1 : int(row.argmax())].tolist()
        cut = len(text) - len(tail)
        if text[max(cut, 0) :] != tail:
            raise HostError(
                f"The host's prompt for class {name!r} has the tokens {text}; expected it to end "
                f"in those of {clean(name) + '.'!r}, {tail}. SAR supports prompts of the form "
                "'<context> <class name>.' only."
            )
        prefixes.append(text[:cut])
    for name, prefix in zip(names, prefixes, strict=True):
        if prefix != prefixes[0]:
            raise HostError(
                f"The host's prompts begin with different tokens: {prefixes[0]} for class "
                f"{names[0]!r}, {prefix} for {name!r}. SAR needs one context for all classes."
            )
    return prefixes[0]


class PromptView:
    """Learned-prompt text embeddings for any class names, sharing the host's parameters.

    Args:
        prompt_learner: the host's prompt learner, whose prompts are for `base_names`.
        text_encoder: the host's text encoder (an encoder as in `sar.encoding`); not copied.
        base_names: the class names the host built its prompts for, in its order.
        names: the C class names to see the prompt learner with.
        token_embedding: token ids (C, L) -> embeddings (C, L, d); the table the host used.
        encode: text -> token ids without special tokens (CLIP's tokenizer).

    Raises:
        ConfigError: class-specific contexts, which no unseen name has; names too long for L.
        HostError: the host's prompts or buffers are not what its class names give, in which case
            embeddings for other names would be guesses.
    """

    def __init__(
        self,
        prompt_learner: nn.Module,
        text_encoder: nn.Module,
        base_names: Sequence[str],
        names: Sequence[str],
        *,
        token_embedding: nn.Module,
        encode: Encode,
    ) -> None:
        learner: Any = prompt_learner  # host modules: their attributes are known by convention only
        if learner.ctx.dim() == 3:
            raise ConfigError(
                f"The prompt learner has class-specific contexts {tuple(learner.ctx.shape)}; SAR "
                "needs one context (n_ctx, d) for all classes, because novel classes have none of "
                "their own. Set CSC to False (TRAINER.COOP.CSC), or TRAINER.SAR.WEIGHT to 0."
            )
        host_tokens = learner.tokenized_prompts.cpu()
        prefix = textual_prefix(host_tokens, base_names, encode)
        n_ctx = int(learner.n_ctx)

        def tokenize(names: Sequence[str]) -> Tensor:
            rows = [prefix + encode(clean(name) + ".") for name in names]
            return pack_tokens(rows, names, host_tokens)

        def embed(tokens: Tensor) -> tuple[Tensor, Tensor]:
            """The class-name buffers (C, 1, d) and (C, L - 1 - n_ctx, d) of a host."""
            with torch.no_grad():
                x = token_embedding(tokens.to(next(token_embedding.parameters()).device))
            x = x.to(learner.token_prefix)
            return x[:, :1], x[:, 1 + n_ctx :]

        base_tokens = tokenize(base_names)
        if not torch.equal(base_tokens, host_tokens) or not all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(
                embed(base_tokens), (learner.token_prefix, learner.token_suffix), strict=True
            )
        ):
            raise HostError(
                "The token buffers rebuilt for the host's own class names differ from the host's. "
                "Expected its prompt learner to embed '<context> <class name>.' with CLIP's token "
                "embedding. This host's prompt learner needs an adapter."
            )

        tokens = tokenize(names)
        self._encoder: Any = text_encoder
        self._eot = tokens.argmax(dim=-1)  # on the CPU, where encode_prompts reads it
        # Other class positions put the name before (part of) the context: nothing is shared then.
        at_end = getattr(learner, "class_token_position", "end") == "end"
        self._shared = shared_prefix_length(tokens, n_ctx) if at_end else 0
        length = int(self._eot.max()) + 1  # what lies behind the last end token is never attended
        token_prefix, token_suffix = embed(tokens)
        self._learner: Any = share(learner)
        self._learner.tokenized_prompts = tokens
        self._learner.name_lens = [len(encode(clean(name))) for name in names]
        self._set_buffers(token_prefix, token_suffix[:, : length - 1 - n_ctx])

    def __len__(self) -> int:
        """The number of class names, C."""
        return int(self._learner.n_cls)

    @property
    def half(self) -> bool:
        """Whether the learned context is in fp16, so that small gradients underflow."""
        return bool(self._learner.ctx.dtype == torch.float16)

    @property
    def device(self) -> torch.device:
        """Where the prompts are."""
        device: torch.device = self._learner.token_prefix.device
        return device

    def select(self, index: Tensor) -> "PromptView":
        """The view of the classes at `index`, (K,) int64 on the CPU. Cheap, for every step."""
        view = copy.copy(self)
        view._eot = self._eot[index]
        source = self._learner
        view._learner = share(source)
        view._learner.tokenized_prompts = source.tokenized_prompts[index]
        view._learner.name_lens = [source.name_lens[i] for i in index.tolist()]
        view._set_buffers(source.token_prefix[index], source.token_suffix[index])
        return view

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Text embeddings (C, D), float32, not normalized, with gradients into the host's context.

        `inputs` are what the prompt learner's forward takes (nothing for unconditional prompts).
        """
        if not self.half:
            return self._encode(*self.read(self._learner(*inputs))).float()
        boundary = GradientBoundary()
        parameters = {
            name: boundary.enter(parameter)
            for name, parameter in self._learner.named_parameters()
            if parameter.requires_grad
        }
        output = functional_call(self._learner, parameters, inputs)
        prompts, deep_prompts = self.read(output)
        # Deep prompts are often parameters that the learner hands on, or never held.
        deep_prompts = [boundary.enter(p) if p.is_leaf else p for p in deep_prompts or ()]
        return boundary.leave(self._encode(prompts, deep_prompts).float())

    def read(self, output: Any) -> tuple[Tensor, Sequence[Tensor] | None]:
        """What the prompt learner returned -> prompts (C, L, d) and deep prompts, if any.

        The one method to override for a prompt learner that returns more than prompts.
        """
        return output, None

    def _encode(self, prompts: Tensor, deep_prompts: Sequence[Tensor] | None) -> Tensor:
        return encode_prompts(
            self._encoder, prompts, self._eot, shared=self._shared, deep_prompts=deep_prompts
        )

    def _set_buffers(self, token_prefix: Tensor, token_suffix: Tensor) -> None:
        self._learner._buffers["token_prefix"] = token_prefix
        self._learner._buffers["token_suffix"] = token_suffix
        self._learner.n_cls = len(token_prefix)


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


class GradientBoundary:
    """Keeps the gradients inside an fp16 computation in range.

    Without loss scaling the small gradients of the alignment loss underflow in fp16. In the
    backward pass, `leave` (on the fp32 output) multiplies the gradient by the power of two that
    brings its largest entry to about 1, and `enter` (on each parameter) divides by it again: the
    gradients of the computation in between are scaled, those of everything outside are not.
    """

    scale: Tensor

    def leave(self, output: Tensor) -> Tensor:
        """Identity on the fp32 `output`."""
        result: Tensor = _ScaleUp.apply(output, self)
        return result

    def enter(self, parameter: Tensor) -> Tensor:
        """Identity on `parameter`."""
        result: Tensor = _ScaleDown.apply(parameter, self)
        return result


class _ScaleUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, boundary: GradientBoundary) -> Tensor:
        ctx.boundary = boundary
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        largest = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)
        ctx.boundary.scale = torch.exp2(-torch.log2(largest).ceil())
        return gradient * ctx.boundary.scale, None


class _ScaleDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, boundary: GradientBoundary) -> Tensor:
        ctx.boundary = boundary
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return (gradient.float() / ctx.boundary.scale).to(gradient.dtype), None
