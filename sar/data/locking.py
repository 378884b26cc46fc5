"""Keeps processes that write the same files apart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(folder: str | os.PathLike[str], name: str = "") -> Iterator[None]:
    """Processes that do this with one folder (and name) wait for each other.

    Nothing is locked where `folder` is missing or read-only.
    """
    from huggingface_hub.utils import WeakFileLock

    with contextlib.ExitStack() as stack:
        if os.path.isdir(folder) and os.access(folder, os.W_OK):
            stack.enter_context(WeakFileLock(Path(folder, f".{name}lock")))
        yield
