"""`sarclip novel generate` and `sarclip novel check`."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from sar.classes.class_list import is_class_list, read_class_list
from sar.classes.names import class_names, split_base_new
from sar.classes.novel_names import load_novel, parse_words, read_names, shipped_datasets
from sar.classes.novel_report import NovelReport, check, details, longest_prompt, summary
from sar.classes.overlap import KnownClasses
from sar.classes.templates import template_for
from sar.errors import ConfigError, DataError

IMAGENET_COUNT, COUNT = 500, 200


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one of the two commands.

    Raises:
        SARError: what the user can set right. `check` raises none for overlaps, which it reports.
    """
    args = _parser().parse_args(argv)
    {"generate": _generate, "check": _check}[args.command](args)


def _generate(args: argparse.Namespace) -> None:
    from sar.novel.question import SYSTEM, estimate, messages, number_to_ask, portions, quota

    base, _ = _classes(args)
    dataset = args.dataset or args.classes.stem
    count = args.count or (IMAGENET_COUNT if dataset == "ImageNet" else COUNT)
    parts = portions(base, args.portion)
    if args.dry_run:
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
    if not args.model:
        raise ConfigError("--model is missing: the name of the model as the endpoint knows it.")

    from tqdm import tqdm

    from sar.novel.endpoint import Endpoint
    from sar.novel.generate import NovelFile, Order, generate

    output = args.output or Path("novel") / f"{dataset}.json"
    order = Order(dataset, base, count, output, args.seed, args.portion, args.attempts, args.rounds)
    endpoint = Endpoint(args.model, args.base_url, args.timeout, args.retries)
    file = NovelFile(order, args.model)
    bar = tqdm(total=count, initial=len(file.names), desc=dataset, unit="name", disable=None)

    def tell(line: str, kept: int) -> None:
        bar.update(kept)
        bar.write(line)

    try:
        with bar:
            generate(order, file, endpoint, tell)
    except KeyboardInterrupt:
        print(f"\nInterrupted: {file.summary()}. The same command goes on from there.")
        raise SystemExit(130) from None
    print(f"{file.summary()}. Use it with TRAINER.SAR.NOVEL {output}")


def _check(args: argparse.Namespace) -> None:
    if not (args.dataset or args.classes):
        args.dataset = _dataset_of(args.source)
    if args.dataset or args.classes:
        reports = [_report(args)]
        text = details(reports[0])
    else:
        reports = []
        for args.dataset in shipped_datasets():
            reports.append(_report(args))
        text = summary(reports) + "\n"
    if args.output and len(reports) > 1:
        raise ConfigError("--output writes the report of one dataset; give --dataset.")
    print(text, end="")
    if args.output:
        try:
            reports[0].write(args.output)
        except OSError as error:
            raise DataError(
                f"The report cannot be written to {args.output}: {error}. Give another folder."
            ) from error


@functools.cache
def _encode() -> Callable[[str], list[int]]:
    from sar.toolbox.clip import SimpleTokenizer

    encode: Callable[[str], list[int]] = SimpleTokenizer().encode
    return encode


def _report(args: argparse.Namespace) -> NovelReport:
    base, new = _classes(args)
    dataset = args.dataset or args.classes.stem
    template = args.template or template_for(dataset)
    novel = load_novel(args.source, dataset, base, args.seed)
    positions = longest_prompt(_encode(), args.context, [template])
    unknown = "" if new is not None else "give them with --new"
    known = KnownClasses(dataset, base, new, unknown)
    report = check(novel, args.source, known, positions)
    if args.weights and novel.names and new:
        from sar.novel.nearest import near_by_embedding

        report.embedding_threshold, report.near_by_embedding = near_by_embedding(
            novel.names, base, new, template, args.weights
        )
    return report


def _classes(args: argparse.Namespace) -> tuple[list[str], list[str] | None]:
    """Base classes, and new ones as far as they are known."""
    new_file = getattr(args, "new", None)
    if not args.classes:
        if new_file:
            raise ConfigError(
                "--new goes with --classes; the new classes of a --dataset are known."
            )
        return split_base_new(_class_names(args.dataset))
    if is_class_list(args.classes):
        found = read_class_list(args.classes)
        base, new = found.base, found.new or None
    else:
        names, made_from = read_names(args.classes)  # a file with novel names says from which
        base, new = [name for name in made_from or names if name.strip()], None
    if not base:
        raise DataError(f"{args.classes} holds no class name; expected the base classes.")
    if new_file:
        is_list = is_class_list(new_file)
        new = read_class_list(new_file).new if is_list else read_names(new_file)[0]
    return base, new


