"""How alike the test drawings are to the training pools, in the archives that are shipped.

    python tools/pocket/likeness.py
    python tools/pocket/likeness.py --data build/pocket    # after build_data.py: pretraining, too

Counts test drawings (of any demo dataset, each once) that have a pool drawing of any dataset above
some correlation of ink (`copies.py`) or some cosine of image features (the pocket CLIP's): as both
are drawn, and with one of them in a mirror, since renderings flip. Drawings of one name are
counted apart from those of another: those share an outline, such as a snowflake called snow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from copies import ink, mirrored
from recognition import image_features
from shipped import drawings
from tabulate import tabulate
from torch import Tensor

from sar.toolbox.clip.pocket import load_pocket
from sar.toolbox.data.datasets import demo

LIMITS = {"ink": (0.9, 0.95), "features": (0.9, 0.95)}
BATCH = 4096  # pretraining drawings at a time
DIRECTIONS = ("as drawn", "mirrored")


@dataclass
class Part:
    """The pools or the tests of all datasets, each drawing of a name once."""

    names: list[str]
    sources: list[str]
    pixels: np.ndarray

    @classmethod
    def read(cls, part: str) -> Part:
        found: dict[tuple[str, str], np.ndarray] = {}
        for dataset in demo.DATASETS:
            classes, shown = demo.class_names(dataset), drawings(dataset, part)
            keys = zip([classes[label] for label in shown.labels], shown.sources, strict=True)
            found |= zip(keys, shown.pixels, strict=True)
        names, sources = zip(*found, strict=True)
        return cls(list(names), list(sources), np.stack(list(found.values())))


def similarities(test: Part, pool: Part) -> dict[tuple[str, str], Tensor]:
    """(N test, M pool) by measure and direction."""
    ours, theirs = (ink(part.pixels).float() for part in (test, pool))
    model = load_pocket()
    seen, flipped, shown = (
        image_features(model, pixels)
        for pixels in (pool.pixels, pool.pixels[:, :, ::-1], test.pixels)
    )
    return {
        ("ink", "as drawn"): ours @ theirs.T,
        ("ink", "mirrored"): ours @ mirrored(theirs).T,
        ("features", "as drawn"): shown @ seen.T,
        ("features", "mirrored"): shown @ flipped.T,
    }


def nearest(
    found: Mapping[tuple[str, str], Tensor], measure: str, test: Part, pool: Part, count: int
) -> list[str]:
    """The pairs that are most alike by a measure, in any direction and of any names."""
    highest = torch.maximum(found[measure, "as drawn"], found[measure, "mirrored"])
    values, places = highest.flatten().topk(count)
    lines = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        one, other = divmod(place, len(pool.names))
        pair = f"{test.sources[one]} ({test.names[one]}), {pool.sources[other]}"
        lines.append(f"{value:.3f} {pair} ({pool.names[other]})")
    return lines


def against_pretraining(test: Part, folder: Path) -> list[list[object]]:
    """Rows as `main`'s, by ink: test drawings above limits with a pretraining drawing."""
    world = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    seen = [number for number, row in enumerate(world["rows"]) if row["role"] == "pretrain"]
    ours = ink(test.pixels).float()
    highest = torch.full((2, 2, len(ours)), -1.0)  # another or the same name, direction
    for start in range(0, len(seen), BATCH):
        part = seen[start : start + BATCH]
        names = [world["names"][world["rows"][number]["concept"]] for number in part]
        same = torch.tensor(np.array(test.names)[:, None] == np.array(names))
        theirs = ink(pixels[part]).float()
        for direction, found in enumerate((ours @ theirs.T, ours @ mirrored(theirs).T)):
            for whose, there in enumerate((~same, same)):
                values = found.where(there, -1.0).amax(1)
                highest[whose, direction] = highest[whose, direction].maximum(values)
    return [
        ["ink", name, f"above {limit}", *(highest[whose] > limit).sum(1).tolist()]
        for whose, name in ((1, "the same"), (0, "another"))
        for limit in LIMITS["ink"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shown", type=int, default=20, help="pairs that are listed of a measure")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of build_data.py")
    args = parser.parse_args()
    test, pool = Part.read("test"), Part.read("pool")
    same = torch.tensor([[a == b for b in pool.names] for a in test.names])
    found = similarities(test, pool)
    print(f"{len(test.names)} test drawings, {len(pool.names)} of the pools")
    rows = []
    for measure, limits in LIMITS.items():
        for whose, there in (("the same", same), ("another", ~same)):
            highest = [
                found[measure, direction].where(there, -1.0).amax(1) for direction in DIRECTIONS
            ]
            for limit in limits:
                counts = [int((values > limit).sum()) for values in highest]
                rows.append([measure, whose, f"above {limit}", *counts])
    headers = ("by", "name", "", *DIRECTIONS)
    print(tabulate(rows, headers, "github"))
    if args.data:
        print("of pretraining:", tabulate(against_pretraining(test, args.data), headers), sep="\n")
    for measure in LIMITS:
        lines = nearest(found, measure, test, pool, args.shown)
        print(f"\nby {measure}:", *lines, sep="\n")


if __name__ == "__main__":
    main()
