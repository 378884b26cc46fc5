"""Writes what a record holds into docs/reliability.md.

python tests/fuzz/page.py RECORD INPUTS
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / place) for place in ("tests/fuzz", "tests/support", "tools")]

import machine  # noqa: E402
import measure  # noqa: E402
from marks import write_between  # noqa: E402
from record import Record, Trial  # noqa: E402
from running import MEMORY, WORK, Verdict  # noqa: E402
from tabulate import tabulate  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SHOWN = (Verdict.LINE, Verdict.HARMLESS, Verdict.LISTED, Verdict.ARGUED)
TITLES = {"input": "malformed inputs", "fault": "faults of the machine", "kill": "kills"}


def figures(record: Record, inputs: int) -> str:
    """Markdown; `inputs`: how many malformed ones there are."""
    everything = {"input": inputs, "fault": len(machine.FAULTS), "kill": 100}
    rows = [
        [TITLES[kind], number, *_counts(record.of(kind))]
        for kind, number in everything.items()
        if record.of(kind)
    ]
    head = ["", "there are", "tried", *(verdict.value for verdict in SHOWN), "faults"]
    tried = record.of(measure.KIND)
    longest = max(tried, key=lambda trial: trial.seconds)
    largest = max(tried, key=lambda trial: trial.peak)
    commits = Counter(trial.commit for trial in record.trials.values())
    said = ", ".join(f"{commit} ({count})" for commit, count in commits.most_common())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = (
        f"Seed {measure.SEED}, Python {version}, PyTorch on the CPU, as root; trials by commit: "
        f"{said}. No input took more than {longest.seconds:.1f} s of a processor "
        f"(`{longest.what}`) or {largest.peak} MiB (`{largest.what}`); more than {WORK:.0f} s, or "
        f"{MEMORY} MiB beside what the process had before, would be a fault."
    )
    return f"{fill(text, 110)}\n\n{tabulate(rows, head, tablefmt='github')}\n"


def _counts(trials: Sequence[Trial]) -> list[int]:
    counts = Counter(trial.verdict for trial in trials)
    known = [counts[verdict.value] for verdict in SHOWN]
    return [len(trials), *known, sum(not trial.good for trial in trials)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/reliability.md's figures.")
    parser.add_argument("record", type=Path)
    parser.add_argument("inputs", type=int, help="how many there are, as measure.py says")
    given = parser.parse_args()
    write_between(PAGE, BEGIN, END, figures(Record(given.record), given.inputs))


if __name__ == "__main__":
    main()
