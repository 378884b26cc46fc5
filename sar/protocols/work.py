"""The process of one job."""

from __future__ import annotations

import importlib
import os
import sys

from sar.protocols.jobs import CONSOLE_FILE, Job, try_lock

SARCLIP = "sar.cli:main"
"""module:function that is called with a job's arguments."""
BUSY = 75  # exit status: another process took the job's lock first


def work(target: str, job: Job) -> None:
    """Lock the job's folder, say everything into console.txt, call the target, end the process."""
    job.output.mkdir(parents=True, exist_ok=True)
    lock = try_lock(job.output)
    if lock is None:
        sys.exit(BUSY)
    if job.result().score:
        return  # another launcher finished it between the look and the lock
    with (job.output / CONSOLE_FILE).open("ab") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    job.record()
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(job.argv())
