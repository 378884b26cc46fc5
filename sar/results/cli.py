"""`sarclip results DIR` (`python tools/parse_results.py DIR`) and `sarclip report DIR`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from sar.command_line.commands import PATH, names
from sar.errors import DataError
from sar.results.collect import Filter, collect
from sar.results.formats import FORMATS, problems_text, to_text, write_files
from sar.results.presentations import compare_with
from sar.results.record import Results
from sar.results.resolution import resolution_table
from sar.results.tables import Table
from sar.settings.extensions import extensible
from sar.storage.files import make_folder, write_file

_Command = TypeVar("_Command", bound=Callable[..., None])


def _of_a_folder(command: _Command) -> _Command:
    """The parameters that both commands have."""
    for name in ("cfg", "trainer", "dataset"):
        option = click.option(f"--{name}", type=names, metavar="A,B", help=f"Only these {name}s.")
        command = option(command)
    ci95 = "95% confidence interval in place of the standard deviation."
    command = click.option("--ci95", is_flag=True, help=ci95)(command)
    return click.argument("directory", type=PATH)(extensible(command))


@click.command(
    epilog="Unfinished, truncated, damaged and incomplete runs are listed, never counted."
)
@_of_a_folder
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="csv and json hold one record per seed.",
)
@click.option(
    "--summary",
    is_flag=True,
    help="csv and json hold one record per number of the tables, with its intervals.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="NAME",
    help="Also the differences of all others to this row; repeatable.",
)
@click.option(
    "--calibration",
    is_flag=True,
    help="Calibration errors, in tables; in csv and json beside the accuracies.",
)
@click.option(
    "--changes",
    is_flag=True,
    help="What is mended and broken of zero-shot CLIP's answers, and how far seeds agree.",
)
@click.option(
    "--resolution",
    is_flag=True,
    help="The smallest difference in H that these results can tell, by the number of seeds.",
)
@click.option(
    "--plots", type=PATH, metavar="FOLDER", help="Also draw the figures, as .png and .pdf."
)
@click.option("--output", type=PATH, metavar="FILE", help="Write there, not to stdout.")
@click.option(
    "--write",
    is_flag=True,
    help="Also write results.md, .csv, .json and summary.json into DIRECTORY.",
)
def results(
    directory: Path,
    ci95: bool,
    dataset: tuple[str, ...] | None,
    trainer: tuple[str, ...] | None,
    cfg: tuple[str, ...] | None,
    form: str,
    summary: bool,
    against: tuple[str, ...],
    calibration: bool,
    changes: bool,
    resolution: bool,
    plots: Path | None,
    output: Path | None,
    write: bool,
) -> None:
    """Rebuild the result tables of an output folder, e.g. output/base2new, from its log.txt files.

    Reads logs of Dassl 0.5 and 0.6 and of sarclip, in the folders of CoOp's scripts.
    """
    found = complete(directory, Filter(dataset or (), trainer or (), cfg or ()))
    accuracies = compare_with(found, against)
    problems = problems_text(found)
    of_seeds = form in ("csv", "json") and not (summary or changes or resolution)
    if of_seeds and found.evaluations:
        print(f"Note: for the {len(found.evaluations)} evaluations: --summary", file=sys.stderr)
    if calibration and form in ("csv", "json") and not summary:
        from sar.results.calibration import with_errors

        text = to_text(with_errors(found), form)
    else:
        tables = _other_tables(found, calibration, changes, resolution) or accuracies
        text = to_text(found, form, ci95, summary or changes or resolution, tables)
    if output:
        make_folder(output.parent)
        write_file(output, text)
    else:
        print(text, end="")
    if problems:
        # Beside a table the list can be read; a file or a pipe gets nothing but the format.
        readable = form == "table" and not output
        print(
            f"\n{problems}" if readable else problems,
            end="",
            file=sys.stdout if readable else sys.stderr,
        )
    if plots:
        from sar.results.plots import write_plots
        from sar.results.presentations import make_plots

        for table in accuracies:
            for path in write_plots(make_plots(table, ci95), plots):
                print(f"wrote {path}", file=sys.stderr)
    if write:
        for path in write_files(found, directory, ci95):
            print(f"wrote {path}", file=sys.stderr)


@click.command()
@_of_a_folder
@click.option("--output", type=PATH, metavar="FILE", help="[default: DIRECTORY/report.html]")
@click.option("--title", default="", help="Headline of the page.")
def report(
    directory: Path,
    ci95: bool,
    dataset: tuple[str, ...] | None,
    trainer: tuple[str, ...] | None,
    cfg: tuple[str, ...] | None,
    output: Path | None,
    title: str,
) -> None:
    """Write one HTML page about an output folder: tables, figures, settings, versions, commands.

    It needs no other file and no network to be read.
    """
    from sar.results.report import write_report

    found = complete(directory, Filter(dataset or (), trainer or (), cfg or ()))
    file = output or directory / "report.html"
    write_report(found, file, title, ci95)
    print(f"wrote {file} ({len(found.records)} results, {len(found.problems)} not counted)")


def _other_tables(
    found: Results, calibration: bool, changes: bool, resolution: bool
) -> list[Table]:
    """Those that are asked for in place of the accuracies."""
    tables: list[Table] = []
    if calibration:
        from sar.results.calibration import calibration_tables

        tables += calibration_tables(found)
    if changes:
        from sar.results.changes import change_tables

        tables += change_tables(found)
    if (calibration or changes) and not tables:
        raise DataError(
            "no test has left its predictions (see docs/results.md), and none was evaluated with "
            "--calibrate; test again"
        )
    return [*tables, resolution_table(found)] if resolution else tables


def complete(directory: Path, only: Filter | None = None) -> Results:
    """The folder's results; an error if there are none, behind the reasons."""
    found = collect(directory, only)
    if not found.records and not found.evaluations:
        print(problems_text(found), end="")
        raise DataError(
            f"no complete result under {directory}; expected log.txt files in train_base/ and "
            "test_new/ (base-to-new) or in {dataset}/{trainer}/{cfg}_{k}shots/, or scores.json of "
            "sarclip evaluate"
        )
    return found
