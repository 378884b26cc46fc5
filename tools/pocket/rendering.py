"""Pictures of the pretraining set, and their random renderings as image batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# CLIP's normalization of RGB in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class Pictures:
    """RGBA pictures (N, 4, 64, 64) uint8 of the pretraining styles, indexed by concept."""

    pixels: Tensor
    weights: list[float]  # how often a picture is drawn among those of its concept
    concepts: list[int]
    rows_of: list[list[int]]
    names: list[str]
    keywords: list[list[str]]
    groups: list[str]
    styles: dict[str, tuple[Tensor, Tensor]]  # every style: pixels, concept numbers

    @classmethod
    def load(cls, file: Path, described: dict[str, Any]) -> Pictures:
        stored = np.load(file)
        pixels = torch.from_numpy(stored["pixels"]).permute(0, 3, 1, 2).contiguous()
        style, concept = stored["style"], stored["concept"]
        roles = [entry["role"] for entry in described["styles"]]
        entry_weights = [entry["weight"] for entry in described["styles"]]
        used = np.flatnonzero([roles[s] == "pretrain" for s in style])
        concepts = concept[used].tolist()
        rows_of: list[list[int]] = [[] for _ in described["concepts"]]
        for row, number in enumerate(concepts):
            rows_of[number].append(row)
        return cls(
            pixels[used],
            [entry_weights[s] for s in style[used]],
            concepts,
            rows_of,
            [entry["name"] for entry in described["concepts"]],
            [entry["keywords"] for entry in described["concepts"]],
            [entry["group"] for entry in described["concepts"]],
            {
                entry["style"]: (pixels[style == s], torch.from_numpy(concept[style == s]))
                for s, entry in enumerate(described["styles"])
            },
        )


def render(
    pictures: Tensor, generator: torch.Generator | None, size: int, strength: float = 1.0
) -> Tensor:
    """Images (B, 3, size, size), CLIP-normalized, from RGBA pictures (B, 4, 64, 64) uint8.

    With a generator: random scale, rotation, shear, shift, flip, colour mixing, grey, inversion,
    background (white, plain, gradient), blur, erased patch and noise, so that drawing styles not
    seen in training are within reach. Without: upright on white.
    """
    x = pictures.float() / 255
    count = len(x)
    colour, alpha = x[:, :3] * x[:, 3:], x[:, 3:]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    if generator is None:
        transform = torch.eye(2, 3).repeat(count, 1, 1) / 0.92
    else:
        flip = (rand(count) < 0.5).float() * 2 - 1
        angle = (rand(count) - 0.5) * 0.9 * strength
        shift = (rand(count, 2) - 0.5) * 0.4 * strength
        across = 0.9 + (0.5 * rand(count) - 0.28) * strength
        down = 1 + (0.3 * rand(count) - 0.15) * strength
        shear = (rand(count) - 0.5) * 0.3 * strength
        cos, sin = angle.cos() / across, angle.sin() / across
        transform = torch.stack(
            [
                torch.stack([cos * flip, -sin + shear, shift[:, 0]], 1),
                torch.stack([sin * flip, cos * down, shift[:, 1]], 1),
            ],
            1,
        )
    grid = F.affine_grid(transform, [count, 4, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([colour, alpha], 1), grid, align_corners=False)
    colour, alpha = moved[:, :3], moved[:, 3:].clamp(0, 1)
    if generator is None:
        return _normalize(colour + 1 - alpha)

    # Colours: a random mixing matrix near the identity, sometimes grey, sometimes inverted.
    amount = 0.5 * strength * rand(count, 1, 1)
    mixing = torch.eye(3) + (rand(count, 3, 3) - 0.5) * amount
    mixing = mixing / mixing.sum(2, keepdim=True) * (1 + (rand(count, 1, 1) - 0.5) * 0.6 * strength)
    grey = (rand(count, 1, 1) < 0.15 * strength).float()
    luma = torch.tensor([0.3, 0.59, 0.11]).expand(count, 3, 3)
    mixing = mixing * (1 - grey) + luma * grey
    colour = torch.einsum("bij,bjhw->bihw", mixing, colour)
    gamma = (2.0 ** ((rand(count, 1, 1, 1) - 0.5) * 1.4 * strength)).float()
    plain = (colour / alpha.clamp(min=1e-3)).clamp(1e-4, 1) ** gamma
    colour = torch.where((rand(count, 1, 1, 1) < 0.06 * strength), 1 - plain, plain) * alpha

    white = (rand(count, 1, 1, 1) < 1 - 0.6 * strength).float()
    background = white * (1 - 0.08 * rand(count, 1, 1, 1)) + (1 - white) * rand(count, 3, 1, 1)
    slope = torch.linspace(0, 1, size)[None, None, :, None] * (rand(count, 1, 1, 1) < 0.4) * 0.6
    background = background * (1 - slope) + rand(count, 3, 1, 1) * slope
    image = colour + (1 - alpha) * background

    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.where(rand(count, 1, 1, 1) < 0.25 * strength, blurred, image)
    corner = rand(count, 2) * size
    rows = torch.arange(size)
    extent = size * (0.15 + 0.2 * rand(count, 1))
    inside_y = (rows - corner[:, :1]).abs() < extent / 2
    inside_x = (rows - corner[:, 1:]).abs() < extent / 2
    erased = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    erased = erased & (rand(count, 1, 1, 1) < 0.3 * strength)
    image = torch.where(erased, rand(count, 3, 1, 1), image)
    image = image + torch.randn(image.shape, generator=generator) * 0.04 * rand(count, 1, 1, 1)
    return _normalize(image.clamp(0, 1))


def _normalize(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
