"""Figures in the pages' prose and in tables written by hand are those of experiments/."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TWO, FIVE, SEVEN = "Average of 2", "Average of 5", "Average of 7"


class Figure:
    """A number of a record. In a sentence `{x}` is its mean, `{x:+}` the same with its sign,
    `{x:±}` its deviation and `{x:i}` its interval; `{x:all}` are sign, deviation and interval."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry

    def __format__(self, form: str) -> str:
        mean, std, low, high = (self.entry[key] for key in ("mean", "std", "low", "high"))
        forms = {
            "": lambda: f"{mean:.1f}",
            "+": lambda: f"{mean:+.1f}",
            "±": lambda: "" if std is None else f"± {std:.1f}",
            "i": lambda: f"[{low:+.1f}, {high:+.1f}]",
            "own": lambda: f"{self} {self:±}".strip(),  # an accuracy
            "gain": lambda: f"{self:+} {self:i}",
            "all": lambda: f"{self:+} {self:±} {self:i}",
        }
        return forms[form]()


@cache
def entries(record: str, file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "experiments" / record / file).read_text())
    return found


def figure(record: str, label: str, column: str = "h", group: str = "") -> Figure:
    """Of the average over datasets, or of another group; of an ablation the group is the study."""
    (found, *_) = [
        entry
        for entry in entries(record, "summary.json")
        if (entry["label"], entry["column"]) == (label, column)
        and (entry["group"] == group if group else "verage of " in entry["table"] + entry["group"])
    ]
    return Figure(found)


def words(page: str) -> str:
    """A page's text in one line."""
    return " ".join((ROOT / page).read_text("utf-8").split())


NO_LOSS = {
    "alternatives": (
        ("CoOp", "SAR_CoOp", "half"),
        "ZeroshotCLIP | CoOp | SAR_CoOp | 20 epochs | 10 epochs | half | quarter | ShrunkCoOp0.75 "
        "| ShrunkCoOp0.5 | MeanCoOp | LogitsCoOp0.25 | LogitsCoOp1 | LogitsCoOp4 "
        "| trained as tested",
    ),
    "alternatives-report": (
        ("CoOp", "SAR_CoOp", "half", "ZeroshotCLIP"),
        "ZeroshotCLIP | CoOp | SAR_CoOp | hsic, weight 2 | anchor, weight 2 | 10 epochs | half "
        "| ShrunkCoOp0.75 | LogitsCoOp1",
    ),
}
"""Record -> what its rows are compared with, and the rows of its table in docs/regularizers.md."""


@pytest.mark.parametrize(("place", "record"), enumerate(NO_LOSS))
def test_what_needs_no_loss(place: int, record: str) -> None:
    page = (ROOT / "docs" / "regularizers.md").read_text("utf-8")
    section = page.partition("\n## What needs no loss at all\n")[2].partition("\n## ")[0]
    (table,) = re.findall(r"((?:^\|.*\n)+)", section, re.M)[place : place + 1]
    rows = [[c.strip() for c in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
    others, labels = NO_LOSS[record]
    assert len(rows) == len(labels.split(" | "))
    for (said, *cells), label in zip(rows, labels.split(" | "), strict=True):
        expected = [f"{figure(record, label, column):own}" for column in ("base", "new", "h")]
        expected += [
            "" if other == label else f"{figure(record, f'{label} - {other}'):gain}"
            for other in others
        ]
        assert cells[: len(expected)] == expected, said
