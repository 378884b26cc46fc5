"""Zero-shot accuracy of the pocket CLIP on what pretraining never saw.

    python tools/pocket/recognition.py [--weights sar/toolbox/clip/pocket.safetensors]
    python tools/pocket/recognition.py --shipped   # without build_data.py: the archives alone

Drawings stand upright on white; the prompt is "a photo of a {}.". Which number is which: `test`
drawings come from icon sets never seen, `pool` drawings from sets of which other drawings were
seen, `name` drawings show things that were never paired with a picture. Of the pool also the scale
of the logits at which it is most likely; train.py gives that one to the weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rendering import upright
from scale import fitted_scale
from shipped import drawings
from torch import Tensor
from torch.nn import functional as F

from sar.encoding import encode_tokens
from sar.toolbox.clip import tokenize
from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION, load_pocket
from sar.toolbox.data.datasets import demo

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


def accuracy(cosines: Tensor, target: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 in percent."""
    top = cosines.topk(min(5, cosines.shape[1]), 1).indices == target[:, None]
    return 100 * top[:, 0].float().mean().item(), 100 * top.any(1).float().mean().item()


Answers = Mapping[str, tuple[Tensor, Tensor]]
"""Of each demo dataset: cosines (N, C) of drawings and the names of its classes, targets (N,)."""


def answers_to(
    image: Tensor, text: Tensor, target: Tensor, world: Mapping[str, Any]
) -> dict[str, tuple[Tensor, Tensor]]:
    """`Answers`, of features (N, D) of drawings and (M, D) of all names, and their names (N,)."""
    found = {}
    for dataset, groups in world["datasets"].items():
        classes = torch.tensor([world["names"].index(name) for group in groups for name in group])
        inside = torch.isin(target, classes)
        among = (target[inside, None] == classes).float().argmax(1)
        found[dataset] = image[inside] @ text[classes].T, among
    return found


def shipped_answers(model: Any, part: str) -> dict[str, tuple[Tensor, Tensor]]:
    """`Answers` to the drawings of a part of the archives."""
    found = {}
    for dataset in demo.DATASETS:
        shown = drawings(dataset, part)
        text = text_features(model, demo.class_names(dataset))
        cosines = image_features(model, shown.pixels) @ text.T
        found[dataset] = cosines, torch.tensor(shown.labels)
    return found


def pool_scale(model: Any, data: Path) -> float:
    """The scale of the logits at which pool drawings are most likely among their classes."""
    world = json.loads((data / "world.json").read_text(encoding="utf-8"))
    numbers = [n for n, row in enumerate(world["rows"]) if row["role"] == "pool"]
    image = image_features(model, np.load(data / "pixels.npy", mmap_mode="r")[numbers])
    target = torch.tensor([world["rows"][n]["concept"] for n in numbers])
    text = text_features(model, world["names"])
    return fitted_scale(answers_to(image, text, target, world).values())


def mean_accuracy(answers: Answers) -> float:
    """In percent, over datasets."""
    return statistics.mean(accuracy(*answer)[0] for answer in answers.values())


def report(role: str, answers: Answers) -> None:
    for dataset, (cosines, target) in answers.items():
        one, _ = accuracy(cosines, target)
        print(f"  {dataset}: {cosines.shape[1]} classes, {len(target)} drawings: {one:.1f}")
    print(f"  mean: {mean_accuracy(answers):.1f}")
    if role == "pool":
        print(f"  most likely at scale {fitted_scale(answers.values()):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    parser.add_argument("--weights", type=Path, default=POCKET_FILE)
    parser.add_argument("--shipped", action="store_true", help="the archives of the demo datasets")
    args = parser.parse_args()
    model = load_pocket(args.weights)
    if args.shipped:
        for role in ("test", "pool"):
            print(f"{role}:")
            report(role, shipped_answers(model, role))
        return
    world = json.loads((args.data / "world.json").read_text(encoding="utf-8"))
    pixels = np.load(args.data / "pixels.npy", mmap_mode="r")
    names, rows = world["names"], world["rows"]
    text = text_features(model, names)
    held = torch.tensor([names.index(name) for name in world["held_names"]])
    for role in ("test", "pool", "name"):
        numbers = [n for n, row in enumerate(rows) if row["role"] == role]
        image = image_features(model, pixels[numbers])
        target = torch.tensor([rows[n]["concept"] for n in numbers])
        one, five = accuracy(image @ text.T, target)
        print(f"{role}: {len(numbers)} drawings")
        print(f"  all {len(names)} names: {one:.1f} (top 5: {five:.1f})")
        if role == "name":
            among = (target[:, None] == held).float().argmax(1)
            one, five = accuracy(image @ text[held].T, among)
            print(f"  among the {len(held)} names held out: {one:.1f} (top 5: {five:.1f})")
        else:
            report(role, answers_to(image, text, target, world))


if __name__ == "__main__":
    main()
