"""Columns of a CSV table, found by what its first row calls them."""

import csv
from collections.abc import Collection

CLASS = frozenset({"name", "names", "class", "classname", "class_name"})
"""What a column of class names may be called."""


def named_columns(text: str, *wanted: Collection[str]) -> list[tuple[str, ...]]:
    """The wanted cells of every row behind the first that is long enough for them.

    Args:
        wanted: for each column the names that it may have, letter case apart.

    Raises:
        ValueError: the first row has none or several of a column's names.
        csv.Error: the text is no table.
    """
    header, *rows = [row for row in csv.reader(text.splitlines()) if row] or [[]]
    titles = [cell.strip().lower() for cell in header]
    places = []
    for names in wanted:
        known = [place for place, title in enumerate(titles) if title in names]
        if len(known) != 1:
            raise ValueError(
                f"its first row is {','.join(header)[:80]!r}, in which none or several of "
                f"{', '.join(sorted(names))} are a column"
            )
        places += known
    return [tuple(row[place] for place in places) for row in rows if len(row) > max(places)]
