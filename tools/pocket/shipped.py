"""The drawings that are shipped: what the archives of the demo datasets hold."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sar.toolbox.data.datasets import demo


@dataclass
class Shipped:
    """Drawings of one part of a dataset's archive, in the order of their paths."""

    pixels: np.ndarray  # (N, 48, 48, 4) uint8
    labels: list[int]
    sources: list[str]  # icon set and name


def drawings(dataset: str, part: str) -> Shipped:
    """part: "pool", "test" or a style."""
    with zipfile.ZipFile(demo.ARCHIVES / f"{dataset}.zip") as archive:
        sources: dict[str, str] = json.loads(archive.read("sources.json"))
        paths = sorted(path for path in sources if path.startswith(f"{part}/"))
        pixels = [
            np.asarray(Image.open(io.BytesIO(archive.read(path))).convert("RGBA")) for path in paths
        ]
    labels = [int(path.split("/")[1]) for path in paths]
    return Shipped(np.stack(pixels), labels, [sources[path] for path in paths])
