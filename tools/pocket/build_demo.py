"""Write the demo datasets that are committed: drawings of held-out icon sets, with their sources.

    python tools/pocket/build_demo.py   # after build_data.py; a minute

Writes `sar/toolbox/data/demo/<dataset>.zip` and `LICENSES.md` beside it. An archive holds
`classes.json` (names in the order of their labels; groups of look-alikes), `sources.json` (of each
picture its set and icon) and lossless WebP pictures: `pool/<class>/<n>`, `test/<class>/<n>` and, by
style, `line/<class>/<n>` and so on (the test drawings as their sets draw them in that style).
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "sar" / "toolbox" / "data" / "demo"


def style_of(row: dict[str, Any], pixels: np.ndarray) -> str:
    """The style that the pixels show: a name without a style word says little."""
    if row["style"] in ("colour", "duotone"):
        return str(row["style"])
    alpha = pixels[..., 3].astype(float) / 255
    shades = ((alpha > 0.15) & (alpha < 0.6)).mean() / max((alpha > 0.15).mean(), 1e-6)
    if shades > 0.45:
        return "duotone"
    solid = alpha > 0.5
    for _ in range(2):  # ink left after taking two pixels off every edge
        core = np.zeros_like(solid)
        core[1:-1, 1:-1] = (
            solid[1:-1, 1:-1]
            & solid[:-2, 1:-1]
            & solid[2:, 1:-1]
            & solid[1:-1, :-2]
            & solid[1:-1, 2:]
        )
        solid = core
    return "filled" if solid.sum() > 0.15 * (alpha > 0.5).sum() else "line"


def encoded(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", lossless=True, method=6)
    return data.getvalue()


def write_dataset(
    dataset: str, groups: list[list[str]], world: dict[str, Any], pixels: np.ndarray
) -> set[str]:
    """One archive; returns the icon sets whose drawings it holds."""
    names = sorted({name for group in groups for name in group})
    label_of = {world["names"].index(name): label for label, name in enumerate(names)}
    pictures: dict[str, bytes] = {}
    sources: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for number, row in enumerate(world["rows"]):
        if row["concept"] not in label_of or row["role"] not in ("pool", "test", "shift"):
            continue
        style = style_of(row, pixels[number])
        places = ["pool"] if row["role"] == "pool" else [style]
        if row["role"] == "test":
            places.append("test")
        for place in places:
            folder = f"{place}/{label_of[row['concept']]:03d}"
            path = f"{folder}/{counts[folder]:02d}.webp"
            counts[folder] += 1
            pictures[path] = encoded(pixels[number])
            sources[path] = f"{row['set']}:{row['icon']}"
    described = {"classes": names, "kin": groups}
    DEMO.mkdir(parents=True, exist_ok=True)
    file = DEMO / f"{dataset}.zip"
    with zipfile.ZipFile(file.with_suffix(".new"), "w", zipfile.ZIP_STORED) as archive:
        texts = {"classes": described, "sources": sources}
        for name, content in texts.items():
            _add(archive, f"{name}.json", json.dumps(content, indent=1).encode())
        for path, data in sorted(pictures.items()):
            _add(archive, path, data)
    file.with_suffix(".new").replace(file)
    shown = {place: len([p for p in pictures if p.startswith(place)]) for place in ("pool", "test")}
    print(f"{dataset}: {len(names)} classes, {shown}, {file.stat().st_size / 1e6:.1f} MB")
    return {source.split(":")[0] for source in sources.values()}


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Fixed dates, so that the same pictures give the same archive."""
    info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
    archive.writestr(info, data)


def licence_table(world: dict[str, Any], used: set[str]) -> str:
    """A Markdown table of the icon sets: set, author, licence, version."""
    lines = ["| set | author | licence | version |", "|---|---|---|---|"]
    for prefix in sorted(used):
        title, author, url, licence, version, _ = world["sets"][prefix]
        by = f"[{author}]({url})" if url else author
        lines.append(f"| {title} (`{prefix}`) | {by} | {licence} | {version or 'not stated'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    args = parser.parse_args()
    world = json.loads((args.data / "world.json").read_text(encoding="utf-8"))
    pixels = np.load(args.data / "pixels.npy", mmap_mode="r")
    used: set[str] = set()
    for dataset, groups in world["datasets"].items():
        used |= write_dataset(dataset, groups, world, pixels)
    pretrained = {row["set"] for row in world["rows"] if row["role"] == "pretrain"}
    text = (ROOT / "tools" / "pocket" / "lists" / "licenses.md").read_text(encoding="utf-8")
    text = text.replace("{demo}", licence_table(world, used))
    text = text.replace("{pretraining}", licence_table(world, pretrained - used))
    (DEMO / "LICENSES.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
