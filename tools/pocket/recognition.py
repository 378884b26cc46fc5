"""Zero-shot accuracy of the pocket CLIP on what pretraining never saw.

    python tools/pocket/recognition.py [--weights sar/toolbox/clip/pocket.safetensors]

Drawings stand upright on white; the prompt is "a photo of a {}.". Which number is which: `test`
drawings come from icon sets never seen, `pool` drawings from sets of which other drawings were
seen, `name` drawings show things that were never paired with a picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rendering import upright
from torch import Tensor
from torch.nn import functional as F

from sar.encoding import encode_tokens
from sar.toolbox.clip import tokenize
from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION, load_pocket

ROOT = Path(__file__).resolve().parents[2]


@torch.no_grad()
def text_features(model: Any, names: list[str]) -> Tensor:
    """(N, D) features of "a photo of a {}."."""
    tokens = tokenize([f"a photo of a {name}." for name in names])
    tokens = tokens[:, : int(tokens.argmax(-1).max()) + 1]
    return torch.cat(
        [
            F.normalize(encode_tokens(model, model.token_embedding, part), dim=-1)
            for part in tokens.split(500)
        ]
    )


@torch.no_grad()
def image_features(model: Any, pixels: np.ndarray) -> Tensor:
    """(N, D) features of RGBA pictures (N, S, S, 4)."""
    pictures = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    return torch.cat(
        [
            F.normalize(model.encode_image(upright(part, RESOLUTION)), dim=-1)
            for part in pictures.split(500)
        ]
    )


def accuracy(image: Tensor, text: Tensor, target: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 in percent."""
    top = (image @ text.T).topk(min(5, len(text)), 1).indices == target[:, None]
    return 100 * top[:, 0].float().mean().item(), 100 * top.any(1).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    parser.add_argument("--weights", type=Path, default=POCKET_FILE)
    args = parser.parse_args()
    world = json.loads((args.data / "world.json").read_text(encoding="utf-8"))
    pixels = np.load(args.data / "pixels.npy", mmap_mode="r")
    names, rows = world["names"], world["rows"]
    model = load_pocket(args.weights)
    text = text_features(model, names)
    held = torch.tensor([names.index(name) for name in world["held_names"]])
    for role in ("test", "pool", "name"):
        numbers = [n for n, row in enumerate(rows) if row["role"] == role]
        image = image_features(model, pixels[numbers])
        target = torch.tensor([rows[n]["concept"] for n in numbers])
        one, five = accuracy(image, text, target)
        print(f"{role}: {len(numbers)} drawings")
        print(f"  all {len(names)} names: {one:.1f} (top 5: {five:.1f})")
        if role == "name":
            place = {int(name): number for number, name in enumerate(held)}
            among = torch.tensor([place[int(t)] for t in target])
            one, five = accuracy(image, text[held], among)
            print(f"  among the {len(held)} names held out: {one:.1f} (top 5: {five:.1f})")
            continue
        figures = []
        for dataset, groups in world["datasets"].items():
            classes = torch.tensor([names.index(name) for group in groups for name in group])
            inside = torch.isin(target, classes)
            place = {int(name): number for number, name in enumerate(classes)}
            among = torch.tensor([place[int(t)] for t in target[inside]])
            figures.append(accuracy(image[inside], text[classes], among)[0])
            print(f"  {dataset}: {len(classes)} classes, {len(among)} drawings: {figures[-1]:.1f}")
        print(f"  mean: {sum(figures) / len(figures):.1f}")


if __name__ == "__main__":
    main()
