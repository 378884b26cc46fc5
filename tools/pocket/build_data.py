"""Render the artwork: the pretraining set of the pocket CLIP and the committed demo archives.

    pip install -e '.[pocket]'          # resvg; also needs the `npm` command
    python tools/pocket/build_data.py   # about a minute on 2 cores after the downloads

Writes `build/pocket/pretrain.npz` (pictures, styles, concepts; not committed) and, per demo
dataset, `sar/toolbox/data/demo/<dataset>.zip` with lossless WebP pictures of the held-out styles.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from artwork import EMOJIBASE, PACKS, Pack, pictures, unpack
from concepts import DEMO_DATASETS, Concept, read_concepts
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def render(job: tuple[Pack, list[Concept], Path]) -> tuple[Pack, list[tuple[int, np.ndarray]]]:
    pack, concepts, cache = job
    return pack, list(pictures(pack, concepts, cache))


def write_pretrain(
    shown: dict[str, list[tuple[int, np.ndarray]]], concepts: list[Concept], file: Path
) -> None:
    """All styles in one file; the training script uses those whose role is `pretrain`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [(s, c, p) for s, pack in enumerate(PACKS) for c, p in shown[pack.style]]
    np.savez_compressed(
        file,
        style=np.array([row[0] for row in rows]),
        concept=np.array([row[1] for row in rows]),
        pixels=np.stack([row[2] for row in rows]),
    )
    described = {
        "styles": [
            {"style": pack.style, "role": pack.role, "weight": 1.0 if pack.coloured else 0.3}
            for pack in PACKS
        ],
        "concepts": [
            {"name": c.name, "group": c.group, "keywords": list(c.keywords)} for c in concepts
        ],
    }
    file.with_suffix(".json").write_text(json.dumps(described, indent=1, ensure_ascii=False))


def write_demo(
    dataset: str, shown: dict[str, list[tuple[int, np.ndarray]]], concepts: list[Concept]
) -> int:
    """One archive of the held-out styles; returns the number of classes.

    A class needs a shots picture and a test picture. Pictures are `<style>/<class>/<n>.webp`,
    classes are numbered in the order of their names.
    """
    held_out = [pack for pack in PACKS if pack.role != "pretrain"]
    needed = [
        {number for number, _ in shown[pack.style]} for pack in held_out if pack.role != "shift"
    ]
    members = [
        number
        for number, concept in enumerate(concepts)
        if concept.group == DEMO_DATASETS[dataset] and all(number in have for have in needed)
    ]
    folder = ROOT / "sar" / "toolbox" / "data" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{dataset}.zip"
    with zipfile.ZipFile(file.with_suffix(".new"), "w", zipfile.ZIP_STORED) as archive:
        names = {"classes": [concepts[number].name for number in members]}
        _add(archive, "classes.json", json.dumps(names, indent=1, ensure_ascii=False).encode())
        for pack in held_out:
            counts: dict[int, int] = {}
            for number, pixels in shown[pack.style]:
                if number in members:
                    label = members.index(number)
                    counts[label] = counts.get(label, 0) + 1
                    data = io.BytesIO()
                    Image.fromarray(pixels).save(data, "WEBP", lossless=True, method=6)
                    path = f"{pack.style}/{label:03d}/{counts[label] - 1}.webp"
                    _add(archive, path, data.getvalue())
    file.with_suffix(".new").replace(file)
    return len(members)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Fixed dates, so that the same pictures give the same archive."""
    archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "npm")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "pocket" / "pretrain.npz")
    args = parser.parse_args()
    concepts = read_concepts(unpack(*EMOJIBASE, args.cache))
    for pack in PACKS:
        unpack(pack.package, pack.version, args.cache)
    with Pool() as pool:
        jobs = [(pack, concepts, args.cache) for pack in PACKS]
        shown = {pack.style: rows for pack, rows in pool.imap_unordered(render, jobs)}
    for pack in PACKS:
        held = {number for number, _ in shown[pack.style]}
        print(
            f"{pack.style:16} {pack.role:9} {len(shown[pack.style]):5} pictures, "
            f"{len(held):4} of {len(concepts)} concepts"
        )
    write_pretrain(shown, concepts, args.output)
    for dataset in DEMO_DATASETS:
        print(f"{dataset}: {write_demo(dataset, shown, concepts)} classes")


if __name__ == "__main__":
    main()
