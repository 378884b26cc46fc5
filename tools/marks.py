"""Pages of which one piece is written by a program, the rest by hand."""

from __future__ import annotations

from pathlib import Path

from sar.errors import DataError
from sar.storage.files import write_file


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between two marks, lines of their own. DataError if the page lacks one."""
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise DataError(f"{page} lacks the marks {begin} and {end}; put them where the text goes")
    write_file(page, f"{before}{begin}\n{text}{end}{after}")
