"""Render the icon sets and deal the drawings: what the pocket CLIP is trained and measured on.

    pip install -e '.[pocket]'          # resvg; also needs the `npm` command
    python tools/pocket/build_data.py   # 104 MB of download, then about 5 minutes on 2 cores

Writes `build/pocket/pixels.npy` ((N, 48, 48, 4) uint8) and `build/pocket/world.json` (not
committed): every drawing with its concept, set, style and role. Roles: `pretrain`; held out:
`pool`, `test` and `shift` (demo datasets), `name` (names never paired with a picture).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from copies import ink, joined_families, units
from deal import Deal, deal
from drawings import Drawing, collect, render_all
from leaks import leaked
from sets import IconSet, brand_names, read_sets, unpack
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[2]
NOVEL = ROOT / "sar" / "classes" / "novel"
COMMON_CATEGORY = 20  # concepts that a category must have to count


def categories_of(drawings: list[Drawing]) -> dict[str, list[str]]:
    """The categories in which sets put a concept, in words, without those of few concepts."""
    found: dict[str, set[str]] = defaultdict(set)
    for drawing in drawings:
        for category in drawing.categories:
            words = category.lower().replace("&", "and").replace("/", "and").replace("-", " ")
            found[drawing.concept].add(" ".join(words.split()))
    sizes = Counter(category for group in found.values() for category in group)
    return {
        concept: sorted(c for c in group if c and sizes[c] >= COMMON_CATEGORY)
        for concept, group in found.items()
    }


def write_world(
    output: Path,
    drawings: list[Drawing],
    pixels: np.ndarray,
    kind_of: dict[str, str],
    dealt: Deal,
    sets: dict[str, IconSet],
) -> None:
    used = [number for number, role in enumerate(dealt.roles) if role != "none"]
    names = sorted({drawings[number].concept for number in used})
    index = {name: number for number, name in enumerate(names)}
    aliases: dict[str, Counter[str]] = defaultdict(Counter)
    for drawing in drawings:
        aliases[drawing.concept][drawing.words] += drawing.words != drawing.concept
    categories = categories_of(drawings)
    np.save(output / "pixels.npy", pixels[used])
    world = {
        "names": names,
        "kinds": [kind_of[name] for name in names],
        "aliases": [sorted(a for a, n in aliases[name].items() if n) for name in names],
        "categories": [categories.get(name, []) for name in names],
        "datasets": dealt.datasets,
        "held_names": dealt.held_names,
        "test_families": dealt.test_families,
        "rows": [
            {
                "concept": index[drawings[number].concept],
                "set": drawings[number].prefix,
                "icon": drawings[number].icon,
                "style": drawings[number].style,
                "role": dealt.roles[number],
            }
            for number in used
        ],
        "sets": {
            prefix: [s.title, s.author, s.url, s.licence, s.version, s.coloured]
            for prefix, s in sets.items()
        },
    }
    (output / "world.json").write_text(json.dumps(world), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "npm")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "pocket")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    package = unpack(args.cache)
    sets = {icon_set.prefix: icon_set for icon_set in read_sets(package)}
    drawings, kind_of = collect(sets.values(), brand_names(package))
    print(f"{len(drawings)} drawings of {len(kind_of)} names in {len(sets)} sets")
    rendered = args.output / "rendered.npz"
    if rendered.exists():  # rendering takes longest: an interrupted build continues after it
        stored = np.load(rendered)
        keys, pixels = stored["keys"], stored["pixels"]
    else:
        shown, pixels = render_all(drawings, sets, args.processes)
        keys = np.array([f"{drawings[n].prefix}:{drawings[n].icon}" for n in shown])
        np.savez(rendered, keys=keys, pixels=pixels)
    at = {key: number for number, key in enumerate(keys.tolist())}
    drawings = [d for d in drawings if f"{d.prefix}:{d.icon}" in at]
    pixels = pixels[[at[f"{d.prefix}:{d.icon}"] for d in drawings]]
    features = ink(pixels)
    unit_of, shared = units(drawings, features, kind_of)
    family_of = joined_families(drawings, shared, kind_of)
    dealt = deal(drawings, kind_of, unit_of, family_of)
    removed = leaked(dealt.roles, features)
    for number in removed:
        dealt.roles[number] = "none"
    report(drawings, unit_of, family_of, dealt, len(removed))
    report_seen(drawings, kind_of, dealt)
    write_world(args.output, drawings, pixels, kind_of, dealt, sets)


def report(
    drawings: list[Drawing],
    unit_of: list[int],
    family_of: dict[str, str],
    dealt: Deal,
    leaks: int,
) -> None:
    joined = sorted({f"{a} = {b}" for a, b in family_of.items() if a != b})
    print(f"{len(set(unit_of))} independent drawings; families that copy: {', '.join(joined)}")
    print(f"{dealt.copies_left_out} drawings of unseen sets left out as copies of seen sets")
    print(f"{leaks} drawings of other names left out of pretraining as copies of demo drawings")
    print(f"roles: {dict(Counter(dealt.roles))}")
    print(f"{len(dealt.test_families)} families never seen: {', '.join(dealt.test_families)}")
    print(f"{len(dealt.held_names)} names held out")


def report_seen(drawings: list[Drawing], kind_of: dict[str, str], dealt: Deal) -> None:
    """What pretraining sees; of the demo classes and of the shipped novel names, too."""
    seen = [drawings[number] for number, role in enumerate(dealt.roles) if role == "pretrain"]
    drawn = Counter(drawing.concept for drawing in seen)
    things = sum(kind_of[name] == "thing" for name in drawn)
    print(f"pretraining: {len(drawn)} names by {len({d.prefix for d in seen})} sets;")
    print(f"  {things} of them things, {len(drawn) - things} signs of interfaces;")
    print(f"  {sum(count > 1 for count in drawn.values())} with at least 2 drawings")
    rows = []
    for dataset, groups in dealt.datasets.items():
        counts = [drawn[name] for group in groups for name in group]
        row: list[object] = [dataset, len(counts), min(counts), statistics.mean(counts)]
        for file in (NOVEL / f"{dataset}.json", NOVEL / f"{dataset}Kin.json"):
            names = json.loads(file.read_text(encoding="utf-8"))["names"] if file.exists() else []
            row.append(f"{sum(name in drawn for name in names)} of {len(names)}")
        rows.append(row)
    headers = ["", "classes", "drawings of one, least", "mean", "novel names seen", "of Kin's"]
    print(tabulate(rows, headers, "github", floatfmt=".0f"))


if __name__ == "__main__":
    main()
