"""Jobs are forked from a process that leaves to them what only they can begin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

PROBE = """
import importlib, os, torch
from sar.protocols import local
for name in (local.SARCLIP.partition(":")[0], *local._PRELOAD):
    importlib.import_module(name)
if (child := os.fork()) == 0:
    os._exit(torch.cuda._is_in_bad_fork())
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="a PyTorch without CUDA")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_jobs_can_use_a_gpu() -> None:
    """Who asks for a GPU before the fork takes it from the jobs; seen without one, too."""
    assert subprocess.run([sys.executable, "-c", PROBE], check=False).returncode == 0
