"""Tokenizers of CLIPs: texts as rows of token ids, in one form for every vocabulary.

A row has the start tokens, if there are any, the text, the end of text and padding. As in OpenAI's
vocabulary, padding is 0 and the end of text has the highest id, by which it is found. Where a
vocabulary has it otherwise, its ids are shifted by one, and the table of embeddings gets a row in
front, for padding, and one behind, for the end of text (`Foreign.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from sar.errors import ConfigError, WeightsError, one_line

from . import openai


class Tokenizer(Protocol):
    """How a `Backbone` gets its texts."""

    length: int
    """Positions of a row: 77 in OpenAI's."""

    @property
    def starts(self) -> int:
        """Start tokens in front of the text: 1 in OpenAI's, 0 in SigLIP's."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""

    def behind(self, text: str) -> list[int]:
        """Its ids where it stands behind other words; some vocabularies tell the two apart."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids that `encode` gave."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, length) ids. What is too long is the caller's to check."""


class OpenAI:
    """The tokenizer of OpenAI's CLIPs and of most others. `length`: positions of a row."""

    starts = 1

    def __init__(self, length: int = 77) -> None:
        self.length = length

    def encode(self, text: str) -> list[int]:
        ids: list[int] = openai.tokenizer.encode(text)
        return ids

    behind = encode

    def decode(self, ids: Sequence[int]) -> str:
        return str(openai.tokenizer.decode(ids))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows: Tensor = openai.clip.tokenize(list(texts), context_length=self.length)
        return rows


OPENAI = OpenAI()


class Foreign:
    """A tokenizer with another vocabulary, in the form that this module describes.

    Args:
        load: gives the tokenizer at its first use: a callable of texts and `context_length` for
            padded rows of ids (N, context_length), as open_clip's are.
        length: positions of a row.
    """

    def __init__(self, load: Callable[[], Any], length: int) -> None:
        self._load = load
        self.length = length
        self.last = 0
        """Id of the end of text; known from the first call of `table` on."""

    def __deepcopy__(self, memo: Any) -> Foreign:
        return self  # a copied CLIP has the same one

    @cached_property
    def _own(self) -> Any:
        try:
            return self._load()
        except Exception as error:  # its package fails in many ways over damaged files
            raise WeightsError(
                f"the tokenizer of a CLIP cannot be read ({type(error).__name__}: "
                f"{one_line(error)}); get its files again"
            ) from error

    @cached_property
    def _around(self) -> tuple[list[int], list[int], int]:
        """Own ids in front of every text, behind it, and of the padding."""
        empty = self._row("")
        pad = empty[-1]
        if empty[0] == empty[1] != pad:
            raise ConfigError("this tokenizer pads in front of the text; expected behind it")
        one, other = (_stripped(self._row(text), pad) for text in ("a", "the"))
        start = _common(one, other)
        end = _common(one[::-1][: len(one) - start], other[::-1][: len(other) - start])
        return one[:start], one[len(one) - end :], pad

    def _row(self, text: str) -> list[int]:
        """Own ids; a few more positions than allowed, so that too long a text shows."""
        ids: list[int] = self._own([text], context_length=self.length + 8)[0].tolist()
        return ids

    @property
    def starts(self) -> int:
        return len(self._around[0])

    @property
    def pad(self) -> int:
        """The own id of the padding."""
        return self._around[2]

    @property
    def end(self) -> int:
        """The own id of the end of text; that of the padding, where there is none."""
        return self._around[1][0] if self._around[1] else self.pad

    def encode(self, text: str) -> list[int]:
        start, end, pad = self._around
        row = _stripped(self._row(text), pad)[len(start) :]
        return [1 + i for i in row[: len(row) - len(end)]]

    def behind(self, text: str) -> list[int]:
        word = self.encode("a")
        ids = self.encode(f"a {text}")
        return ids[len(word) :] if ids[: len(word)] == word else self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._own.tokenizer.decode([i - 1 for i in ids]))

    def table(self, embeddings: Tensor) -> Tensor:
        """Embeddings (V, d) of the own ids -> (V + 2, d) of the ids here."""
        own = (embeddings[self.pad : self.pad + 1], embeddings, embeddings[self.end : self.end + 1])
        self.last = len(embeddings) + 1
        return torch.cat(own)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = torch.zeros(len(texts), self.length, dtype=torch.long)
        start = [1 + i for i in self._around[0]]
        for row, text in zip(rows, texts, strict=True):
            ids = [*start, *self.encode(text), self.last]
            row[: len(ids)] = torch.tensor(ids)
        return rows


def _stripped(row: list[int], pad: int) -> list[int]:
    """Without the padding behind."""
    length = len(row)
    while length and row[length - 1] == pad:
        length -= 1
    return row[:length]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two rows have in common, from the first on."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
