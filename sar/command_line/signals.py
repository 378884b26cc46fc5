"""Signals that end a process: SIGTERM and SIGHUP end a command as Ctrl-C does."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as of shells; other signals have 128 + number."""
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_GRACE = 5.0  # seconds for a process to end by itself


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def listen() -> None:
    """From now on SIGTERM and SIGHUP raise `Ended`, once: what it starts is not interrupted.

    Signals that are ignored (nohup) or that somebody else handles (submitit) are left alone.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _Handler())


def interrupted(error: KeyboardInterrupt, remark: str = "") -> SystemExit:
    """Says that a command was interrupted, followed by `remark`; returns what to raise then."""
    if isinstance(error, Ended):
        said, status = f"interrupted by {signal.Signals(error.number).name}", 128 + error.number
    else:
        said, status = "\ninterrupted", INTERRUPTED  # in a line of its own, below the ^C
    print(f"{said}{remark}", file=sys.stderr, flush=True)
    return SystemExit(status)


def as_worker() -> None:
    """For a child process of multiprocessing: it ends when its parent wants it to, or has ended.

    Ctrl-C and a closed terminal are for the parent to answer; SIGTERM comes from it. If it is
    killed, a thread here notices.
    """
    for number in (signal.SIGINT, *_SIGNALS):
        ours = number is not signal.SIGTERM
        signal.signal(number, signal.SIG_IGN if ours else signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


class _Handler:
    def __init__(self) -> None:
        self.process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a forked child, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        # A signal to the whole group has ended the children as well, which is no error now.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for stream in (1, 2):
            try:
                os.write(stream, b"")
            except OSError:  # the terminal has gone; what is said now goes nowhere
                with contextlib.suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        raise Ended(number)


def _end_with_parent() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)
