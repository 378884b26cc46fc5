"""`sarclip novel generate` and `sarclip novel check`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import click

from sar.classes.class_list import is_class_list, read_class_list
from sar.classes.names import class_names, split_base_new
from sar.classes.novel_names import load_novel, parse_words, read_names, shipped_datasets
from sar.classes.novel_report import NovelReport, details, longest_prompt, summary
from sar.classes.novel_report import check as check_names
from sar.classes.overlap import KnownClasses
from sar.classes.templates import template_for
from sar.commands import PATH, POSITIVE, CommandGroup
from sar.errors import ConfigError, DataError
from sar.files import expanded
from sar.signals import interrupted

IMAGENET_COUNT, COUNT = 500, 200


@click.group(cls=CommandGroup)
def novel() -> None:
    """Make and check novel class names."""


_dataset = click.option("--dataset", metavar="NAME", help="A dataset whose class names are known.")
_classes = click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Base classes of your own: .txt with one a line, .csv, .json or a classes.yaml.",
)


@novel.command(
    epilog="The key is read from OPENAI_API_KEY, the endpoint also from OPENAI_BASE_URL."
)
@_dataset
@_classes
@click.option("--model", metavar="NAME", help="As the endpoint knows it.")
@click.option("--base-url", metavar="URL", help="E.g. http://localhost:8000/v1. [default: OpenAI]")
@click.option("--count", type=POSITIVE, metavar="N", help="Names. [default: 200, ImageNet 500]")
@click.option("--output", type=PATH, metavar="FILE", help="[default: novel/<dataset>.json]")
@click.option("--seed", type=int, default=1, show_default=True, help="Sent to the endpoint.")
@click.option(
    "--portion", type=POSITIVE, default=50, show_default=True, help="Base classes in a request."
)
@click.option(
    "--attempts", type=POSITIVE, default=3, show_default=True, help="At one usable answer."
)
@click.option(
    "--rounds",
    type=POSITIVE,
    default=6,
    show_default=True,
    help="Most times through all base classes.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="After 429, 5xx, timeouts.",
)
@click.option(
    "--timeout",
    type=POSITIVE,
    default=120,
    show_default=True,
    help="Seconds for an answer.",
)
@click.option("--dry-run", is_flag=True, help="Print the prompt and the tokens expected.")
def generate(
    dataset: str | None,
    classes: Path | None,
    model: str | None,
    base_url: str | None,
    count: int | None,
    output: Path | None,
    seed: int,
    portion: int,
    attempts: int,
    rounds: int,
    retries: int,
    timeout: int,
    dry_run: bool,
) -> None:
    """Ask a language model for classes related to the base classes.

    It lies behind an OpenAI-compatible endpoint and is shown the base classes alone. The file is
    written after every answer; the same command goes on where it was stopped.
    """
    from sar.novel.question import SYSTEM, estimate, messages, number_to_ask, portions, quota

    base, _ = _base_and_new(dataset, classes)
    title = dataset or _stem(classes)
    count = count or (IMAGENET_COUNT if title == "ImageNet" else COUNT)
    parts = portions(base, portion)
    if dry_run:
        cost = estimate(parts, count)
        number = number_to_ask(quota(count, 0, len(parts)))
        question = messages(parts[0], number, [])[1]["content"]
        print(f"{SYSTEM}\n\n{question}\n")
        print(
            f"This is the first of about {cost.requests} requests for {count} novel names from "
            f"{len(base)} base classes, {len(parts[0])} at a time.\nExpected: "
            f"{cost.input_tokens:,} input and {cost.output_tokens:,} output tokens,\nif every "
            "answer can be used and one name in five is left out as a repetition. Estimated "
            "with\n4 characters a token and names as long as the base classes'; a model that "
            "reasons first takes more."
        )
        return
    if not model:
        raise ConfigError("--model is missing: the name of the model as the endpoint knows it.")

    from tqdm import tqdm

    from sar.novel.endpoint import Endpoint
    from sar.novel.generate import NovelFile, Order
    from sar.novel.generate import generate as ask

    output = output or Path("novel") / f"{title}.json"
    order = Order(title, base, count, output, seed, portion, attempts, rounds)
    endpoint = Endpoint(model, base_url, timeout, retries)
    file = NovelFile(order, model)
    bar = tqdm(total=count, initial=len(file.names), desc=title, unit="name", disable=None)

    def tell(line: str, kept: int) -> None:
        bar.update(kept)
        bar.write(line)

    try:
        with bar:
            ask(order, file, endpoint, tell)
    except KeyboardInterrupt as error:
        remark = f": {file.summary()}; the same command goes on from there"
        raise interrupted(error, remark) from None
    print(f"{file.summary()}. Use it with TRAINER.SAR.NOVEL {output}")


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
@_dataset
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
@click.option("--seed", type=int, default=1, show_default=True, help="Of words:N.")
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
    reported and never removed here. SOURCE is shipped (the default), words:N or a .json, .txt or
    .csv file, as TRAINER.SAR.NOVEL.
    """

    def report_on(dataset: str | None) -> NovelReport:
        base, others = _base_and_new(dataset, classes, new)
        title = dataset or _stem(classes)
        prompt = template or template_for(title)
        names = load_novel(source, title, base, seed)
        positions = longest_prompt(_encode(), context, [prompt])
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


@functools.cache
def _encode() -> Callable[[str], list[int]]:
    from sar.toolbox.clip import tokenizer

    encode: Callable[[str], list[int]] = tokenizer.encode
    return encode


def _stem(classes: Path | None) -> str:
    return classes.stem if classes else ""


def _base_and_new(
    dataset: str | None, classes: Path | None, new_file: Path | None = None
) -> tuple[list[str], list[str] | None]:
    """Base classes, and new ones as far as they are known."""
    if (dataset is None) == (classes is None):
        found = "none" if classes is None else "both"
        raise click.UsageError(f"expected one of --dataset and --classes; found {found}")
    if dataset is not None:
        if new_file:
            raise ConfigError(
                "--new goes with --classes; the new classes of a --dataset are known."
            )
        return split_base_new(_class_names(dataset))
    assert classes is not None
    if is_class_list(classes):
        listed = read_class_list(classes)
        base, new = listed.base, listed.new or None
    else:
        names, made_from = read_names(classes)  # a file with novel names says from which
        base, new = [name for name in made_from or names if name.strip()], None
    if not base:
        raise DataError(f"{classes} holds no class name; expected the base classes.")
    if new_file:
        is_list = is_class_list(new_file)
        new = read_class_list(new_file).new if is_list else read_names(new_file)[0]
    return base, new


def _class_names(dataset: str) -> list[str]:
    try:
        return class_names(dataset)
    except DataError as unknown:
        from sar.toolbox.data.datasets import demo

        if dataset.removesuffix("Kin") not in demo.DATASETS:
            raise DataError(f"{unknown} Give the base classes with --classes.") from None
        return demo.class_names(dataset)


def _dataset_of(source: str) -> str | None:
    """The dataset that a novel class file is for; None for the shipped files, all of them."""
    if source == "shipped":
        return None
    dataset = None
    if source != "none" and not parse_words(source):
        read_names(path := expanded(source))  # raises where it is no file with names
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_text("utf-8-sig"))
            dataset = content.get("dataset") if isinstance(content, dict) else None
    if not isinstance(dataset, str):
        raise ConfigError(f"{source} does not say for which dataset; give --dataset or --classes.")
    return dataset
