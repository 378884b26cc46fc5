"""Parts of a long measurement, one after the other while there is time, kept in a JSON file."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from sar.storage.files import write_file

Row = dict[str, Any]
"""Of a table: by column. A part's rows go into the table of its kind."""


class Parts:
    """Runs parts and keeps what they give.

    A part that fails is kept with its traceback, and the next one runs. The file is whole after
    every part, whatever happens then.

    Args:
        path: of the JSON file. about: what it says besides.
        limit: in seconds; no part begins when it is over.
    """

    def __init__(self, path: Path, limit: float, about: Mapping[str, Any]) -> None:
        self.path, self.limit = path, limit
        self.begun = time.perf_counter()
        self.found: dict[str, Any] = {**about, "limit": limit, "parts": []}

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.begun

    def run(self, kind: str, of: str, measure: Callable[[], list[Row]]) -> None:
        """One part: `measure` gives its rows. `of`: what it measures, "" if its kind says it."""
        part: dict[str, Any] = {"kind": kind, "of": of}
        start = self.seconds
        if start >= self.limit:
            part["left_out"] = f"{start:.0f} s of {self.limit:.0f} s were over"
        else:
            try:
                part["rows"] = measure()
            except Exception:  # whatever it is, it belongs into the file
                part["error"] = traceback.format_exc()
            part["seconds"] = round(self.seconds - start, 2)
        self.found["parts"].append(part)
        self.found["seconds"] = round(self.seconds, 2)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, json.dumps(self.found, indent=1, default=str))
        print(f"\n== {kind} {of}".rstrip(), f"({self.seconds:.0f} s so far)", flush=True)
        rows = part.get("rows")
        print(_table(rows) if rows else part.get("left_out") or part.get("error"), flush=True)

    def print_tables(self) -> None:
        """One table for each kind, and what is missing from it."""
        for kind in dict.fromkeys(part["kind"] for part in self.found["parts"]):
            parts = [part for part in self.found["parts"] if part["kind"] == kind]
            print(f"\n## {kind}\n")
            print(_table([row for part in parts for row in part.get("rows", [])]))
            for part in parts:
                if "rows" not in part:
                    reason = part.get("left_out") or part["error"].strip().splitlines()[-1]
                    print(f"{part['of'] or kind}: {reason}")


def _table(rows: list[Row]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g")
