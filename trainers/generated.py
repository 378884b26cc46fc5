"""Class weights made from a template and a generated prompt embedding, as in AAPE (2410.23698)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sar.encoding import deviation, tolerance
from sar.errors import HostError
from sar.reference import FrozenText
from sar.views import PromptView


class GeneratedView(PromptView):
    """One embedding per step is combined with all classes: the mean of the batch's, normalized.

    Novel classes get their template features as the base classes did.
    """

    @classmethod
    def fits(cls, prompt_learner: Any, text_encoder: Any) -> bool:
        return hasattr(prompt_learner, "generator") and hasattr(prompt_learner, "combination")

    def __init__(self, learner: Any, encoder: Any, base: Any, names: Any, **tools: Any) -> None:
        super().__init__(learner, encoder, base, names, **tools)
        clip, encode = tools["clip_model"], tools["tokenizer"].encode
        text, host = FrozenText(clip, encode, learner.tokenized_prompts), learner.text_features
        found = F.normalize(text.embeddings(names, [learner.template])).to(host)
        if (off := deviation(found[: len(base)], host)) > tolerance(*clip.parameters()):
            raise HostError(
                f"The template features of the host's classes are off by {off:.1%} from those of "
                f"{learner.template!r}; expected them to be of this template and CLIP."
            )
        self._set({**self._rows, "text_features": found})

    def encode(self, generated: Tensor) -> Tensor:
        """Prompt embeddings (B, D) -> (C, D)."""
        learner = self._learner
        mean = F.normalize(generated.mean(dim=0, keepdim=True))
        if learner.combination is None:
            return self.text_features(learner.prompts(mean)[0])
        weights: Tensor = learner.combination.weights(learner.text_features, mean)[0]
        return weights
