"""Running jobs on this machine, several at a time, each in a process of its own.

The processes are forked from a server that has imported torch once, so that a job pays for its
own work only. The launcher stops them, whatever ends it; if it is killed, they end by themselves.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from sar.command_line.signals import as_worker
from sar.protocols.jobs import Job
from sar.protocols.launcher import Ending
from sar.protocols.work import (
    BUSY,
    SARCLIP,
    console_size,
    find_source_tree,
    last_line,
    one_thread,
    work,
)

_PRELOAD = (
    __name__,
    "sar.toolbox.train",
    "sar.toolbox.trainers",
    "sar.trainer",
    "sar.host",
    "torch.utils.tensorboard",
)
"""What every job imports: 2 of the 2.6 CPU seconds that a small job would take."""


def default_workers() -> int:
    """One process per core up to 8 (each takes half a gigabyte); one if there is a GPU to share."""
    if any(Path("/dev").glob("nvidia[0-9]*")) and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)


_GRACE = 10.0  # seconds for a job to end when it is told to


@dataclass
class _Running:
    job: Job
    process: BaseProcess
    slot: str
    started: float
    console_start: int
    told: float | None = None
    """When it was told to end, because its time was over."""

    def end(self) -> None:
        """Tell it to end; one that is stopped, too."""
        self.process.terminate()
        if self.process.pid and hasattr(signal, "SIGCONT"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)


class LocalLauncher:
    """Processes on this machine.

    Args:
        workers: how many at a time; without it one per slot of `gpus`, else `default_workers()`.
        gpus: what a job sees as CUDA_VISIBLE_DEVICES, one of these; empty: as it is set here.
        per_gpu: jobs that share a GPU.
        target: module:function that runs a job's arguments.
        minutes: how long a job may run; it fails then. None: as long as it takes.
    """

    def __init__(
        self,
        workers: int | None = None,
        gpus: Sequence[str] = (),
        per_gpu: int = 1,
        target: str = SARCLIP,
        minutes: float | None = None,
    ) -> None:
        slots = list(gpus) * per_gpu or [""] * (workers or default_workers())
        self._free = slots[:workers]
        self.workers = len(self._free)
        self._target = target
        self._minutes = minutes
        self._running: dict[int, _Running] = {}
        self._context = _context(target)

    @property
    def place(self) -> str:
        """Where the jobs run, in a few words."""
        return f"up to {self.workers} at a time"

    def room(self) -> bool:
        return bool(self._free)

    def start(self, job: Job) -> None:
        slot = self._free.pop(0)
        offset = console_size(job)
        process = self._context.Process(target=_work, args=(self._target, job, slot))
        process.start()
        self._running[process.sentinel] = _Running(job, process, slot, time.monotonic(), offset)

    def ended(self, seconds: float) -> list[Ending]:
        if not self._running:
            time.sleep(seconds)
            return []
        self._end_overdue()
        endings = []
        for sentinel in wait(list(self._running), timeout=seconds):
            assert isinstance(sentinel, int)
            running = self._running.pop(sentinel)
            running.process.join()
            self._free.append(running.slot)
            endings.append(self._ending(running))
        return endings

    def _end_overdue(self) -> None:
        now = time.monotonic()
        limit = 60 * self._minutes if self._minutes else math.inf
        for running in self._running.values():
            if running.told is None and now - running.started > limit:
                running.told = now
                running.end()
            elif running.told is not None and now - running.told > _GRACE:
                running.process.kill()

    def stop(self) -> None:
        for running in self._running.values():
            running.end()
        for running in self._running.values():
            running.process.join(timeout=_GRACE)
            if running.process.is_alive():
                running.process.kill()
                running.process.join()
        self._running.clear()

    def _ending(self, running: _Running) -> Ending:
        status = running.process.exitcode or 0
        seconds = time.monotonic() - running.started
        if status in (0, BUSY):
            return Ending(running.job, seconds, busy=status == BUSY)
        said = last_line(running.job, running.console_start)
        reason = said or f"it ended with status {status} and said nothing"
        if running.told is not None:
            reason = f"ended at its time limit (--time {self._minutes:g}); the next start continues"
        elif status < 0:
            reason = f"killed by {signal.Signals(-status).name}; last words: {reason}"
        return Ending(running.job, seconds, reason)


def _context(target: str) -> ForkServerContext | SpawnContext:
    one_thread()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    find_source_tree()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.partition(":")[0], *_PRELOAD])
    return context


def _work(target: str, job: Job, gpu: str) -> None:
    as_worker()
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA starts, which it has not
    work(target, job)
