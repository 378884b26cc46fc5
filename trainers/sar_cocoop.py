"""SAR_CoCoOp: CoCoOp whose mean context keeps the class relations of hand-crafted prompts."""

from typing import Any

from torch import Tensor, nn

from sar.trainer import SARTrainerMixin
from sar.views import PromptView


class MeanContextView(PromptView):
    """CoCoOp's prompts with the mean of a batch's contexts, as if there were a single image.

    The learner's own `forward` runs unchanged, published or embedded; only its copy of `meta_net`
    gives the mean over the batch.
    """

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


class SARCoCoOp(SARTrainerMixin):
    """One context per step is aligned: the mean over the batch of CoCoOp's conditional contexts.

    Context vectors and meta-net both learn from it, and its cost does not grow with the batch.
    """

    host_trainer = "cocoop.CoCoOp"
    view_class = MeanContextView
