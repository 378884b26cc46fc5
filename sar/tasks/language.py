"""Frozen causal language models that continue embeddings: the embedded one, and transformers'."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from sar.errors import ConfigError

TINY = "tiny"
_ROWS = 64  # continued at a time


class LanguageModel(ABC):
    """A causal language model whose parameters need no gradient.

    Attributes:
        name: as it was asked for. content: a hash of its embeddings.
        width: d, of an embedding. length: positions that it takes.
        start, end: ids in front of every text and behind it.
        separator: ids between examples.
        device: where it computes.
    """

    name: str
    content: str
    width: int
    length: int
    start: int
    end: int
    separator: Sequence[int]
    device: torch.device

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without start and end."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Ids (...) -> their embeddings (..., d), float32."""

    @abstractmethod
    def logits(self, rows: Tensor, behind: int = 0) -> Tensor:
        """Embeddings (B, L, d) -> logits (B, L - behind, V), float32, of what comes next.

        Args:
            behind: positions at the beginning that are not asked for.
        """

    @torch.no_grad()
    def continued(self, rows: Sequence[Tensor], most: int) -> list[str]:
        """What the model says, greedily, behind embeddings (L, d) of any lengths.

        Args:
            most: tokens of an answer, which ends earlier at the end of a text or of a line.

        Raises:
            ConfigError: a row and its answer are longer than the model takes.
        """
        longest = max((len(row) for row in rows), default=0)
        if longest + most > self.length:
            raise ConfigError(
                f"{longest} positions and an answer of {most} are more than the {self.length} of "
                f"{self.name}; take fewer examples, fewer tokens or another model"
            )
        of_length = defaultdict(list)  # rows of one length need no padding
        for number, row in enumerate(rows):
            of_length[len(row)].append(number)
        found = [""] * len(rows)
        for numbers in of_length.values():
            for i in range(0, len(numbers), _ROWS):
                some = numbers[i : i + _ROWS]
                answers = self._continued(torch.stack([rows[n] for n in some]), most)
                for number, ids in zip(some, answers.tolist(), strict=True):
                    said = ids[: ids.index(self.end)] if self.end in ids else ids
                    lines = self.decode(said).strip().splitlines()
                    found[number] = lines[0].strip() if lines else ""
        return found

    def _continued(self, rows: Tensor, most: int) -> Tensor:
        """Embeddings (B, L, d) -> ids (B, n), n <= `most`; ids behind an end do not count."""
        said = torch.empty(len(rows), 0, dtype=torch.long, device=self.device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        while said.shape[1] < most and not ended.all():
            following = self.logits(rows, rows.shape[1] - 1)[:, -1].argmax(dim=-1)
            said = torch.cat([said, following.unsqueeze(1)], dim=1)
            rows = torch.cat([rows, self.embed(following).unsqueeze(1)], dim=1)
            ended |= following == self.end
        return said
