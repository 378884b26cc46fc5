"""Running jobs on this machine, several at a time, each in a process of its own.

The processes are forked from a server that has imported torch once, so that a job pays for its
own work only. They ignore Ctrl-C (the launcher stops them) and end when the launcher ends.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from sar.protocols.jobs import COMMAND_FILE, CONSOLE_FILE, Job, State, try_lock

SARCLIP = "sar.cli:main"
"""module:function that is called with a job's arguments."""
_PRELOAD = (
    __name__,
    "sar.toolbox.train",
    "sar.toolbox.trainers",
    "sar.trainer",
    "sar.host",
    "torch.utils.tensorboard",
)
"""What every job imports: 2 of the 2.6 CPU seconds that a small job would take."""
_BUSY = 75  # exit status: another process took the job's lock first
_POLL = 1.0  # seconds between looks at jobs that another launcher runs


def default_workers() -> int:
    """One process per core up to 8 (each takes half a gigabyte); one if there is a GPU to share."""
    if any(Path("/dev").glob("nvidia[0-9]*")) and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `ok`, and what there is to say about it."""

    job: Job
    ok: bool
    message: str


@dataclass(frozen=True)
class _Running:
    job: Job
    process: BaseProcess
    started: float
    console_start: int


class LocalRunner:
    """Runs jobs in the order of their needs; `run` may be called once."""

    def __init__(self, jobs: Sequence[Job], workers: int, target: str = SARCLIP) -> None:
        self.waiting = list(jobs)
        self.workers = workers
        self.target = target
        self.outcomes: dict[Path, Outcome] = {}
        self._running: dict[int, _Running] = {}
        self._elsewhere: set[Path] = set()
        self._context = _context(target)
        self._total = len(jobs)

    def run(self) -> list[Outcome]:
        """Run everything that is not finished; failures stop only the jobs that need them.

        Raises:
            KeyboardInterrupt: after all processes have been stopped; all work is resumable.
        """
        with tqdm(
            total=self._total, unit="job", disable=not sys.stderr.isatty(), dynamic_ncols=True
        ) as bar:
            try:
                while self.waiting or self._running:
                    self._start_ready()
                    bar.update(len(self.outcomes) - bar.n)
                    bar.set_postfix_str(", ".join(r.job.title for r in self._running.values()))
                    self._collect_ended()
                bar.update(len(self.outcomes) - bar.n)
            finally:
                self._stop()
        return list(self.outcomes.values())

    def _start_ready(self) -> None:
        for job in list(self.waiting):
            if job.needs and job.needs not in self.outcomes:
                continue
            if job.needs and not self.outcomes[job.needs].ok:
                self._settle(job, False, f"not run: {self.outcomes[job.needs].job.title} failed")
                continue
            state = job.state()
            if state is State.FINISHED:
                self._settle(job, True, f"finished earlier, skipped: {job.output}")
            elif state is State.CONFLICT:
                self._settle(job, False, job.conflict())
            elif state is State.LOCKED:
                if job.output not in self._elsewhere:
                    self._elsewhere.add(job.output)
                    _say(f"{job.title}: {state.value}, waiting for it")
            elif len(self._running) < self.workers:
                if state is State.UNFINISHED:
                    _say(f"{job.title}: {state.value}")
                self._start(job)

    def _start(self, job: Job) -> None:
        _say(job.command())
        console = job.output / CONSOLE_FILE
        offset = console.stat().st_size if console.exists() else 0
        process = self._context.Process(target=_work, args=(self.target, job))
        process.start()
        self.waiting.remove(job)
        self._running[process.sentinel] = _Running(job, process, time.monotonic(), offset)

    def _collect_ended(self) -> None:
        if not self._running:
            if self.waiting:
                time.sleep(_POLL)
            return
        for sentinel in wait(list(self._running), timeout=_POLL):
            assert isinstance(sentinel, int)
            ended = self._running.pop(sentinel)
            ended.process.join()
            status = ended.process.exitcode or 0
            if status == _BUSY:
                self.waiting.insert(0, ended.job)
                continue
            run = ended.job.result()
            if status == 0 and run.score:
                seconds = time.monotonic() - ended.started
                self._settle(ended.job, True, f"{run.score.accuracy:.2f} % ({seconds:.0f} s)")
            else:
                reason = _last_line(ended) if status else run.reason
                if status < 0:
                    reason = f"killed by {signal.Signals(-status).name}; last words: {reason}"
                console = ended.job.output / CONSOLE_FILE
                self._settle(ended.job, False, f"failed: {reason} (see {console})")

    def _settle(self, job: Job, ok: bool, message: str) -> None:
        if job in self.waiting:
            self.waiting.remove(job)
        self.outcomes[job.output] = Outcome(job, ok, message)
        _say(f"[{len(self.outcomes)}/{self._total}] {job.title}: {message}")

    def _stop(self) -> None:
        for running in self._running.values():
            running.process.terminate()
        for running in self._running.values():
            running.process.join(timeout=10)
            if running.process.is_alive():
                running.process.kill()
                running.process.join()
        self._running.clear()


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def _last_line(ended: _Running) -> str:
    """The last thing a job said in this attempt: of a Python error, its message."""
    try:
        with (ended.job.output / CONSOLE_FILE).open("rb") as file:
            file.seek(ended.console_start)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _context(target: str) -> ForkServerContext | SpawnContext:
    # One thread each: the processes fill the cores, and results do not depend on their number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    source = Path(__file__).resolve().parents[2]
    if (source / "pyproject.toml").is_file():
        # The server starts with Python's own search path; it must find this source tree too.
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if str(source) not in paths:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), *paths)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.partition(":")[0], *_PRELOAD])
    return context


def _work(target: str, job: Job) -> None:
    """The process of one job: lock, say everything into console.txt, call the target."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    job.output.mkdir(parents=True, exist_ok=True)
    lock = try_lock(job.output)
    if lock is None:
        sys.exit(_BUSY)
    if job.result().score:
        return  # another launcher finished it between the look and the lock
    with (job.output / CONSOLE_FILE).open("ab") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    (job.output / COMMAND_FILE).write_text(job.command() + "\n", encoding="utf-8")
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(job.argv())


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        wait([launcher.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
