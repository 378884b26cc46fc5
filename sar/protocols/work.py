"""The process of one job."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

from sar.errors import BusyError
from sar.protocols.jobs import Job
from sar.results.folders import CONSOLE_FILE
from sar.storage.files import make_folder, read_end
from sar.storage.locks import own_folder

SARCLIP = "sar.cli:main"
"""module:function that is called with a job's arguments."""
CHECK = "sar.single_run:check"
"""module:function that is called with the arguments of a `sarclip train`, to check its settings.

It returns a line on what is to be known of them, or an empty one."""
BUSY = 75  # exit status: another process took the job's lock first


def one_thread() -> None:
    """One thread for each process to come: together they fill the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def find_source_tree() -> None:
    """Lets processes to come import this source tree, which is not on Python's own search path."""
    source = Path(__file__).resolve().parents[2]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if (source / "pyproject.toml").is_file() and str(source) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), *paths)))


def console_size(job: Job) -> int:
    """Size in bytes of what earlier attempts at a job have printed."""
    console = job.output / CONSOLE_FILE
    return console.stat().st_size if console.exists() else 0


def last_line(job: Job, start: int) -> str:
    """The last thing a job said behind `start` bytes: of a Python error, its message.

    Empty if it said nothing.
    """
    lines = read_end(job.output / CONSOLE_FILE, start=start).splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def work(target: str, job: Job) -> None:
    """Lock the job's folder, say everything into console.txt, call the target, end the process."""
    make_folder(job.output)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(own_folder(job.output))
        except BusyError:
            sys.exit(BUSY)
        if job.result().score:
            if not job.is_outdated():
                return  # another launcher finished it between the look and the lock
            job.set_aside()
        with (job.output / CONSOLE_FILE).open("ab") as console:
            os.dup2(console.fileno(), 1)
            os.dup2(console.fileno(), 2)
        job.record()
        module, _, function = target.partition(":")
        getattr(importlib.import_module(module), function)(job.argv())
