"""SAR_MaPLe: MaPLe whose text prompts keep the class relations of hand-crafted prompts."""

from typing import Any

from torch import Tensor

from sar.trainer import SARTrainerMixin
from sar.views import PromptView


class MaPLeView(PromptView):
    """MaPLe's learner gives prompts and deep prompts for the text, and both for the images."""

    def encode(self, output: Any) -> Tensor:
        prompts, _, deep_text, _ = output
        return self.text_features(prompts, list(deep_text))


class SARMaPLe(SARTrainerMixin):
    """The alignment reaches the visual prompts through the text prompts they are made from."""

    host_trainer = "maple.MaPLe"
    view_class = MaPLeView
