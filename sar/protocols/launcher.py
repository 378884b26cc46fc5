"""Starts jobs when what they need is there, and says what came of them; launchers run them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sar.protocols.jobs import Job, State
from sar.protocols.progress import Progress
from sar.results.folders import CONSOLE_FILE

POLL = 1.0  # seconds between looks at jobs that another launcher runs


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `ok`, and what there is to say about it."""

    job: Job
    ok: bool
    message: str


@dataclass(frozen=True)
class Ending:
    """The end of a job as its launcher saw it; whether it succeeded is read from its folder."""

    job: Job
    seconds: float
    failure: str = ""
    """Why it failed; empty if it ended by itself and without an error."""
    busy: bool = False
    """It did nothing, because another process holds the job's folder."""


class Launcher(Protocol):
    """A place that runs jobs. What a job prints goes to console.txt in its folder."""

    @property
    def place(self) -> str:
        """Where the jobs run, in a few words."""
        ...

    def room(self) -> bool:
        """Whether another job can start now."""
        ...

    def start(self, job: Job) -> None:
        """Start a job without waiting for it."""
        ...

    def ended(self, seconds: float) -> Sequence[Ending]:
        """Jobs that have ended since the last call; wait for one at most so long."""
        ...

    def stop(self) -> None:
        """End what still runs."""
        ...


def run(jobs: Sequence[Job], launcher: Launcher, progress: Progress) -> list[Outcome]:
    """Run everything that is not finished; a failure stops only the jobs that need it.

    Raises:
        KeyboardInterrupt: after all processes have been stopped; all work is resumable.
    """
    return _Dispatcher(jobs, launcher, progress).run()


class _Dispatcher:
    def __init__(self, jobs: Sequence[Job], launcher: Launcher, progress: Progress) -> None:
        self._waiting = {job.output: job for job in jobs}
        self._running: dict[Path, Job] = {}
        self._outcomes: dict[Path, Outcome] = {}
        self._elsewhere: dict[Path, str] = {}
        self._states: dict[Path, tuple[Hashable, State]] = {}
        """Of waiting jobs: the mark of the folder, and the state that was read then."""
        self._launcher = launcher
        self._progress = progress

    def run(self) -> list[Outcome]:
        try:
            while self._waiting or self._running:
                self._start_ready()
                self._progress.show(self._running.values())
                for ending in self._launcher.ended(POLL) if self._waiting or self._running else ():
                    self._take(ending)
        finally:
            self._launcher.stop()
        return list(self._outcomes.values())

    def _start_ready(self) -> None:
        for job in list(self._waiting.values()):
            if job.needs and job.needs not in self._outcomes:
                continue
            if job.needs and not self._outcomes[job.needs].ok:
                needed = self._outcomes[job.needs]
                why = needed.message.partition(" (see ")[0]
                self._settle(job, False, f"not run, because {needed.job.title}: {why}")
                continue
            state = self._state(job)
            if state is State.FINISHED:
                self._settle(job, True, f"finished earlier, skipped: {job.output}")
            elif state is State.CONFLICT:
                self._settle(job, False, job.conflict())
            elif state is State.LOCKED:
                if self._elsewhere.get(job.output) != (where := job.occupied()):
                    self._elsewhere[job.output] = where
                    self._progress.say(f"{job.title}: waits, {where}")
            elif self._launcher.room():
                if state in (State.UNFINISHED, State.OUTDATED):
                    self._progress.say(f"{job.title}: {state.value}")
                self._progress.say(job.command())
                self._running[job.output] = self._waiting.pop(job.output)
                self._launcher.start(job)

    def _state(self, job: Job) -> State:
        """A job's state; while nothing can start, read again only where its folder has changed."""
        mark = job.mark()
        known = self._states.get(job.output)
        if known is None or known[0] != mark or self._launcher.room():
            known = self._states[job.output] = (mark, job.state())
        return known[1]

    def _take(self, ending: Ending) -> None:
        job = self._running.pop(ending.job.output)
        self._progress.show(self._running.values())
        if ending.busy:
            self._waiting = {job.output: job, **self._waiting}
            return
        run = job.result()
        if run.score and not ending.failure:
            self._settle(job, True, f"{run.score.accuracy:.2f} % ({ending.seconds:.0f} s)")
        else:
            reason = ending.failure or run.reason
            self._settle(job, False, f"failed: {reason} (see {job.output / CONSOLE_FILE})")

    def _settle(self, job: Job, ok: bool, message: str) -> None:
        self._waiting.pop(job.output, None)
        self._outcomes[job.output] = Outcome(job, ok, message)
        self._progress.count(ok)
        done = f"[{len(self._outcomes)}/{self._progress.total}]"
        self._progress.say(f"{done} {job.title}: {message}")
