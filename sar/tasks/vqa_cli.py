"""`sarclip vqa ask` and `sarclip vqa evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sar.command_line.commands import PATH, SEED, CommandGroup
from sar.tasks.command_options import (
    images_option,
    mapping_option,
    mappings_option,
    output_option,
    own_clip_option,
    own_lm_option,
    source_argument,
)


@click.group(cls=CommandGroup)
def vqa() -> None:
    """Answer questions about pictures with a frozen language model."""


@vqa.command()
@click.argument("picture", type=PATH)
@click.argument("question")
@mapping_option
@own_clip_option
@own_lm_option
def ask(picture: Path, question: str, folder: Path, clip: str | None, lm: str | None) -> None:
    """Print the answer to QUESTION about PICTURE."""
    from sar.tasks.answering import answers_to
    from sar.tasks.asked import one_question
    from sar.tasks.mapping import load_mappings, prefixes

    asked = one_question(picture, question)
    encoder, model, mappings = load_mappings([folder], clip, lm)
    seen = prefixes(mappings[str(folder)], encoder.images([picture]), model.width)
    print(*answers_to(asked, seen, model))


@vqa.command(
    epilog="SOURCE is demo, demo:base, demo:new, demo:food or so (questions on drawings), or VQA's "
    "questions.json."
)
@source_argument
@images_option
@click.option("--answers", type=PATH, metavar="FILE", help="VQA's annotations of the questions.")
@mappings_option
@own_clip_option
@own_lm_option
@click.option(
    "--shots",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0, 1, 4),
    show_default=True,
    help="Examples in front of a question; may be repeated.",
)
@click.option(
    "--examples", metavar="SOURCE", help="Where they are from. [default: the demo's training pool]"
)
@click.option("--example-answers", type=PATH, metavar="FILE", help="VQA's annotations of these.")
@click.option("--example-images", type=PATH, metavar="DIR", help="Folder of their images.")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Of the demo.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Of drawing examples.")
@output_option
def evaluate(
    source: str,
    images: Path | None,
    answers: Path | None,
    folders: tuple[Path, ...],
    clip: str | None,
    lm: str | None,
    shots: tuple[int, ...],
    examples: str | None,
    example_answers: Path | None,
    example_images: Path | None,
    split: str,
    seed: int,
    output: Path | None,
) -> None:
    """VQA's accuracy, in percent, beside the same language model without images."""
    from tabulate import tabulate

    from sar.storage.files import write_file
    from sar.tasks.answering import answers_to
    from sar.tasks.asked import examples_for, read_asked
    from sar.tasks.mapping import load_mappings, prefixes
    from sar.tasks.vqa_accuracy import by_type

    asked = read_asked(source, split, answers, images)
    pool = None
    if any(shots):
        pool = examples_for(source, split, examples, example_answers, example_images)
    encoder, model, mappings = load_mappings(folders, clip, lm)
    features = encoder.images(asked.images)
    pool_features = encoder.images(pool.images) if pool else None
    rows, content = [], {}
    for name, mapping in {"no image": None, **mappings}.items():
        seen = prefixes(mapping, features, model.width)
        shown = None
        if pool and pool_features is not None:
            shown = (pool, prefixes(mapping, pool_features, model.width))
        for count in shots:
            said = answers_to(asked, seen, model, count, shown, seed)
            scores = by_type(said, asked.answers, asked.types)
            rows.append([name, count, *scores.values()])
            content[f"{name}, {count} shots"] = {"accuracy": scores, "answers": said}
    print(f"{asked.title}: {len(asked.questions)} questions")
    print(tabulate(rows, ["", "shots", *scores], tablefmt="github", floatfmt=".1f"))
    if output:
        described = {"data": asked.title, "language_model": model.name, "models": content}
        write_file(output, json.dumps(described, indent=1) + "\n")
