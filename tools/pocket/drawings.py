"""The drawings of the icon sets: which are taken, and as what pixels."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
from names import DROPPED_KINDS, Parsed, kinds, merge, parse
from PIL import Image
from sets import IconSet

SIZE = 48  # pixels per side of every stored picture, RGBA
UNUSED_CATEGORIES = ("brand", "logo", "flag")
SEED = 1
CHUNK = 500  # drawings that a process renders at a time
COMMON = 3  # hands that must draw a sign of an interface for it to be a concept
MOST_SIGNS = 24  # drawings of one such sign
ABSTRACT = "iconmind"


@dataclass
class Drawing:
    """One picture: where it comes from and what it shows. `words`: as the set names it."""

    prefix: str
    icon: str
    hand: str
    family: str
    base: str
    style: str  # line, filled, duotone or colour
    words: str
    concept: str
    categories: tuple[str, ...]


def collect(
    sets: Iterable[IconSet], brands: Mapping[str, int]
) -> tuple[list[Drawing], dict[str, str]]:
    """All drawings of concepts, the plainest of each style, and the kind of every concept."""
    hands: dict[str, set[str]] = defaultdict(set)
    plainest: dict[tuple[str, str, str], tuple[int, str, Parsed, tuple[str, ...], IconSet]] = {}
    for icon_set in sets:
        categories = icon_set.categories()
        for icon in icon_set.data["icons"]:
            parsed = parse(icon)
            of_set = tuple(categories.get(icon, ()))
            unused = any(word in c.lower() for c in of_set for word in UNUSED_CATEGORIES)
            if parsed is None or unused:
                continue
            hands[parsed.name].add(icon_set.hand)
            style = "colour" if icon_set.coloured else parsed.style
            key = (icon_set.prefix, parsed.base, style)
            entry = (parsed.manners, icon, parsed, of_set, icon_set)
            if key not in plainest or entry[:2] < plainest[key][:2]:
                plainest[key] = entry
    concept_of = merge(hands)
    drawn_by: dict[str, set[str]] = defaultdict(set)
    for name, by in hands.items():
        drawn_by[concept_of[name]] |= by
    kind_of = kinds(drawn_by, brands)
    drawings = [
        Drawing(
            prefix,
            icon,
            icon_set.hand,
            icon_set.family,
            base,
            style,
            parsed.name,
            concept_of[parsed.name],
            of_set,
        )
        for (prefix, base, style), (_, icon, parsed, of_set, icon_set) in sorted(plainest.items())
    ]
    drawings = list(_wanted(drawings, kind_of))
    return drawings, {d.concept: kind_of[d.concept] for d in drawings}


def _wanted(drawings: list[Drawing], kind_of: Mapping[str, str]) -> Iterator[Drawing]:
    """Concepts of at least two drawings; signs of interfaces only where they are common.

    A seeded choice of MOST_SIGNS drawings stands for each sign: every set has them, and they teach
    little. One set names its thousands of drawings after ideas of software; its names count only
    where another hand uses them, too.
    """
    shows: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        shows[drawing.concept].append(drawing)
    for concept, all_of_it in sorted(shows.items()):
        hands = {drawing.hand for drawing in all_of_it}
        kind = kind_of[concept]
        if kind in DROPPED_KINDS or len(all_of_it) < 2 or hands == {ABSTRACT}:
            continue
        if kind == "thing":
            yield from all_of_it
        elif len(hands) >= COMMON:
            rng = random.Random(f"{SEED}/{concept}")
            yield from rng.sample(all_of_it, min(len(all_of_it), MOST_SIGNS))


def rasterize(svg: str) -> np.ndarray | None:
    """(SIZE, SIZE, 4) uint8 picture, centred; None where the renderer draws nothing."""
    import resvg_py

    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, skip_system_fonts=True))
    except Exception as error:  # resvg raises plain exceptions for what it cannot draw
        print(f"skipped a picture: {error}")
        return None
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    picture.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    pixels = np.asarray(canvas)
    return pixels if pixels[..., 3].mean() > 3 else None


def _rasterize_all(svgs: list[str]) -> list[np.ndarray | None]:
    return [rasterize(svg) for svg in svgs]


def render_all(
    drawings: Sequence[Drawing], sets: Mapping[str, IconSet], processes: int
) -> tuple[list[int], np.ndarray]:
    """Numbers of the drawings that show something, and their pixels (N, SIZE, SIZE, 4)."""
    shown: list[int] = []
    pixels = np.zeros((len(drawings), SIZE, SIZE, 4), np.uint8)
    chunks = (
        [sets[drawing.prefix].svg(drawing.icon) for drawing in drawings[start : start + CHUNK]]
        for start in range(0, len(drawings), CHUNK)
    )
    with Pool(processes) as pool:
        for number, part in enumerate(pool.imap(_rasterize_all, chunks)):
            for offset, picture in enumerate(part):
                if picture is not None:
                    pixels[len(shown)] = picture
                    shown.append(number * CHUNK + offset)
            if number % 10 == 0:
                print(f"{number * CHUNK} of {len(drawings)} drawings rendered", flush=True)
    return shown, pixels[: len(shown)]
