"""`sarclip retrieval train` and `sarclip retrieval evaluate`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sar.command_line.commands import PATH, POSITIVE, SEED, CommandGroup, Finite
from sar.tasks.command_options import (
    SOURCE,
    clip_option,
    images_option,
    learned_option,
    source_argument,
    test_split_option,
    train_split_option,
)

if TYPE_CHECKING:
    from sar.tasks.captioned import Captioned

_COMBINATIONS = click.Choice(["add", "replace"])


@click.group(cls=CommandGroup)
def retrieval() -> None:
    """Find captions by images, and images by captions."""


@retrieval.command(epilog=SOURCE)
@source_argument
@images_option
@clip_option
@train_split_option
@learned_option
@click.option("--combine", type=_COMBINATIONS, default="add", show_default=True)
@click.option(
    "--aggregator",
    type=click.Choice(["attention", "mlp", "mean", "random"]),
    default="attention",
    show_default=True,
)
@click.option("--distill-weight", type=Finite(min=0), default=1.0, show_default=True)
@click.option("--reward-weight", type=Finite(min=0), default=1.0, show_default=True)
@click.option("--epochs", type=POSITIVE, default=10, show_default=True)
@click.option("--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Images.")
@click.option("--lr", type=Finite(min=0, min_open=True), default=3e-4, show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
def train(
    source: str,
    images: Path | None,
    clip: str,
    split: str,
    output: Path,
    **settings: object,
) -> None:
    """Train AAPE on images and their captions, which are the reference prompts.

    CLIP is frozen: a generator learns to give, from an image alone, what its captions say.
    """
    from sar.storage.files import make_folder
    from sar.tasks.adapter import Settings, save_adapter
    from sar.tasks.adapter import train as learn
    from sar.tasks.captioned import read_captioned
    from sar.tasks.encoder import Encoder

    data = read_captioned(source, split, images)
    make_folder(output, "give another --output")
    encoder = Encoder(clip)
    print(_shown(data))
    chosen = Settings(**settings)  # type: ignore[arg-type]
    adapter = learn(encoder.features(data), chosen, encoder.scale)
    save_adapter(adapter, output, encoder, chosen, data.title)
    print(f"Use it with: sarclip retrieval evaluate SOURCE --clip {clip} --aape {output}")


@retrieval.command(epilog=SOURCE)
@source_argument
@images_option
@clip_option
@test_split_option
@click.option(
    "--aape",
    "trained",
    type=PATH,
    multiple=True,
    metavar="DIR",
    help="Of `retrieval train`, or of a training of AAPE; may be repeated.",
)
@click.option(
    "--combine",
    type=_COMBINATIONS,
    default="add",
    show_default=True,
    help="How a classifier's AAPE is used.",
)
@click.option("--output", type=PATH, metavar="FILE", help="Write the figures as JSON, too.")
def evaluate(
    source: str,
    images: Path | None,
    clip: str,
    split: str,
    trained: tuple[Path, ...],
    combine: str,
    output: Path | None,
) -> None:
    """Recall at 1, 5 and 10 both ways and their sum, of CLIP and of trained AAPEs.

    Captions are looked for among all captions of the split, images among all images.
    """
    import torch
    from tabulate import tabulate

    from sar.storage.files import write_file
    from sar.tasks.adapter import load_adapter
    from sar.tasks.captioned import read_captioned
    from sar.tasks.encoder import Encoder
    from sar.tasks.recall import KS, recalls

    data = read_captioned(source, split, images)
    encoder = Encoder(clip)
    adapters = {str(folder): load_adapter(folder, encoder, combine) for folder in trained}
    features = encoder.features(data)
    found = {"CLIP": recalls(features.images, features.captions, features.owner)}
    for name, adapter in adapters.items():
        with torch.no_grad():
            adapted = adapter(features.images)
        found[f"AAPE {name}"] = recalls(adapted, features.captions, features.owner)
    print(_shown(data))
    headers = [f"{way} R@{k}" for way in ("i2t", "t2i") for k in KS]
    rows = [[name, *r.image_to_text, *r.text_to_image, r.rsum] for name, r in found.items()]
    print(tabulate(rows, ["", *headers, "rSum"], tablefmt="github", floatfmt=".1f"))
    if output:
        content = {
            "data": data.title,
            "clip": clip,
            "images": len(data.images),
            "captions": len(features.captions),
            "recall": {
                name: {**dataclasses.asdict(r), "rsum": r.rsum} for name, r in found.items()
            },
        }
        write_file(output, json.dumps(content, indent=1) + "\n")


def _shown(data: Captioned) -> str:
    return f"{data.title}: {len(data.images)} images, {sum(map(len, data.captions))} captions"
