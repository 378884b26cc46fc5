"""Copy of standard output in log.txt."""

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from sar.storage.files import make_folder, writing

_ELSEWHERE = "give another --output-dir"
_NOTE = "Note: "


class Logger:
    """Writes to the console and, line by line, to a file; `close` gives the console back.

    A context manager. Progress bars are moved out of the way of what is written. Raises
    `StorageError` where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.console: TextIO = sys.stdout
        self.path = path
        make_folder(path.parent, _ELSEWHERE)
        with writing(path, _ELSEWHERE):
            # Line buffering: a run that is killed leaves every line it printed. Names of files
            # need not be text.
            self.file = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def write(self, text: str) -> int:
        with tqdm.external_write_mode(file=self.console):
            self.console.write(text)
        with writing(self.path):
            return self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        if not self.file.closed:
            with writing(self.path):
                self.file.flush()

    def isatty(self) -> bool:
        return self.console.isatty()

    def close(self) -> None:
        if sys.stdout is self:
            sys.stdout = self.console
        with contextlib.suppress(OSError):  # of a line whose writing has failed already
            self.file.close()
        self.console.flush()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def setup_logger(output: str | None) -> Logger | None:
    """Send standard output to `output`/log.txt too (or to `output` itself if it ends in .txt).

    An existing file is appended to, behind a line that says so: a resumed run continues its log,
    and whoever reads results finds them in the one log.txt. Returns the logger, to be closed.
    Raises `StorageError` where nothing can be written.
    """
    if not output:
        return None
    path = Path(output)
    if path.suffix not in (".txt", ".log"):
        path = path / "log.txt"
    logger = Logger(path)
    continued = path.stat().st_size > 0
    sys.stdout = logger
    if continued:
        logger.file.write(f"\n--- log continued at {time.strftime('%Y-%m-%d %H:%M:%S')} ---\n")
    return logger


@contextlib.contextmanager
def notes_alone() -> Iterator[None]:
    """Prints nothing of what is printed inside but lines "Note: ...", on stderr and at the end."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        notes = [line for line in said.getvalue().splitlines() if line.startswith(_NOTE)]
        for line in dict.fromkeys(notes):
            print(line, file=sys.stderr)
