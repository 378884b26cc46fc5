"""The documents: README leads to every one, and no link leads nowhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def links(page: Path) -> set[Path]:
    """The files of the repository that a page links to."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    return {(page.parent / link).resolve() for link in found if "://" not in link}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [str(file) for file in links(page) if not file.exists()] == []


def test_readme_leads_to_every_page() -> None:
    readme = ROOT / "README.md"
    assert {page.resolve() for page in PAGES} - links(readme) == {readme.resolve()}
