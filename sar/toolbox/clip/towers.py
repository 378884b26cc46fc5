"""Image and text encoders that are not OpenAI's, with the attributes by which theirs are used.

They hold the encoder of another package as it is, and stay in evaluation mode: what is frozen drops
nothing and counts no statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def embedded_patches(visual: Any, image: Tensor) -> Tensor:
    """Images (B, 3, H, W) -> class token and patches with positions, (B, 1 + patches, width).

    visual: has the parts of CLIP's `VisionTransformer`, under its names.
    """
    x = visual.conv1(image).flatten(2).transpose(1, 2)  # (B, patches, width)
    start = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    embedded: Tensor = torch.cat([start, x], dim=1) + visual.positional_embedding.to(x.dtype)
    return embedded


class Tower(nn.Module):
    """A frozen encoder of another package."""

    def train(self, mode: bool = True) -> Tower:
        return super().train(False)


class ImageTower(Tower):
    """An image encoder: (B, 3, H, W) -> features (B, output_dim), not normalized."""

    def __init__(self, visual: Any, output_dim: int, resolution: int) -> None:
        super().__init__()
        self.visual = visual
        self.output_dim = output_dim
        self.input_resolution = resolution

    def forward(self, image: Tensor) -> Tensor:
        output = self.visual(image)
        features: Tensor = output[0] if isinstance(output, tuple) else output
        return features


class Layers(nn.Module):
    """The layers of a transformer under CLIP's names; they take (B, T, width)."""

    def __init__(self, blocks: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)
        self.width = width


class VisionTower(ImageTower):
    """An image encoder that is a vision transformer, in steps between which prompts may enter."""

    transformer: Any

    def tokens(self, image: Tensor) -> Tensor:
        """Images -> (B, T, width), in front of `before`."""
        raise NotImplementedError

    def before(self, x: Tensor) -> Tensor:
        """What is done to tokens and prompts before the first layer."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """Tokens behind the last layer, without prompts -> features (B, output_dim)."""
        raise NotImplementedError


class OpenClipVision(VisionTower):
    """open_clip's own `VisionTransformer`."""

    def __init__(self, visual: Any, output_dim: int, resolution: int) -> None:
        super().__init__(visual, output_dim, resolution)
        self.transformer = visual.transformer

    def tokens(self, image: Tensor) -> Tensor:
        return embedded_patches(self.visual, image)

    def before(self, x: Tensor) -> Tensor:
        normed: Tensor = self.visual.ln_pre(x)
        return normed

    def features(self, x: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(x)
        projected: Tensor = pooled @ self.visual.proj
        return projected


class TimmVision(VisionTower):
    """timm's `VisionTransformer`, SigLIP's among them. `head`: the module behind it.

    If all tokens are pooled, prompts are left out: they act through the layers, as in CLIP.
    """

    def __init__(self, trunk: Any, head: nn.Module, output_dim: int, resolution: int) -> None:
        super().__init__(nn.Sequential(trunk, head), output_dim, resolution)
        self.transformer = Layers(trunk.blocks, trunk.embed_dim)

    def tokens(self, image: Tensor) -> Tensor:
        trunk: Any = self.visual[0]
        embedded: Tensor = trunk._pos_embed(trunk.patch_embed(image))
        return embedded

    def before(self, x: Tensor) -> Tensor:
        normed: Tensor = self.visual[0].norm_pre(x)
        return normed

    def features(self, x: Tensor) -> Tensor:
        trunk: Any = self.visual[0]
        pooled: Tensor = self.visual[1](trunk.forward_head(trunk.norm(x)))
        return pooled


class WholeText(Tower):
    """A text encoder that computes every position of every text: see `sar.encoding.whole`.

    It is run as it is, on the embeddings that it is given in place of those of token ids.

    Args:
        text: takes ids (N, L) and gives features (N, D), or these first of several.
        words: the ids by which `text` finds padding, words and the end: one of each.
        starts: the number of start tokens.
    """

    def __init__(self, text: Any, words: tuple[int, int, int], starts: int) -> None:
        super().__init__()
        self.given = _Given()
        if hasattr(text, "token_embedding"):
            text.token_embedding = self.given
        else:
            text.transformer.set_input_embeddings(self.given)
        self.text = text
        self.words = words
        self.starts = starts

    def forward(self, prompts: Tensor, eot: Tensor, deep_prompts: Sequence[Tensor] = ()) -> Tensor:
        """prompts (N, L, d), eot (N,) positions of the end of text -> features (N, D).

        deep_prompts: item k, (n, d), stands behind the start tokens at the input of layer k + 1.
        """
        pad, word, end = (torch.tensor(i, device=prompts.device) for i in self.words)
        eot = eot.to(prompts.device).unsqueeze(1)
        position = torch.arange(prompts.shape[1], device=prompts.device)
        ids = torch.where(position < eot, word, torch.where(position == eot, end, pad))
        with ExitStack() as hooks:
            for depth, prompt in enumerate(deep_prompts, 1):
                replace = partial(self._replace, prompt=prompt)
                block = self.text.transformer.resblocks[depth]
                hooks.callback(block.register_forward_pre_hook(replace).remove)
            self.given.embeddings = prompts.to(next(self.text.parameters()).dtype)
            output = self.text(ids)
        self.given.embeddings = None
        features: Tensor = output[0] if isinstance(output, tuple) else output
        return features

    def _replace(self, block: Any, inputs: Any, prompt: Tensor) -> Any:
        x, *others = inputs
        start, behind = x[:, : self.starts], x[:, self.starts + len(prompt) :]
        return torch.cat(
            [start, prompt.to(x.dtype).expand(x.shape[0], -1, -1), behind], dim=1
        ), *others


class _Given(nn.Module):
    """Stands in for a table of embeddings: gives the embeddings at hand, whatever the ids."""

    embeddings: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        assert self.embeddings is not None
        return self.embeddings
