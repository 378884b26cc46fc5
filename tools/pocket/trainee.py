"""The pocket CLIP while it is trained: norms, a factorized token embedding, a table of names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sar.encoding import encode_prompts
from sar.toolbox.clip.pocket import SHAPE, build_pocket

EMBEDDING_RANK = 48


class FactorizedEmbedding(nn.Module):
    """A (V, d) token embedding as (V, r) times (r, d)."""

    def __init__(self, vocabulary: int, width: int, rank: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(vocabulary, rank)
        self.columns = nn.Parameter(torch.randn(rank, width) * 0.02)
        nn.init.normal_(self.rows.weight, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rows(tokens) @ self.columns


class Trainee(nn.Module):
    """The model with what only training needs: table of names and scales."""

    def __init__(self, names: int) -> None:
        super().__init__()
        clip: Any = build_pocket(nn.BatchNorm2d)
        clip.visual.conv1.to(memory_format=torch.channels_last)
        clip.token_embedding = FactorizedEmbedding(
            SHAPE["vocab_size"], SHAPE["transformer_width"], EMBEDDING_RANK
        )
        self.clip: Any = clip
        self.table = nn.Parameter(torch.randn(names, SHAPE["embed_dim"]) * 0.1)
        self.table_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def image(self, pictures: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, torch.bfloat16):
            features = self.clip.encode_image(pictures)
        return F.normalize(features.float(), dim=-1)

    def text(self, tokens: Tensor) -> Tensor:
        """Features of tokens (B, L) on CPU, where the ends of the texts are read without a wait."""
        eot = tokens.argmax(-1)
        used = tokens[:, : int(eot.max()) + 1].to(self.table.device, non_blocking=True)
        embeddings = self.clip.token_embedding(used)
        with torch.autocast(used.device.type, torch.bfloat16):
            features = encode_prompts(self.clip, embeddings, eot)
        return F.normalize(features.float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        return self.clip.logit_scale.exp().clamp(max=100)
