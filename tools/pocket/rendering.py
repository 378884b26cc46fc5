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

# How many numbers in [0, 1) each random choice of `render` takes for a picture.
CHOICES = {
    "stroke": 1,
    "outline": 1,
    "paint": 3,
    "painted": 1,
    "flip": 1,
    "angle": 1,
    "shift": 2,
    "across": 1,
    "down": 1,
    "shear": 1,
    "tint": 3,
    "grey": 1,
    "white": 1,
    "shade": 1,
    "background": 3,
    "inverted": 1,
    "corner": 2,
    "extent": 1,
    "erased": 1,
}


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


def draw(count: int, generator: torch.Generator) -> Tensor:
    """(count, K) numbers in [0, 1), on CPU: the random choices of `render` for `count` pictures."""
    return torch.rand(count, sum(CHOICES.values()), generator=generator)


def upright(pictures: Tensor, size: int) -> Tensor:
    """Images (B, 3, size, size), CLIP-normalized, black on white, of RGBA (B, 4, S, S) uint8."""
    colour, alpha = _premultiplied(pictures)
    transform = torch.eye(2, 3, device=colour.device).repeat(len(colour), 1, 1) / 0.92
    colour, alpha = _moved(colour, alpha, transform, size)
    return _normalize(colour + 1 - alpha)


def render(
    pictures: Tensor, inks: Tensor, random: Tensor, size: int, strength: float = 1.0
) -> Tensor:
    """Images (B, 3, size, size), CLIP-normalized, of RGBA pictures (B, 4, S, S) uint8.

    `random` (B, K) from `draw` chooses scale, rotation, shear, shift, flip, brightness, grey,
    background, and erased patch; for drawings without colours of their own (`inks`, (B,) bool)
    also ink and stroke: drawing hands differ in the width of their lines, and in whether they fill
    them. Per-image factors rather than per-pixel noise: what is cheap on a processor.
    """
    parts = random.split(list(CHOICES.values()), 1)
    of = dict(zip(CHOICES, (part[:, :, None, None] for part in parts), strict=True))
    colour, alpha = _premultiplied(pictures)

    inked = inks[:, None, None, None]
    alpha = torch.where(inked, _stroked(alpha, of["stroke"], of["outline"], strength), alpha)
    paint = of["paint"] * (of["painted"] < 0.5 * strength) * 0.7
    colour = torch.where(inked, paint * alpha, colour)

    flip = (of["flip"] < 0.5).float() * 2 - 1
    angle = (of["angle"] - 0.5) * 0.8 * strength
    shift = (of["shift"] - 0.5) * 0.35 * strength
    across = 0.92 + (0.5 * of["across"] - 0.3) * strength
    down = 1 + (0.3 * of["down"] - 0.15) * strength
    shear = (of["shear"] - 0.5) * 0.25 * strength
    cos, sin = angle.cos() / across, angle.sin() / across
    rows = [cos * flip, -sin + shear, shift[:, :1], sin * flip, cos * down, shift[:, 1:]]
    colour, alpha = _moved(colour, alpha, torch.cat(rows, 1).view(-1, 2, 3), size)

    tint = 1 + (of["tint"] - 0.5) * 0.6 * strength
    grey = of["grey"] < 0.2 * strength
    colour = torch.where(grey, colour.mean(1, keepdim=True), colour) * tint
    white = of["white"] < 1 - 0.5 * strength
    background = torch.where(white, 1 - 0.08 * of["shade"], of["background"])
    image = colour + (1 - alpha) * background
    dark_on_dark = (background.mean(1, keepdim=True) < 0.35) & (of["inverted"] < 0.8)
    image = torch.where(dark_on_dark, alpha - colour + (1 - alpha) * background, image)
    corner, extent = of["corner"] * size, size * (0.1 + 0.2 * of["extent"])
    places = torch.arange(size, device=image.device)
    inside = (places - corner.flatten(1)[:, :, None]).abs() < extent.flatten(1)[:, :, None] / 2
    erased = (inside[:, :1, :, None] & inside[:, 1:, None, :]) & (of["erased"] < 0.3 * strength)
    return _normalize(torch.where(erased, background, image).clamp(0, 1))


def _premultiplied(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Colour times alpha (B, 3, S, S) and alpha (B, 1, S, S), floats in [0, 1]."""
    x = pictures.float() / 255
    return x[:, :3] * x[:, 3:], x[:, 3:]


def _stroked(alpha: Tensor, stroke: Tensor, outline: Tensor, strength: float) -> Tensor:
    """Thicker or thinner lines, or only the outlines of what is filled."""
    thick, thin = (sign * F.max_pool2d(sign * alpha, 3, 1, 1) for sign in (1, -1))
    more = (2 * stroke - 1) * strength
    changed = torch.where(more > 0, more * (thick - alpha), 0.6 * more * (alpha - thin))
    return torch.where(outline < 0.15 * strength, thick - thin, alpha + changed)


def _moved(colour: Tensor, alpha: Tensor, transform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    grid = F.affine_grid(transform, [len(colour), 4, size, size], align_corners=False)
    moved = F.grid_sample(torch.cat([colour, alpha], 1), grid, align_corners=False)
    return moved[:, :3], moved[:, 3:].clamp(0, 1)


def _normalize(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=image.device)[:, None, None] for v in (MEAN, STD))
    return (image - mean) / std
