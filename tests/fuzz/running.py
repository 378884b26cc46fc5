"""Runs a command line of `sarclip` in a forked process, watched, and judges what came of it.

The parent has imported everything already, so that hundreds of commands take seconds each at most;
each begins in the same state, and none can harm the next.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path

from PIL import Image

from sar import cli
from sar.command_line import failures
from sar.host import register
from sar.toolbox.registered import register_builtin

for _module in (
    *("asking.loop", "classifier.fitting", "classifier.measuring", "data_check", "describe.cli"),
    *("inspection.comparison", "results.cli", "tasks.cli", "tasks.recall", "trainer"),
    "toolbox.clip.huggingface",
):
    import_module(f"sar.{_module}")
for _module in ("matplotlib.pyplot", "scipy.ndimage", "torch.utils.tensorboard"):
    import_module(_module)
Image.init()
register_builtin()
register()
os.environ |= {"SAR_CACHE": "off", "XDG_CACHE_HOME": tempfile.gettempdir()}
PATIENCE = 600.0  # seconds by the clock; the machine may have much else to do
WORK = 60.0  # seconds of a processor
MEMORY = 1500  # MiB more than the parent has
_COUNTS = re.compile(
    r"^(?:\* (?:total|correct|accuracy)|# \w+|AAPE: |Temperature|Unknown: |\d+ |This is the first"
    r"|\S+\.png: |\| |(?!epoch).*\S {2,}[+-]?\d).*$",
    re.M,
)


class Verdict(Enum):
    """What a command did with a malformed input."""

    LINE = "one line"
    HARMLESS = "same result"
    ARGUED = "accepted, argued"
    LISTED = "listed as not counted"
    TRACEBACK = "TRACEBACK"
    SILENT = "ACCEPTED SILENTLY"
    UNCLEAR = "NO CLEAR LINE"
    HANG = "HANG"
    MEMORY = "TOO MUCH MEMORY"

    @property
    def good(self) -> bool:
        return self.value.lower() == self.value


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit status (negative: the signal), texts, peak memory in MiB, and
    seconds of a processor.
    """

    status: int
    out: str
    err: str
    peak: int
    seconds: float
    late: bool = False

    @property
    def figures(self) -> tuple[str, ...]:
        """What a run says that counts: numbers of classes and images, results, rows of tables."""
        return tuple(_COUNTS.findall(self.out))


def run(
    argv: Sequence[str],
    folder: Path,
    user: int = 0,
    group: int = 0,
    target: str = "",
    kill_after: float = PATIENCE,
) -> Ended:
    """`sarclip ARGV` in `folder`.

    Args:
        user, group: numbers of the one who runs it, if root asks; the group's is the user's unless
            it is given.
        target: where standard output goes, if not into a file here.
        kill_after: seconds.
    """
    files = [Path(target) if target else folder / ".out", folder / ".err"]
    sys.stdout.flush()
    sys.stderr.flush()
    for file in files:
        if not target or file != files[0]:
            file.touch()
            file.chmod(0o666)
    child = os.fork()
    if not child:
        _become(argv, folder, files, user, group or user)
    late, until = False, time.monotonic() + kill_after
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            late = True
            os.kill(child, signal.SIGKILL)
            until += PATIENCE
        time.sleep(0.01)
    out, err = (
        file.read_text(errors="backslashreplace") if file.is_file() else "" for file in files
    )
    out = out.replace(str(folder), "")  # which is another one each time
    seconds = usage.ru_utime + usage.ru_stime
    status = os.waitstatus_to_exitcode(status)
    return Ended(status, out, err, usage.ru_maxrss // 1024, seconds, late)


def _become(
    argv: Sequence[str], folder: Path, files: Sequence[Path], user: int, group: int
) -> None:
    """The child: never returns."""
    status = failures.UNEXPECTED
    warnings.simplefilter("default")  # in tests they are errors
    try:
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # as a pool's process is
        os.chdir(folder)
        for stream, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_TRUNC), stream)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        if user:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        cli.main(argv)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def judge(ended: Ended, usual: tuple[str, ...], argument: str = "") -> Verdict:
    """What a command made of a malformed input.

    Args:
        usual: the figures of the command with the input as it should be.
        argument: why the input may be accepted although they differ; empty: it may not.
    """
    if ended.late or ended.seconds > WORK:
        return Verdict.HANG
    if ended.peak > _own_peak() + MEMORY:
        return Verdict.MEMORY
    if ended.status not in (0, 1, 2) or "Traceback (most recent" in ended.out + ended.err:
        return Verdict.TRACEBACK
    if ended.status == 0:
        if ended.figures == usual:
            return Verdict.HARMLESS
        if "Not counted (" in ended.out:
            return Verdict.LISTED
        return Verdict.ARGUED if argument else Verdict.SILENT
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    readable = len(lines) == 1 and 20 <= len(lines[0]) <= 2000
    readable |= ended.status == 1 and "Problems:\n- " in ended.out  # of `data check`
    return Verdict.LINE if readable else Verdict.UNCLEAR


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
