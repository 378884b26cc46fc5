"""Captions of a concept: its name in a template, often with keywords."""

from __future__ import annotations

import random
from collections.abc import Sequence

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a photo of {}.",
    "an emoji of a {}.",
    "an icon of a {}.",
    "a drawing of a {}.",
    "a drawing of the {}.",
    "a picture of a {}.",
    "a painting of a {}.",
    "a cartoon of a {}.",
    "a sticker of the {}.",
    "a sketch of a {}.",
    "a small image of a {}.",
    "a bright image of the {}.",
    "a rendering of a {}.",
    "a symbol for {}.",
    "clip art of a {}.",
    "this is a {}.",
    "here is the {}.",
    "the {}.",
    "my {}.",
    "{}.",
    "{}",
)


def caption(name: str, keywords: Sequence[str], rng: random.Random) -> str:
    """Mostly the name; a fifth of the time with keywords, a tenth of the time a keyword alone."""
    template, kind = rng.choice(TEMPLATES), rng.random()
    if not keywords or kind < 0.7:
        return template.format(name)
    if kind < 0.9:
        listed = ", ".join(rng.sample(list(keywords), min(len(keywords), rng.randint(1, 2))))
        return f"{template.format(name).rstrip('.')}, {listed}"
    return template.format(rng.choice(list(keywords)))
