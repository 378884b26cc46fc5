"""`sarclip novel generate` and `sarclip novel check`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sar.asking.options import KEY_FROM, Asking, asking_options
from sar.asking.order import portions
from sar.asking.subjects import base_and_new, dataset_option, stem
from sar.classes.novel_names import drawn, load_novel, read_names, shipped_datasets
from sar.classes.novel_report import NovelReport, details, longest_prompt, summary
from sar.classes.novel_report import check as check_names
from sar.classes.overlap import KnownClasses
from sar.classes.templates import template_for
from sar.command_line.commands import PATH, POSITIVE, CommandGroup
from sar.errors import ConfigError, DataError
from sar.storage.files import expanded

IMAGENET_COUNT, COUNT = 500, 200


@click.group(cls=CommandGroup)
def novel() -> None:
    """Make and check novel class names."""


_classes = click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Base classes of your own: .txt with one a line, .csv, .json or a classes.yaml.",
)


@novel.command(epilog=KEY_FROM)
@dataset_option
@_classes
@click.option("--count", type=POSITIVE, metavar="N", help="Names. [default: 200, ImageNet 500]")
@asking_options("novel", 50, "Base classes")
def generate(dataset: str | None, classes: Path | None, count: int | None, asking: Asking) -> None:
    """Ask a language model for classes related to the base classes.

    It lies behind an OpenAI-compatible endpoint and is shown the base classes alone. The file is
    written after every answer; the same command goes on where it was stopped.
    """
    from sar.novel.question import SYSTEM, estimate, messages, number_to_ask, quota

    base, _ = base_and_new(dataset, classes)
    title = dataset or stem(classes)
    count = count or (IMAGENET_COUNT if title == "ImageNet" else COUNT)
    if asking.dry_run:
        parts = portions(base, asking.portion)
        cost = estimate(parts, count)
        number = number_to_ask(quota(count, 0, len(parts)))
        question = messages(parts[0], number, [])[1]["content"]
        print(
            f"{SYSTEM}\n\n{question}\n\n"
            f"This is the first of about {cost.requests} requests for {count} novel names from "
            f"{len(base)} base classes, {len(parts[0])} at a time.\nExpected: "
            f"{cost.input_tokens:,} input and {cost.output_tokens:,} output tokens,\nif every "
            "answer can be used and one name in five is left out as a repetition. Estimated "
            "with\n4 characters a token and names as long as the base classes'; a model that "
            "reasons first takes more."
        )
        return
    asking.check()
    from sar.novel.generate import NovelFile

    file = asking.run(NovelFile, title, [base], count, "novel")
    print(f"{file.summary()}. Use it with TRAINER.SAR.NOVEL {file.path}")


def _one_placeholder(
    context: click.Context, parameter: click.Parameter, template: str | None
) -> str | None:
    if template is not None and template.count("{}") != 1:
        raise click.BadParameter(f"{template!r} does not hold one {{}} for the class name")
    return template


@novel.command(
    epilog="Without arguments: all shipped files. TRAINER.SAR.DROP_OVERLAP True trains without the "
    "overlapping names."
)
@click.argument("source", default="shipped")
@dataset_option
@_classes
@click.option("--new", type=PATH, metavar="FILE", help="With --classes: the new classes.")
@click.option(
    "--weights", metavar="CLIP", help="Compare embeddings too: pocket, ViT-B/16 or a file."
)
@click.option(
    "--template",
    callback=_one_placeholder,
    metavar="TEXT",
    help="Hand-crafted prompt. [default: the dataset's own]",
)
@click.option(
    "--context",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Learned context, tokens.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of words:N and mix:N.")
@click.option("--output", type=PATH, metavar="DIR", help="Write novel_report.txt and .json there.")
def check(
    source: str,
    dataset: str | None,
    classes: Path | None,
    new: Path | None,
    weights: str | None,
    template: str | None,
    context: int,
    seed: int,
    output: Path | None,
) -> None:
    """Report on novel class names.

    Counts, duplicates, names that are too long, and the overlap with the true new classes, which is
    reported and never removed here. SOURCE is shipped (the default), words:N, mix:N or a .json,
    .txt or .csv file, as TRAINER.SAR.NOVEL.
    """
    from sar.toolbox.clip import tokenizer

    def report_on(dataset: str | None) -> NovelReport:
        base, others = base_and_new(dataset, classes, new)
        title = dataset or stem(classes)
        prompt = template or template_for(title)
        names = load_novel(source, title, base, seed)
        positions = longest_prompt(tokenizer.encode, context, [prompt])
        unknown = "" if others is not None else "give them with --new"
        known = KnownClasses(title, base, others, unknown)
        report = check_names(names, source, known, positions)
        if weights and names.names and others:
            from sar.novel.nearest import near_by_embedding

            report.embedding_threshold, report.near_by_embedding = near_by_embedding(
                names.names, base, others, prompt, weights
            )
        return report

    if not (dataset or classes):
        dataset = _dataset_of(source)
    if dataset or classes:
        reports = [report_on(dataset)]
        text = details(reports[0])
    else:
        reports = [report_on(shipped) for shipped in shipped_datasets()]
        text = summary(reports) + "\n"
    if output and len(reports) > 1:
        raise ConfigError("--output writes the report of one dataset; give --dataset.")
    print(text, end="")
    if output:
        try:
            reports[0].write(output)
        except OSError as error:
            raise DataError(
                f"The report cannot be written to {output}: {error}. Give another folder."
            ) from error


def _dataset_of(source: str) -> str | None:
    """The dataset that a novel class file is for; None for the shipped files, all of them."""
    if source == "shipped":
        return None
    dataset = None
    if source != "none" and not drawn(source):
        read_names(path := expanded(source))  # raises where it is no file with names
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_text("utf-8-sig"))
            dataset = content.get("dataset") if isinstance(content, dict) else None
    if not isinstance(dataset, str):
        raise ConfigError(f"{source} does not say for which dataset; give --dataset or --classes.")
    return dataset
