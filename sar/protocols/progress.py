"""What a user sees while jobs run: lines, and on a terminal a live table below them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from sar.protocols.jobs import Job


class Progress(AbstractContextManager["Progress"]):
    """Says what happens, one line each; counts, and shows the running jobs on a terminal."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.total = total
        self._console = console or Console(file=sys.stdout)
        self._started: dict[Path, float] = {}
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task("jobs", total=total)
        self._failed = 0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line, above the table if there is one."""
        if self._live:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def count(self, ok: bool) -> None:
        """One more job has ended."""
        self._failed += not ok
        failed = f", [red]{self._failed} failed[/red]" if self._failed else ""
        self._bar.update(self._task, advance=1, description=f"jobs{failed}")

    def show(self, running: Iterable[Job]) -> None:
        """Draw the table of the running jobs."""
        now, running = time.monotonic(), list(running)
        self._started = {job.output: self._started.get(job.output, now) for job in running}
        if self._live:
            self._live.update(Group(self._table(running, now), self._bar), refresh=True)

    def _table(self, running: Iterable[Job], now: float) -> Table:
        table = Table("running", "progress", "time", box=None, header_style="dim", pad_edge=False)
        for job in running:
            seconds = int(now - self._started[job.output])
            table.add_row(job.title, job.progress(), f"{seconds // 60}:{seconds % 60:02}")
        return table
