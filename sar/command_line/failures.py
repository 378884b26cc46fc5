"""What a command says when it fails: one line; about a fault in the program a file tells more."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shlex
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import sar
from sar.errors import SARError, UsageError, one_line
from sar.storage.files import FULL, reason, user_folder, write_file

WRONG, MISUSED, UNEXPECTED = 1, 2, 70
"""Exit statuses: the user can set it right; the command line itself is wrong; a fault in here."""
DEBUG = "SAR_DEBUG"
"""Environment variable; set to 1, the traceback of any error is shown."""


def report(error: BaseException) -> int:
    """Says in one line on standard error how a command failed; returns its exit status."""
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    status = UNEXPECTED
    if isinstance(error, SARError):
        status = MISUSED if isinstance(error, UsageError) else WRONG
        said = " ".join(str(error).splitlines())
    elif isinstance(error, OSError) and error.filename is not None:
        path = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        status, said = WRONG, f"cannot use {path}: {reason(error, str(path))}"
    elif isinstance(error, OSError) and error.errno in (errno.EPIPE, *FULL):
        # Standard output; what is left in its buffer has nowhere to go.
        with contextlib.suppress(OSError, ValueError):  # it need not be a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return WRONG  # whoever read it has gone, and wants no more
        status, said = WRONG, f"cannot write standard output: {reason(error, '.')}"
    elif isinstance(error, MemoryError) or ("memory" in one_line(error) and _of_torch(error)):
        status, said = WRONG, "the memory is not enough; give the command more, or smaller data"
    else:
        what = f"{type(error).__name__}: {one_line(error)}"
        said = f"{what} (this is a fault in sarclip; {_kept(error)})"
    print(f"error: {_short(said)}", file=sys.stderr)
    return status


def quiet_threads() -> None:
    """A thread whose writing fails says nothing: whoever needs what it writes fails, too."""
    usual = threading.__excepthook__

    def hook(caught: threading.ExceptHookArgs) -> None:
        if not issubclass(caught.exc_type, OSError) or os.environ.get(DEBUG) == "1":
            usual(caught)

    threading.excepthook = hook


def _short(text: str, most: int = 1500) -> str:
    """A text without its middle if it is too long to be read: values in it may be of any length."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


def _of_torch(error: BaseException) -> bool:
    """Whether torch says that there is no memory left, on a GPU or on the CPU."""
    return isinstance(error, RuntimeError) and "allocate" in one_line(error)


def _kept(error: BaseException) -> str:
    """Keeps what is needed to find a fault; returns where it is kept, or where it happened."""
    text = (
        f"sarclip {sar.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{shlex.join(sys.argv)}\nin {os.getcwd()}\n\n{''.join(traceback.format_exception(error))}"
    )
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (user_folder() / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / name, text)
        except OSError:
            continue
        return f"all about it is in {folder / name}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"it happened in {frame.filename}, line {frame.lineno}; {DEBUG}=1 shows more"
