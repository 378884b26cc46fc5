"""Classes between two classes: their token embeddings are interpolated (TRAINER.SAR.NOVEL mix:N).

A mixture stands where a class name does, in learned and hand-crafted prompts alike. Its tokens are
none of the vocabulary's and have negative ids, so that CLIP's end-of-text token stays the largest;
their embeddings lie between those of the two names, position by position, the shorter name being
stretched to the length of the longer one.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.classes.mixtures import Mixture, parted
from sar.prompt_tokens import Encode, Tokenizer, encode_behind
from sar.views import share


class MixedEmbedding(nn.Module):
    """A token embedding, with vectors of its own for negative ids."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table
        self._own: list[Tensor] = []  # of ids -1, -2, ...

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """(..., L) ids -> (..., L, d), for which no gradient is kept."""
        found: Tensor = self.table(tokens.clamp_min(0))
        own = tokens < 0
        if own.any():
            found[own] = torch.stack(self._own).to(found)[-1 - tokens[own]]
        return found

    def add(self, vectors: Iterable[Tensor]) -> list[int]:
        """The ids of new tokens with these embeddings, each (d,)."""
        first = len(self._own) + 1
        self._own += vectors
        return [-number for number in range(first, len(self._own) + 1)]


class MixingTokenizer:
    """CLIP's tokenizer, for which the name of a mixture is tokens of its own."""

    def __init__(self, tokenizer: Tokenizer, table: nn.Module) -> None:
        self.embedding = MixedEmbedding(table)
        self._tokenizer = tokenizer
        self._known: dict[Mixture, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        return self._encode(text, self._tokenizer.encode)

    def behind(self, text: str) -> list[int]:
        return self._encode(text, encode_behind(self._tokenizer))

    def _encode(self, text: str, encode: Encode) -> list[int]:
        ids: list[int] = []
        for piece in parted(text):
            ids += self._ids(piece) if isinstance(piece, Mixture) else encode(piece)
            encode = encode_behind(self._tokenizer)
        return ids

    def decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode([token for token in tokens if token >= 0])

    def _ids(self, mixture: Mixture) -> list[int]:
        if mixture not in self._known:
            one, other = (self._embed(name) for name in (mixture.one, mixture.other))
            length = max(len(one), len(other))
            mixed = mixture.share * _stretched(one, length)
            mixed += (1 - mixture.share) * _stretched(other, length)
            self._known[mixture] = self.embedding.add(mixed)
        return self._known[mixture]

    def _embed(self, name: str) -> Tensor:
        """(n, d), float32, on the CPU."""
        ids = torch.tensor(encode_behind(self._tokenizer)(name))
        device = next(self.embedding.parameters()).device
        return self.embedding(ids.to(device)).float().cpu()


def mixing(tokenizer: Tokenizer, clip_model: Any) -> tuple[MixingTokenizer, Any]:
    """A tokenizer and a CLIP that know mixtures; they share everything with those given."""
    ours, clip = MixingTokenizer(tokenizer, clip_model.token_embedding), share(clip_model)
    clip.token_embedding = ours.embedding
    return ours, clip


def _stretched(vectors: Tensor, length: int) -> Tensor:
    """(n, d) -> (length, d), linearly between neighbours, the first and last as they are."""
    if len(vectors) == length:
        return vectors
    columns = vectors.T[None]  # (1, d, n)
    return F.interpolate(columns, length, mode="linear", align_corners=True)[0].T
