"""Which new classes are near to novel names in the embedding space of a frozen CLIP."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sar.classes.identity import prompt_name
from sar.classes.novel_report import EmbeddingPair
from sar.encoding import encode_tokens
from sar.toolbox.clip import load_clip
from sar.toolbox.clip.prompted import tokenize_prompts

QUANTILE = 0.95


@torch.no_grad()
def near_by_embedding(
    names: Sequence[str], base: Sequence[str], new: Sequence[str], template: str, weights: str
) -> tuple[float, list[EmbeddingPair]]:
    """The names nearer to a new class than base classes are to each other, nearest first.

    All are seen with the hand-crafted `template`. The first result is the threshold: the `QUANTILE`
    of the cosines of the base classes to their nearest other base class. `weights` and errors as in
    `load_clip`.
    """
    backbone = load_clip(weights)
    clip_model = backbone.model

    def embed(classes: Sequence[str]) -> Tensor:
        prompts = tokenize_prompts(
            [template.format(prompt_name(name)) for name in classes], classes, backbone.tokenizer
        )
        return F.normalize(encode_tokens(clip_model, clip_model.token_embedding, prompts), dim=-1)

    among_base = (features := embed(base)) @ features.T
    among_base.fill_diagonal_(-1)
    threshold = float(among_base.amax(dim=1).quantile(QUANTILE))
    cosine, index = (embed(names) @ embed(new).T).max(dim=1)
    pairs = [
        EmbeddingPair(name, prompt_name(new[int(i)]), round(float(c), 4))
        for name, c, i in zip(names, cosine, index, strict=True)
        if c >= threshold
    ]
    return threshold, sorted(pairs, key=lambda pair: -pair.cosine)
