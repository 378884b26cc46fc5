"""`sarclip train` of the miniature world in a process of its own, to be stopped at a moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("toolbox_mini.py")


class Started(subprocess.Popen[str]):
    """A process that does not outlive a failing test, though it is stopped."""

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        if kind:
            self.kill()
        super().__exit__(kind, *more)


def start(moment: str, sent: str, argv: list[str], **environment: str) -> Started:
    """`sarclip train`, which gets the signal `sent` at the moment epoch,batch."""
    return Started(
        [sys.executable, str(SCRIPT), *argv],
        env={
            **os.environ,
            "SAR_TEST_KILL": moment,
            "SAR_TEST_SIGNAL": sent,
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
