"""CLIP's image encoder with learnable prompts, on the weights of any CLIP that has a ViT.

Prompts stand behind the patch tokens (visual prompt tuning: Jia et al., ECCV 2022, arXiv
2203.12119; in CLIP: Khattak et al., MaPLe, CVPR 2023, arXiv 2210.03117). The first ones enter
before the first layer, without positional embedding; deep ones replace what the layer below made
of them.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sar.errors import ConfigError

from .towers import VisionTower, embedded_patches


class PromptedImageEncoder(nn.Module):
    """CLIP's VisionTransformer for images and prompts; the prompts are arguments.

    Its parts are those of the encoder it is made from, under the same names, not copies. That of
    another package is its part as a whole.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.input_resolution = visual.input_resolution
        self.transformer = visual.transformer
        if isinstance(visual, VisionTower):
            self.tower = visual
            return
        self.conv1 = visual.conv1
        self.class_embedding = visual.class_embedding
        self.positional_embedding = visual.positional_embedding
        self.ln_pre = visual.ln_pre
        self.ln_post = visual.ln_post
        self.proj = visual.proj

    def forward(self, image: Tensor, prompt: Tensor, deep_prompts: Sequence[Tensor] = ()) -> Tensor:
        """Images (B, 3, H, W), prompts (n, width) -> features (B, D), not normalized.

        deep_prompts: item k, (n, width), takes the prompts' place at the input of layer k + 1.
        """
        if hasattr(self, "tower"):
            return self._by_tower(image, prompt, deep_prompts)
        x = embedded_patches(self, image)
        x = torch.cat([x, prompt.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)
        x = self.ln_pre(x).transpose(0, 1)  # (1 + patches + n, B, width), as CLIP's layers take it
        for depth, block in enumerate(self.transformer.resblocks):
            if 0 < depth <= len(deep_prompts):
                deep = deep_prompts[depth - 1].to(x.dtype)
                x = torch.cat([x[: -len(deep)], deep.unsqueeze(1).expand(-1, x.shape[1], -1)])
            x = block(x)
        return self.ln_post(x[0]) @ self.proj

    def _by_tower(self, image: Tensor, prompt: Tensor, deep_prompts: Sequence[Tensor]) -> Tensor:
        x = self.tower.tokens(image)  # (B, T, width), as all layers here take it
        length = x.shape[1]
        prompts = prompt.to(x.dtype).expand(x.shape[0], -1, -1)
        x = self.tower.before(torch.cat([x, prompts], dim=1))
        for depth, block in enumerate(self.transformer.resblocks):
            if 0 < depth <= len(deep_prompts):
                deep = deep_prompts[depth - 1].to(x.dtype).expand(x.shape[0], -1, -1)
                x = torch.cat([x[:, :length], deep], dim=1)
            x = block(x)
        return self.tower.features(x[:, :length])


class SelfPromptedImageEncoder(PromptedImageEncoder):
    """A CLIP image encoder with prompts of its own (PromptSRC's): `VPT`, and those of its layers.

    Args:
        n_ctx: number of prompts, at least 1. depth: layers that get new ones, at least 1.
    """

    def __init__(self, visual: Any, n_ctx: int, depth: int) -> None:
        super().__init__(visual)
        self.VPT = random_prompt(n_ctx, visual.transformer.width)
        self.transformer = with_deep_prompts(visual.transformer, n_ctx, depth)

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        """Images (B, 3, H, W) -> features (B, D), not normalized."""
        return super().forward(image, self.VPT, deep_prompts_of(self.transformer))


def random_prompt(n_ctx: int, width: int) -> nn.Parameter:
    """(n_ctx, width) drawn from a normal distribution with deviation 0.02, fp32."""
    return nn.Parameter(nn.init.normal_(torch.empty(n_ctx, width), std=0.02))


def with_deep_prompts(transformer: Any, n_ctx: int, depth: int) -> Any:
    """A CLIP transformer whose layers 1 to depth - 1 (from 0) have the parameter `VPT_shallow`.

    The prompts, (n_ctx, width), are only stored there, under the name that checkpoints of the
    published implementation use; whoever runs the layers puts them in. The new transformer has
    `transformer`'s layers and weights, which itself stays without prompts.
    """
    blocks = list(transformer.resblocks)
    for layer in range(1, depth):
        block = copy.copy(blocks[layer])
        block._parameters = dict(block._parameters)
        block.VPT_shallow = random_prompt(n_ctx, transformer.width)
        blocks[layer] = block
    prompted = copy.copy(transformer)
    prompted._modules = {**transformer._modules, "resblocks": nn.Sequential(*blocks)}
    return prompted


def deep_prompts_of(transformer: Any) -> list[Tensor]:
    """The `VPT_shallow` of a transformer's layers, in order."""
    return [b.VPT_shallow for b in transformer.resblocks if hasattr(b, "VPT_shallow")]


def vision_transformer(clip_model: Any) -> Any:
    """The transformer of a CLIP's image encoder. ConfigError if it is not a ViT."""
    visual = clip_model.visual
    if not hasattr(visual, "transformer"):
        kind = type(getattr(visual, "visual", visual)).__name__
        raise ConfigError(
            "visual prompts need a CLIP whose image encoder is a vision transformer, not "
            f"{kind}; set MODEL.BACKBONE.NAME to one, such as ViT-B/16"
        )
    return visual.transformer


def text_transformer(clip_model: Any) -> Any:
    """The transformer of a CLIP's text encoder. ConfigError if its layers are not known here."""
    if not hasattr(clip_model, "transformer"):
        raise ConfigError(
            "deep prompts need a CLIP whose text encoder is CLIP's transformer or SigLIP's, not a "
            "language model; train CoOp, KgCoOp or CoCoOp, or set another MODEL.BACKBONE.NAME"
        )
    return clip_model.transformer


def check_depth(key: str, depth: int, *transformers: Any) -> None:
    """ConfigError naming `key` unless each of the transformers has `depth` layers."""
    layers = min(len(transformer.resblocks) for transformer in transformers)
    if not 1 <= depth <= layers:
        raise ConfigError(
            f"{key} is {depth}; expected 1 (prompts at the input only) to {layers}, the number of "
            "layers of this CLIP's transformer"
        )
