"""Prompts that depend on the image, as in CoCoOp (arXiv 2203.05557)."""

import inspect
from typing import Any

from torch import Tensor, nn

from sar.views import PromptView


class ConditionalView(PromptView):
    """One context per step is aligned: the mean over the batch of the conditional contexts.

    Context vectors and meta-net both learn from it, and its cost does not grow with the batch; the
    images themselves are given. The learner's own `forward` runs unchanged, published or embedded;
    only its copy of `meta_net` gives the mean over the batch, as if there were a single image.
    """

    @classmethod
    def fits(cls, prompt_learner: Any, text_encoder: Any) -> bool:
        takes_images = bool(inspect.signature(prompt_learner.forward).parameters)
        return takes_images and hasattr(prompt_learner, "meta_net")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._learner.meta_net = nn.Sequential(self._learner.meta_net, _BatchMean())

    def encode(self, output: Tensor) -> Tensor:
        """Prompts (1, C, L, d) -> (C, D)."""
        return self.text_features(output[0])


class _BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """(B, d) -> (1, d)."""
        return x.mean(dim=0, keepdim=True)