def _class_names(dataset: str) -> list[str]:
    try:
        return class_names(dataset)
    except DataError as unknown:
        from sar.toolbox.data.datasets import demo

        if not (demo.ARCHIVES / f"{dataset}.zip").is_file():
            raise DataError(f"{unknown} Give the base classes with --classes.") from None
        return demo.class_names(dataset)


def _dataset_of(source: str) -> str | None:
    """The dataset that a novel class file is for; None for the shipped files, all of them."""
    if source == "shipped":
        return None
    dataset = None
    if source != "none" and not parse_words(source):
        read_names(path := Path(source).expanduser())  # raises where it is no file with names
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_text("utf-8-sig"))
            dataset = content.get("dataset") if isinstance(content, dict) else None
    if not isinstance(dataset, str):
        raise ConfigError(f"{source} does not say for which dataset; give --dataset or --classes.")
    return dataset


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def _template(text: str) -> str:
    if text.count("{}") != 1:
        raise argparse.ArgumentTypeError(f"{text!r} does not hold one {{}} for the class name")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarclip novel", description="Make and check novel class names."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser(
        "generate",
        help="ask a language model for classes related to the base classes",
        description="Ask a language model behind an OpenAI-compatible endpoint for classes related "
        "to the base classes. It is shown these alone. The file is written after every answer; the "
        "same command goes on where it was stopped.",
        epilog="The key is read from OPENAI_API_KEY, the endpoint also from OPENAI_BASE_URL.",
    )
    _add_classes(generate, required=True)
    add = generate.add_argument
    add("--model", metavar="NAME", help="as the endpoint knows it")
    add("--base-url", metavar="URL", help="e.g. http://localhost:8000/v1 (default: OpenAI)")
    add("--count", type=_at_least(1), metavar="N", help="names (default: 200, ImageNet 500)")
    add("--output", type=Path, metavar="FILE", help="default: novel/<dataset>.json")
    add("--seed", type=int, default=1, help="sent to the endpoint (default: %(default)s)")
    add("--portion", type=_at_least(1), default=50, help="base classes in a request (%(default)s)")
    add("--attempts", type=_at_least(1), default=3, help="at one usable answer (%(default)s)")
    add(
        "--rounds",
        type=_at_least(1),
        default=6,
        help="most times through all base classes (%(default)s)",
    )
    add("--retries", type=_at_least(0), default=6, help="after 429, 5xx, timeouts (%(default)s)")
    add(
        "--timeout",
        type=_at_least(1),
        default=120,
        help="seconds without a sign of the endpoint (%(default)s)",
    )
    add("--dry-run", action="store_true", help="print the prompt and the tokens expected")

    checking = commands.add_parser(
        "check",
        help="counts, duplicates, names that are too long, overlap with the new classes",
        description="Report on novel class names: counts, duplicates, names that are too long, and "
        "the overlap with the true new classes, which is reported and never removed here.",
        epilog="Without arguments: all shipped files. TRAINER.SAR.DROP_OVERLAP True trains without "
        "the overlapping names.",
    )
    _add_classes(checking, required=False)
    add = checking.add_argument
    add(
        "source",
        nargs="?",
        default="shipped",
        metavar="SOURCE",
        help="shipped (default), words:N or a .json, .txt or .csv file, as TRAINER.SAR.NOVEL",
    )
    add("--new", type=Path, metavar="FILE", help="with --classes: the new classes")
    add("--weights", metavar="CLIP", help="compare embeddings too: pocket, ViT-B/16 or a file")
    add(
        "--template",
        type=_template,
        metavar="TEXT",
        help="hand-crafted prompt (default: the dataset's own)",
    )
    add(
        "--context",
        type=_at_least(0),
        default=16,
        help="learned context, tokens (default: %(default)s)",
    )
    add("--seed", type=int, default=1, help="of words:N (default: %(default)s)")
    add("--output", type=Path, metavar="DIR", help="write novel_report.txt and .json there")
    return parser


def _add_classes(parser: argparse.ArgumentParser, required: bool) -> None:
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--dataset", metavar="NAME", help="a dataset whose class names are known")
    group.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="base classes of your own: .txt with one a line, .csv, .json or a classes.yaml",
    )
