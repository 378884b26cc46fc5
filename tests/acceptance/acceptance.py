"""The SAR plug-in inside untouched checkouts: every method of records.py, on its toolboxes.

Usage: acceptance.py HOSTS [METHOD ...] [--write]   HOSTS is the folder with the checkouts and
Dassl.pytorch. Prints a table; --write puts its rows into that of docs/hosts.md, which keeps the
others. What does not hold is said on standard error, and the exit status is 1.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from checks import CHECKS, REFUSED, Check, Tried, checks_of, trials
from gradient import GRADIENT
from records import HOSTS, Host
from tabulate import tabulate
from world import ROOT, RunFailed, World

DOCUMENT = ROOT / "docs" / "hosts.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
TITLES = [check.title for check in CHECKS]
YES, NO, NOT_ASKED = "yes", "**no**", "-"


def say(*words: object) -> None:
    """What is going on, on standard error."""
    print(*words, file=sys.stderr, flush=True)


def row(world: World, host: Host) -> list[str]:
    """The cells of a method, over all of its toolboxes; nothing more is asked after a failure."""
    tried = trials(world, host)
    cells = {check.title: NOT_ASKED for check in CHECKS}
    for check in checks_of(host):
        if not (asked := [trial for trial in tried if check.when(trial)]):
            continue
        try:
            held = [holds(trial, check) for trial in asked]
            cells[check.title] = YES if all(held) else NO
        except RunFailed as error:
            say(f"{host.trainer}: {check.title}: {error}")
            cells[check.title] = NO
            break
    means = host.means
    if host.refused:
        verdict = cells.pop(REFUSED.title)
        means = f'refused{"" if verdict == YES else " " + verdict}: "{host.refused}": {means}'
    elif cells["Gradient"] == YES:
        cells["Gradient"] = f"{max(trial.training[GRADIENT]['error'] for trial in tried):.0e}"
    toolboxes = ", ".join(trial.toolbox for trial in tried)
    return [host.trainer, host.repository, toolboxes, means, *cells.values()]


def holds(trial: Tried, check: Check) -> bool:
    """Whether a claim holds; says so."""
    begun = time.monotonic()
    held = check.holds(trial)
    taken = time.monotonic() - begun
    say(f"{trial.host.trainer} on {trial.toolbox}: {check.title}: {held} ({taken:.0f} s)")
    return held


def table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table and its legend."""
    header = ["X", "Checkout", "Dassl", "What SAR_X means here: aligned are", *TITLES]
    legend = "\n".join(f"- *{check.title}*: {check.claim}." for check in CHECKS)
    return f"{tabulate(rows, header, tablefmt='github')}\n\n{legend}\n"


def merged(document: str, rows: Sequence[Sequence[str]]) -> str:
    """The document with `rows` in its table, in place of those of the same methods."""
    before, rest = document.split(BEGIN)
    written, after = rest.split(END)
    lines = [line for line in written.splitlines() if line.startswith("| ")][1:]  # without header
    old = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    known = {cells[0]: cells for cells in (*old, *rows)}
    ordered = [known[name] for name in HOSTS if name in known]
    return f"{before}{BEGIN}\n{table(ordered)}{END}{after}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hosts", type=Path, help="folder with the checkouts and Dassl.pytorch")
    parser.add_argument("methods", nargs="*", default=list(HOSTS), help="default: all")
    parser.add_argument("--write", action="store_true", help=f"put it into {DOCUMENT.name}")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(args.hosts.resolve(), Path(folder))
        for name in args.methods:
            if missing := world.missing(HOSTS[name]):
                say(f"{name} is skipped: {missing}")
                continue
            rows.append(row(world, HOSTS[name]))
            if args.write:
                document = DOCUMENT.read_text(encoding="utf-8")
                DOCUMENT.write_text(merged(document, rows), encoding="utf-8")
    text = table(rows)
    print(text)
    if NO in text:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
