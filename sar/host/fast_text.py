"""``SAR_FAST_TEXT=1``: a checkout's trainers with the shared-prefix text encoder.

For every trainer with a prompt learner and CLIP's text encoder, the checkout's own X as well as
SAR_X. Weights, checkpoints and random numbers are the host's; only the way from prompts to text
features is shorter (`sar.encoding`). In a test the class texts are encoded once, not for every
batch, unless they depend on the image (CoCoOp).
"""

import inspect
import os
from collections.abc import Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from sar.encoding import deviation, encode_prompts, shared_prefix_length, tolerance
from sar.errors import ConfigError, HostError
from sar.views import block_prompts

VARIABLE = "SAR_FAST_TEXT"
CHECKED = 16  # classes


def wanted() -> bool:
    """Whether the environment asks for it. Raises `ConfigError` for a value that is no answer."""
    value = os.environ.get(VARIABLE, "")
    answers = {"": False, "0": False, "1": True}
    if value not in answers:
        raise ConfigError(f"{VARIABLE} is {value!r}; expected 1, 0 or nothing")
    return answers[value]


def install(trainer: Any) -> None:
    """Speeds up the text encoder of a trainer whose model is built; says so, or why not."""
    model = trainer.model
    core = model.module if isinstance(model, nn.DataParallel) else model
    learner: Any = getattr(core, "prompt_learner", None)
    encoder: Any = getattr(core, "text_encoder", None)
    if not hasattr(learner, "ctx") or not hasattr(encoder, "transformer"):
        print(f"{VARIABLE}: {type(trainer).__name__} learns no text prompts and stays as it is")
        return
    own = type(encoder)
    encoder.__class__ = type(own.__name__, (FastTextEncoder, own), {"__module__": __name__})
    encoder.prepare(learner)
    if len(inspect.signature(learner.forward).parameters) == 0:
        trainer.test = _encoding_once(trainer.test, encoder)


class FastTextEncoder(nn.Module):
    """A base class put before the host's own text encoder, which checks its first result."""

    # What `encode_prompts` reads of the host's encoder.
    transformer: Any
    positional_embedding: Tensor
    ln_final: Any
    text_projection: Tensor

    def prepare(self, learner: Any) -> None:
        tokens = learner.tokenized_prompts.cpu()  # (C, L)
        in_front = getattr(learner, "class_token_position", "end") == "end"
        same_context = learner.ctx.dim() == 2 and in_front
        self.eot = tokens.argmax(dim=1)  # CLIP gives EOT the largest id
        self.shared = shared_prefix_length(tokens, learner.n_ctx) if same_context else 0
        self.keep = False  # whether one result serves for all calls
        # Of each device: data-parallel replicas share these two.
        self.kept: dict[torch.device, Tensor] = {}
        self.checked: set[torch.device] = set()

    def forward(
        self,
        prompts: Tensor,
        tokenized_prompts: Tensor,
        deep_prompts: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """prompts (C, L, d), tokens (C, L), MaPLe's deep prompts -> features (C, D)."""
        device = prompts.device
        if self.keep and device in self.kept:
            return self.kept[device]
        deep = [*(deep_prompts or ()), *block_prompts(self)]
        features = encode_prompts(self, prompts, self.eot, shared=self.shared, deep_prompts=deep)
        if device not in self.checked:
            own = () if deep_prompts is None else (deep_prompts,)
            self._check(features, prompts, tokenized_prompts, *own)
        if self.keep:
            self.kept[device] = features
        return features

    @torch.no_grad()
    def _check(self, features: Tensor, prompts: Tensor, tokens: Tensor, *deep: Any) -> None:
        index = torch.linspace(0, len(prompts) - 1, min(CHECKED, len(prompts))).long()
        worst = deviation(features[index], super().forward(prompts[index], tokens[index], *deep))
        limit = tolerance(features, prompts)
        if not worst <= limit:
            raise HostError(
                f"{VARIABLE}: the text features deviate by {worst:.1e} from those of the host's "
                f"own text encoder; expected at most {limit:.0e}. Run without {VARIABLE}."
            )
        self.checked.add(prompts.device)
        print(
            f"{VARIABLE}: {self.shared} shared positions; text features within {worst:.0e} of the "
            f"host's own"
        )


def _encoding_once(test: Any, encoder: FastTextEncoder) -> Any:
    @wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        encoder.keep = True
        try:
            return test(*args, **kwargs)
        finally:
            encoder.keep = False
            encoder.kept.clear()

    return wrapped
