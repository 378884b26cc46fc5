"""Causal language models of transformers, by name or folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sar.command_line.extras import extra
from sar.errors import WeightsError, one_line
from sar.storage.cache import key_of
from sar.tasks.language import LanguageModel

with extra("lm"):
    from transformers import AutoModelForCausalLM, AutoTokenizer

_NO_LIMIT = 2**20  # positions, of a model that says nothing of them


class Pretrained(LanguageModel):
    """A model and its tokenizer, in float32; no code that comes with them is run.

    Raises WeightsError for what is none, has no end of text or cannot be fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        except Exception as error:  # files of others fail in many ways
            raise WeightsError(
                f"{name} is no causal language model that transformers can load "
                f"({one_line(error)}); expected a folder that it saved, or a name at Hugging Face"
            ) from error
        self._model = model.to(self.device).eval().requires_grad_(False)
        end = self._tokenizer.eos_token_id
        if end is None:
            raise WeightsError(f"the tokenizer of {name} has no end of text; take another model")
        bos = self._tokenizer.bos_token_id
        self.start, self.end = end if bos is None else bos, end
        self.separator = self.encode("\n") or [end]
        self._table: Any = self._model.get_input_embeddings()
        self.width = self._table.weight.shape[1]
        self.length = getattr(self._model.config, "max_position_embeddings", None) or _NO_LIMIT
        self.content = key_of({"embeddings": self._table.weight})

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self._table(ids)
        return embeddings

    def logits(self, rows: Tensor, behind: int = 0) -> Tensor:
        logits: Tensor = self._model(inputs_embeds=rows, use_cache=False).logits[:, behind:]
        return logits

    def _continued(self, rows: Tensor, most: int) -> Tensor:
        """As by default, with the keys and values of earlier positions kept."""
        said: Tensor = self._model.generate(
            inputs_embeds=rows,
            attention_mask=rows.new_ones(rows.shape[:2], dtype=torch.long),
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        return said
