"""Pages of which one piece is written by a program, the rest by hand."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between two marks, lines of their own. ValueError if the page lacks one."""
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{page} lacks the marks {begin} and {end}; put them where the text goes")
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
