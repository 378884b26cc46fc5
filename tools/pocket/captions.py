"""Captions of a drawing: its name or another name of it in a template, often with more words."""

from __future__ import annotations

import random
from collections.abc import Sequence

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of {}.",
    "an icon of a {}.",
    "a drawing of a {}.",
    "a drawing of the {}.",
    "a picture of a {}.",
    "a painting of a {}.",
    "a cartoon of a {}.",
    "a sticker of the {}.",
    "a sketch of a {}.",
    "a small image of a {}.",
    "a rendering of a {}.",
    "a symbol for {}.",
    "clip art of a {}.",
    "this is a {}.",
    "the {}.",
    "my {}.",
    "{}.",
    "{}",
)
STYLED = {
    "line": ("a line icon of a {}.", "an outline drawing of a {}.", "a line drawing of the {}."),
    "filled": ("a filled icon of a {}.", "a silhouette of a {}.", "a solid icon of the {}."),
    "duotone": ("a duotone icon of a {}.", "a two-tone icon of a {}.", "a shaded icon of a {}."),
    "colour": ("a coloured drawing of a {}.", "a colour icon of a {}.", "an emoji of a {}."),
}


def caption(
    name: str,
    aliases: Sequence[str],
    categories: Sequence[str],
    style: str,
    rng: random.Random,
) -> str:
    """Mostly the name; sometimes an alias, the style of the drawing, or a category after it."""
    template = rng.choice(STYLED[style] if rng.random() < 0.2 else TEMPLATES)
    said = rng.choice(aliases) if aliases and rng.random() < 0.15 else name
    text = template.format(said)
    if categories and rng.random() < 0.15:
        return f"{text.rstrip('.')}, {rng.choice(categories)}"
    return text
