"""SAR_PromptSRC: PromptSRC whose text prompts keep the class relations of hand-crafted prompts."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sar.trainer import SARTrainerMixin
from sar.views import PromptView


class PromptSRCView(PromptView):
    """PromptSRC's deep text prompts are parameters of the text encoder's layers."""

    def read(self, output: Any) -> tuple[Tensor, Sequence[Tensor]]:
        blocks = self._encoder.transformer.resblocks
        return output, [block.VPT_shallow for block in blocks if hasattr(block, "VPT_shallow")]


class SARPromptSRC(SARTrainerMixin):
    """Its own regularization and its average over the epochs stay as they are."""

    host_trainer = "promptsrc.PromptSRC"
    view_class = PromptSRCView
