"""The drawings that pretraining sees, and their random renderings as image batches."""

from __future__ import annotations

import json
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
class World:
    """Pretraining drawings, and names in the order of how often they are drawn, most first.

    `pixels` (N, 4, 48, 48) uint8 RGBA. Names that are never paired with a picture come last.
    """

    pixels: Tensor
    inks: Tensor  # (N,) bool: a drawing without colours of its own
    concepts: list[int]
    styles: list[str]
    rows_of: list[list[int]]
    names: list[str]
    aliases: list[list[str]]
    categories: list[list[str]]

    @classmethod
    def load(cls, folder: Path) -> World:
        world: dict[str, Any] = json.loads((folder / "world.json").read_text(encoding="utf-8"))
        rows = world["rows"]
        used = [n for n, row in enumerate(rows) if row["role"] == "pretrain"]
        drawn = np.bincount([rows[n]["concept"] for n in used], minlength=len(world["names"]))
        order = np.argsort(-drawn, kind="stable")
        place = {int(old): new for new, old in enumerate(order)}
        stored = np.load(folder / "pixels.npy", mmap_mode="r")
        concepts = [place[rows[n]["concept"]] for n in used]
        rows_of: list[list[int]] = [[] for _ in order]
        for row, concept in enumerate(concepts):
            rows_of[concept].append(row)
        return cls(
            torch.from_numpy(np.ascontiguousarray(stored[used].transpose(0, 3, 1, 2))),
            torch.tensor([not world["sets"][rows[n]["set"]][-1] for n in used]),
            concepts,
            [rows[n]["style"] for n in used],
            rows_of,
            *([world[key][old] for old in order] for key in ("names", "aliases", "categories")),
        )

    @property
    def paired(self) -> int:
        """How many names are paired with pictures."""
        return sum(bool(rows) for rows in self.rows_of)


def render(
    pictures: Tensor,
    inks: Tensor | None,
    generator: torch.Generator | None,
    size: int,
    strength: float = 1.0,
) -> Tensor:
    """Images (B, 3, size, size), CLIP-normalized, from RGBA pictures (B, 4, S, S) uint8.

    With a generator: random scale, rotation, shear, shift, flip, ink (where `inks` says that a
    drawing has no colours), brightness, grey, background, and erased patch. Without: upright and
    black on white.
    """
    x = pictures.float() / 255
    count = len(x)
    colour, alpha = x[:, :3] * x[:, 3:], x[:, 3:]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    if generator is None:
        transform = torch.eye(2, 3).repeat(count, 1, 1) / 0.92
        grid = F.affine_grid(transform, [count, 4, size, size], align_corners=False)
        moved = F.grid_sample(torch.cat([colour, alpha], 1), grid, align_corners=False)
        return _normalize(moved[:, :3] + 1 - moved[:, 3:].clamp(0, 1))

    if inks is not None:
        paint = rand(count, 3, 1, 1) * (rand(count, 1, 1, 1) < 0.5 * strength) * 0.7
        colour = torch.where(inks[:, None, None, None], paint * alpha, colour)
    flip = (rand(count) < 0.5).float() * 2 - 1
    angle = (rand(count) - 0.5) * 0.8 * strength
    shift = (rand(count, 2) - 0.5) * 0.35 * strength
    across = 0.92 + (0.5 * rand(count) - 0.3) * strength
    down = 1 + (0.3 * rand(count) - 0.15) * strength
    shear = (rand(count) - 0.5) * 0.25 * strength
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
    # Per-image factors rather than per-pixel noise: what is cheap on a processor.
    tint = 1 + (rand(count, 3, 1, 1) - 0.5) * 0.6 * strength
    grey = rand(count, 1, 1, 1) < 0.2 * strength
    colour = torch.where(grey, colour.mean(1, keepdim=True), colour) * tint
    white = rand(count, 1, 1, 1) < 1 - 0.5 * strength
    background = torch.where(white, 1 - 0.08 * rand(count, 1, 1, 1), rand(count, 3, 1, 1))
    dark_on_dark = (background.mean(1, keepdim=True) < 0.35) & (rand(count, 1, 1, 1) < 0.8)
    image = colour + (1 - alpha) * background
    image = torch.where(dark_on_dark, alpha - colour + (1 - alpha) * background, image)
    corner, extent = rand(count, 2) * size, size * (0.1 + 0.2 * rand(count, 1))
    rows = torch.arange(size)
    inside = [(rows - corner[:, side : side + 1]).abs() < extent / 2 for side in (0, 1)]
    erased = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    erased = erased & (rand(count, 1, 1, 1) < 0.3 * strength)
    return _normalize(torch.where(erased, background, image).clamp(0, 1))


def _normalize(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
