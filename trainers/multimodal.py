"""Prompts for text and images from one learner, as in MaPLe (arXiv 2210.03117)."""

from typing import Any

from torch import Tensor

from sar.views import PromptView


class MultimodalView(PromptView):
    """The learner gives prompts and deep prompts for the text, and both for the images.

    The alignment reaches the visual prompts through the text prompts they are made from.
    """

    @classmethod
    def fits(cls, prompt_learner: Any, text_encoder: Any) -> bool:
        return hasattr(prompt_learner, "compound_prompts_text")

    def encode(self, output: Any) -> Tensor:
        """(prompts, visual prompts, deep prompts, deep visual prompts) -> (C, D)."""
        prompts, _, deep, _ = output
        return self.text_features(prompts, list(deep))
