"""Prompts with tokens made from each class's hand-crafted text, as in TCP (arXiv 2311.18231)."""

import inspect
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sar.errors import HostError
from sar.reference import FrozenText
from sar.views import PromptView, share


class ClassAwareView(PromptView):
    """Novel classes get their tokens as the base classes do, from the template of the host's own.

    The tokens differ from class to class, so that the host's text encoder computes all positions.
    """

    @classmethod
    def fits(cls, prompt_learner: Any, text_encoder: Any) -> bool:
        return "class_feature" in inspect.signature(text_encoder.forward).parameters

    def __init__(self, learner: Any, encoder: Any, base: Any, names: Any, **tools: Any) -> None:
        super().__init__(learner, encoder, base, names, **tools)
        self._encoder = share(self._encoder)
        encode = tools["tokenizer"].encode
        text = FrozenText(tools["clip_model"], encode, learner.tokenized_prompts)
        host = learner.text_features
        templates = sys.modules[type(learner).__module__].CUSTOM_TEMPLATES_ori.values()
        for template in dict.fromkeys(templates):
            found = F.normalize(text.embeddings(names, [template])).to(host)
            if torch.allclose(found[: len(base)], host, atol=1e-2):
                self._set({**self._rows, "text_features": found})
                return
        raise HostError("None of CUSTOM_TEMPLATES_ori gives the text features of this host's TCP.")

    def encode(self, output: Any) -> Tensor:
        """(prompts, class tokens) -> (C, D)."""
        prompts, class_tokens = output
        return self.host_features(prompts, class_tokens, 1.0, self.tokens)
