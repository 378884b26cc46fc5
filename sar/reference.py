"""Frozen reference of the alignment: text embeddings of hand-crafted prompts, kept on disk.

Runs that share CLIP, templates and class names, such as the seeds of an experiment, compute them
once (`sar.storage.cache`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sar.classes.identity import prompt_name
from sar.encoding import float32_text, whole
from sar.prompt_tokens import Encode, pack_tokens, starts
from sar.storage.cache import arithmetic, kept, key_of

_USED = ("ln_1", "attn", "ln_2", "mlp")  # of a block; hosts put prompts of their own beside them


@torch.no_grad()
def frozen_embeddings(
    clip_model: Any,
    names: Sequence[str],
    templates: Sequence[str],
    encode: Encode,
    like: Tensor,
    *,
    apart: bool = False,
) -> Tensor:
    """Text embeddings (C, D), float32, of hand-crafted prompts, from a host's frozen CLIP.

    Each of `templates` has one ``{}`` for the class name. Of several, the embeddings are averaged,
    or with `apart` stacked, (T, C, D); neither they nor their mean is normalized, as in PromptSRC
    (arXiv 2307.06948). `like` is the host's tokenized prompts, whose length and padding are used.
    Where the host holds half-precision weights, a float32 copy of the text tower alone is made for
    this computation. The result is on the CPU and bit for bit the same whether it was kept or not.
    Raises `ConfigError` for names that are too long.
    """
    tokens = torch.stack(
        [
            pack_tokens(
                [encode(template.format(prompt_name(name))) for name in names],
                names,
                like,
                starts(clip_model),
            )
            for template in templates
        ]
    )  # (T, C, L)

    def compute() -> dict[str, Tensor]:
        found = _embeddings(clip_model, tokens)
        return {"embeddings": found if apart else found.mean(dim=0)}

    kind = "templates" if apart else "reference"
    return kept(kind, _key(clip_model, tokens), compute)["embeddings"]


def _embeddings(clip_model: Any, tokens: Tensor) -> Tensor:
    """The embeddings of tokens (T, C, L): (T, C, D), float32."""
    encode = float32_text(clip_model)
    silent = len(tokens) == 1 or None  # None: unless somebody is watching
    bar = tqdm(tokens, desc="Reference embeddings", unit="template", disable=silent)
    return torch.stack([encode(of_one) for of_one in bar])


def _key(clip_model: Any, tokens: Tensor) -> str:
    """The cache key: everything that decides the embeddings (tokens, weights and arithmetic)."""
    used = tokens.unique()
    table = clip_model.token_embedding
    embedded = table(used.to(next(table.parameters()).device))
    weights = {"tokens": tokens, "token_embedding": embedded}
    device = clip_model.logit_scale.device
    if (of_own := whole(clip_model)) is not None:
        return key_of(arithmetic(device), f"{of_own} {of_own.words}", weights | of_own.state_dict())
    blocks = [
        {name: getattr(block, name) for name in _USED} for block in clip_model.transformer.resblocks
    ]
    structure = (
        *(f"{block['attn'].num_heads} {block}" for block in blocks),
        str(clip_model.ln_final),
    )
    weights |= {
        "positional_embedding": clip_model.positional_embedding,
        "text_projection": clip_model.text_projection,
        **{f"ln_final.{name}": p for name, p in clip_model.ln_final.named_parameters()},
        **{
            f"{depth}.{part}.{name}": p
            for depth, block in enumerate(blocks)
            for part, module in block.items()
            for name, p in module.named_parameters()
        },
    }
    return key_of(arithmetic(device), "\n".join(structure), weights)
