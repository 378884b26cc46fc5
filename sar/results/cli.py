"""`sarclip results DIR` (`python tools/parse_results.py DIR`) and `sarclip report DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sar.errors import DataError
from sar.results.collect import Filter, Results, collect
from sar.results.formats import FORMATS, problems_text, to_text, write_files
from sar.results.tables import make_tables


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of an output folder.

    Raises:
        DataError: the folder holds no complete result, or a file cannot be written.
    """
    args = _parser().parse_args(argv)
    results = _complete(args)
    problems = problems_text(results)
    text = to_text(results, args.format, args.ci95)
    if args.output:
        with _writing(args.output):
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if problems:
        # Beside a table the list can be read; a file or a pipe gets nothing but the format.
        readable = args.format == "table" and not args.output
        print(
            f"\n{problems}" if readable else problems,
            end="",
            file=sys.stdout if readable else sys.stderr,
        )
    if args.plots:
        from sar.results.plots import make_plots, write_plots

        with _writing(args.plots):
            for table in make_tables(results):
                for path in write_plots(make_plots(table, args.ci95), args.plots):
                    print(f"wrote {path}", file=sys.stderr)
    if args.write:
        with _writing(args.directory):
            for path in write_files(results, args.directory, args.ci95):
                print(f"wrote {path}", file=sys.stderr)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def _complete(args: argparse.Namespace) -> Results:
    """The folder's results; an error if there are none, behind the reasons."""
    results = collect(args.directory, Filter(args.dataset, args.trainer, args.cfg))
    if not results.records:
        print(problems_text(results), end="")
        raise DataError(
            f"no complete result under {args.directory}; expected log.txt files in train_base/ and "
            "test_new/ (base-to-new) or in {dataset}/{trainer}/{cfg}_{k}shots/"
        )
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarclip results",
        description="Rebuild the result tables of an output folder from its log.txt files alone. "
        "Reads logs of Dassl 0.5 and 0.6 and of sarclip, in the folders of CoOp's scripts.",
        epilog="Unfinished, truncated, damaged and incomplete runs are listed, never counted.",
    )
    _add_common(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="csv and json hold one record per seed (default: table)",
    )
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="also draw the figures, as .png and .pdf"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, not to stdout")
    parser.add_argument(
        "--write",
        action="store_true",
        help="also write results.md, results.csv, results.json into DIRECTORY",
    )
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarclip report",
        description="Write one HTML page with the tables, figures, settings, versions, data seen "
        "and commands of an output folder. It needs no other file and no network to be read.",
    )
    _add_common(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: DIRECTORY/report.html"
    )
    parser.add_argument("--title", default="", help="headline of the page")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="output folder, e.g. output/base2new")
    parser.add_argument(
        "--ci95",
        action="store_true",
        help="95%% confidence interval in place of the standard deviation",
    )
    for name in ("dataset", "trainer", "cfg"):
        parser.add_argument(
            f"--{name}", type=_names, default=(), metavar="A,B", help=f"only these {name}s"
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def report(argv: Sequence[str] | None = None) -> None:
    """Write the HTML report of an output folder.

    Raises:
        DataError: the folder holds no complete result, or a file cannot be written.
    """
    from sar.results.report import write_report

    args = _report_parser().parse_args(argv)
    results = _complete(args)
    file = args.output or args.directory / "report.html"
    with _writing(file):
        write_report(results, file, args.title, args.ci95)
    print(f"wrote {file} ({len(results.records)} results, {len(results.problems)} not counted)")
