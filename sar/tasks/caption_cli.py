"""`sarclip caption train`, `sarclip caption write` and `sarclip caption evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sar.command_line.commands import PATH, POSITIVE, SEED, CommandGroup, Finite
from sar.tasks.command_options import (
    SOURCE,
    clip_option,
    images_option,
    learned_option,
    mapping_option,
    mappings_option,
    output_option,
    own_clip_option,
    own_lm_option,
    source_argument,
    test_split_option,
    train_split_option,
)


@click.group(cls=CommandGroup)
def caption() -> None:
    """Say what pictures show: a frozen language model behind one linear layer."""


@caption.command(epilog=SOURCE)
@source_argument
@images_option
@clip_option
@click.option(
    "--lm",
    default="tiny",
    show_default=True,
    metavar="NAME",
    help="tiny, or a causal model of transformers by name or folder.",
)
@train_split_option
@learned_option
@click.option(
    "--aape",
    type=PATH,
    metavar="DIR",
    help="Of `retrieval train`, or of a training of AAPE: the layer sees its embedding, too.",
)
@click.option("--tokens", type=POSITIVE, default=4, show_default=True, help="Of the prefix.")
@click.option("--epochs", type=POSITIVE, default=15, show_default=True)
@click.option("--batch", type=POSITIVE, default=8, show_default=True, help="Images.")
@click.option("--lr", type=Finite(min=0, min_open=True), default=0.01, show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
def train(
    source: str,
    images: Path | None,
    clip: str,
    lm: str,
    split: str,
    output: Path,
    aape: Path | None,
    **settings: object,
) -> None:
    """Train one linear layer from an image's feature to a prefix of the language model."""
    from sar.tasks.adapter import load_adapter
    from sar.tasks.captioned import read_captioned
    from sar.tasks.encoder import Encoder
    from sar.tasks.language_models import load_language_model
    from sar.tasks.mapping import Settings, save_mapping
    from sar.tasks.mapping import train as learn

    model, encoder = load_language_model(lm), Encoder(clip)
    data = read_captioned(source, split, images)
    generator = load_adapter(aape, encoder).generator if aape else None
    print(f"{data.title}: {len(data.images)} images")
    chosen = Settings(**settings)  # type: ignore[arg-type]
    mapping = learn(encoder.images(data.images), data.captions, model, chosen, generator)
    save_mapping(mapping, output, encoder, model, chosen, data.title)
    print(f"Use it with: sarclip caption write PICTURE --mapping {output}")


@caption.command()
@click.argument("pictures", type=PATH, nargs=-1, required=True, metavar="PICTURE...")
@mapping_option
@own_clip_option
@own_lm_option
def write(pictures: tuple[Path, ...], folder: Path, clip: str | None, lm: str | None) -> None:
    """Print a caption for each picture, behind its path and a tab."""
    from sar.tasks.answering import captions_of
    from sar.tasks.mapping import load_mappings, prefixes

    encoder, model, mappings = load_mappings([folder], clip, lm)
    seen = prefixes(mappings[str(folder)], encoder.images(pictures), model.width)
    for picture, text in zip(pictures, captions_of(seen, model), strict=True):
        print(f"{picture}\t{text}")


@caption.command(epilog=SOURCE)
@source_argument
@images_option
@mappings_option
@own_clip_option
@own_lm_option
@test_split_option
@output_option
def evaluate(
    source: str,
    images: Path | None,
    folders: tuple[Path, ...],
    clip: str | None,
    lm: str | None,
    split: str,
    output: Path | None,
) -> None:
    """CIDEr-D, CLIPScore and RefCLIPScore, times 100, beside captions that saw no image."""
    from tabulate import tabulate

    from sar.storage.files import write_file
    from sar.tasks.answering import captions_of
    from sar.tasks.caption_scores import caption_scores, reference_features
    from sar.tasks.captioned import read_captioned
    from sar.tasks.mapping import load_mappings, prefixes

    data = read_captioned(source, split, images)
    encoder, model, mappings = load_mappings(folders, clip, lm)
    features, told = encoder.images(data.images), reference_features(data, encoder)
    rows, content = [], {}
    for name, mapping in {"no image": None, **mappings}.items():
        texts = captions_of(prefixes(mapping, features, model.width), model)
        scores = caption_scores(texts, data, features, told, encoder)
        rows += [[name, domain, *figures.values()] for domain, figures in scores.items()]
        captions = dict(zip(map(str, data.images), texts, strict=True))
        content[name] = {"scores": scores, "captions": captions}
    print(f"{data.title}: {len(data.images)} images")
    headers = ["", "images", *next(iter(scores.values()))]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".1f"))
    if output:
        described = {"data": data.title, "language_model": model.name, "models": content}
        write_file(output, json.dumps(described, indent=1) + "\n")
