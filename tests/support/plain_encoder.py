"""A small random CLIP, and its text encoder the plain way: what the fast one must equal."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sar.toolbox.clip import CLIP


def build(width: int, heads: int, layers: int, positions: int, vocabulary: int) -> CLIP:
    torch.manual_seed(0)
    return CLIP(
        embed_dim=24,
        image_resolution=32,
        vision_layers=1,
        vision_width=64,
        vision_patch_size=32,
        context_length=positions,
        vocab_size=vocabulary,
        transformer_width=width,
        transformer_heads=heads,
        transformer_layers=layers,
    ).requires_grad_(False)


def all_positions(
    model: CLIP, prompts: Tensor, eot: Tensor, deep_prompts: Sequence[Tensor] = ()
) -> Tensor:
    """CLIP's own blocks over every position; deep prompts put in as MaPLe and PromptSRC do."""
    x = (prompts + model.positional_embedding[: prompts.shape[1]].to(prompts.dtype)).transpose(0, 1)
    for depth, block in enumerate(model.transformer.resblocks):
        if 0 < depth <= len(deep_prompts):
            prompt = deep_prompts[depth - 1]
            repeated = prompt[:, None].expand(-1, x.shape[1], -1)
            x = torch.cat([x[:1], repeated, x[1 + len(prompt) :]])
        x = block(x)
    x = model.ln_final(x.transpose(0, 1)).to(model.dtype)
    return x[torch.arange(len(x)), eot] @ model.text_projection
