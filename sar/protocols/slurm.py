"""Running jobs on a SLURM cluster, through submitit.

Jobs that are ready at the same time become one job array. A job that is preempted or reaches its
time limit is queued again and continues from its last checkpoint.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sar.command_line.extras import extra
from sar.errors import ConfigError, SARError, one_line
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

_PROGRAMS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
"""What submitit and this file call, here and on the nodes."""
_LOOK = 2.0  # seconds between two questions to the scheduler
_REQUEUED = -1  # exit status with which submitit leaves a job that is queued again
_GRACE = 15.0  # seconds a shared file system may need to show what a job wrote last


@dataclass(frozen=True)
class _Submitted:
    job: Job
    handle: Any  # submitit's
    started: float
    console_start: int
    lost: float | None = None
    """Time since which the scheduler does not know the job and there is no result either."""


class SlurmLauncher:
    """Jobs on the cluster whose `sbatch` is found here.

    Args:
        folder: for submitit's own files; on a file system that the nodes share.
        parameters: submitit's for SLURM: partition, time (minutes), array_parallelism, mem,
            gpus_per_node, cpus_per_task, account, qos, ...

    Raises:
        ConfigError: there is no SLURM here, or submitit knows no such parameter.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], target: str = SARCLIP) -> None:
        if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
            raise ConfigError(
                f"--launcher slurm needs SLURM's {', '.join(missing)}, not to be found on the "
                "search path; start this on a login node of the cluster, or use --launcher local"
            )
        with extra("slurm"):
            import submitit

        find_source_tree()
        one_thread()
        # A training of any length continues as often as its time limit ends it.
        self._executor = submitit.SlurmExecutor(folder.resolve(), max_num_timeout=1000)
        try:
            self._executor.update_parameters(job_name="sarclip", **parameters)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--slurm: {one_line(error)}") from error
        self._target = target
        self._ready: list[Job] = []
        self._queued: list[_Submitted] = []
        self._looked = time.monotonic()

    @property
    def place(self) -> str:
        """Where the jobs run, in a few words."""
        return "on SLURM"

    def room(self) -> bool:
        return True  # the scheduler decides

    def start(self, job: Job) -> None:
        self._ready.append(job)

    def ended(self, seconds: float) -> list[Ending]:
        self._submit()
        until = time.monotonic() + seconds
        while not (endings := self._endings()) and time.monotonic() < until:
            time.sleep(0.1)
        return endings

    def stop(self) -> None:
        if self._queued:
            subprocess.run(["scancel", *(queued.handle.job_id for queued in self._queued)])
        self._queued.clear()

    def _submit(self) -> None:
        if not self._ready:
            return
        try:
            with self._executor.batch():
                handles = [self._executor.submit(_Task(self._target, job)) for job in self._ready]
        except Exception as error:  # sbatch's own words are in it
            raise SARError(f"sbatch refused the jobs: {one_line(error, 2000)}") from error
        now = time.monotonic()
        self._queued += [
            _Submitted(job, handle, now, console_size(job))
            for job, handle in zip(self._ready, handles, strict=True)
        ]
        self._ready = []

    def _endings(self) -> list[Ending]:
        now = time.monotonic()
        if look := bool(self._queued) and now - self._looked >= _LOOK:
            self._looked = now
            known = _known_jobs()
        endings, rest = [], []
        for queued in self._queued:
            if queued.handle.paths.result_pickle.exists():
                endings.append(_ending(queued, now))
            elif not look or known is None or queued.handle.job_id in known:
                rest.append(replace(queued, lost=None) if look else queued)
            elif now - (queued.lost or now) < _GRACE:
                rest.append(replace(queued, lost=queued.lost or now))
            else:
                endings.append(Ending(queued.job, now - queued.started, _fate(queued)))
        self._queued = rest
        return endings


@dataclass(frozen=True)
class _Task:
    """The call that a node makes; pickled by submitit."""

    target: str
    job: Job

    def __call__(self) -> int:
        """The exit status of the job's process."""
        streams = os.dup(1), os.dup(2)
        try:
            work(self.target, self.job)
        except SystemExit as end:
            if end.code == _REQUEUED:
                raise
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            return 1
        finally:  # what submitit says afterwards is no word of the job's
            sys.stdout.flush()
            sys.stderr.flush()
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream, number)
        return 0

    def checkpoint(self) -> Any:
        """Called before the time limit ends the job: queue it again, as it is."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _ending(queued: _Submitted, now: float) -> Ending:
    seconds = now - queued.started
    try:
        status = queued.handle.result()
    except Exception as error:  # submitit could not even call the task
        return Ending(queued.job, seconds, str(error).strip().splitlines()[-1])
    failure = ""
    if status not in (0, BUSY):
        said = last_line(queued.job, queued.console_start)
        failure = said or f"it ended with status {status} and said nothing"
    return Ending(queued.job, seconds, failure, busy=status == BUSY)


def _known_jobs() -> set[str] | None:
    """Ids of this user's jobs that wait or run; None if the scheduler does not answer."""
    found = subprocess.run(
        ["squeue", "--me", "--noheader", "--array", "--format=%i"], capture_output=True, text=True
    )
    return set(found.stdout.split()) if found.returncode == 0 else None


def _fate(queued: _Submitted) -> str:
    """Why a job is gone without having ended by itself."""
    found = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", queued.handle.job_id],
        capture_output=True,
        text=True,
    )
    words = dict(word.split("=", 1) for word in found.stdout.split() if "=" in word)
    state = words.get("JobState", "gone from the queue")
    said = last_line(queued.job, queued.console_start) or "none"
    return f"ended by SLURM: {state}; last words: {said}"
