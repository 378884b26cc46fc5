"""Figures in the pages' prose and in tables written by hand are those of experiments/."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


class Figure:
    """A number of a record. In a sentence `{x}` is its mean, `{x:+}` the same with its sign,
    `{x:±}` its deviation and `{x:i}` its interval; `{x:all}` are sign, deviation and interval."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry

    def __neg__(self) -> Figure:
        mean, low, high = (-self.entry[key] for key in ("mean", "high", "low"))
        return Figure({**self.entry, "mean": mean, "low": low, "high": high})

    def __format__(self, form: str) -> str:
        mean, std, low, high = (self.entry[key] for key in ("mean", "std", "low", "high"))
        forms = {
            "": lambda: f"{mean:.1f}",
            "+": lambda: f"{mean:+.1f}",
            "±": lambda: "" if std is None else f"± {std:.1f}",
            "i": lambda: f"[{low:+.1f}, {high:+.1f}]",
            "own": lambda: f"{self} {self:±}".strip(),  # an accuracy
            "gain": lambda: f"{self:+} {self:i}",
            "above": lambda: f"{self} {self:i}",
            "all": lambda: f"{self:+} {self:±} {self:i}",
        }
        return forms[form]()


@cache
def entries(record: str) -> list[dict[str, Any]]:
    path = ROOT / "experiments" / record / "summary.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def figure(record: str, label: str, column: str = "h", group: str = "") -> Figure:
    """Of the average over datasets, or of another group; of an ablation the group is the study."""
    (found, *_) = [
        entry
        for entry in entries(record)
        if (entry["label"], entry["column"]) == (label, column)
        and (entry["group"] == group if group else "verage of " in entry["table"] + entry["group"])
    ]
    return Figure(found)


def words(page: str) -> str:
    """A page's text in one line."""
    return " ".join((ROOT / page).read_text("utf-8").split())


NO_LOSS = {
    "alternatives": (
        ("CoOp", "SAR_CoOp", "CoOp, averaged 0.5"),
        "ZeroshotCLIP | CoOp | SAR_CoOp | 20 epochs | 10 epochs | quarter of the rate "
        "| CoOp, averaged 0.5 | CoOp, averaged 0.25 | ShrunkCoOp0.75 | ShrunkCoOp0.5 | MeanCoOp "
        "| LogitsCoOp0.25 | LogitsCoOp1 | LogitsCoOp4 | trained as tested",
    ),
    "alternatives-report": (
        ("CoOp", "SAR_CoOp", "CoOp, averaged 0.5", "ZeroshotCLIP"),
        "ZeroshotCLIP | CoOp | SAR_CoOp | hsic, weight 2 | anchor, weight 2 | 10 epochs "
        "| CoOp, averaged 0.5 | ShrunkCoOp0.75 | LogitsCoOp1",
    ),
}
"""Record -> what its rows are compared with, and the rows of its table in docs/regularizers.md."""


@pytest.mark.parametrize(("place", "record"), list(enumerate(NO_LOSS)))
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


def test_the_table_of_the_readme() -> None:
    """Every number of the average over the five datasets."""
    checked = 0
    group = ""
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        group = cells[0] or group
        if not line.startswith("|") or len(cells) != 6 or group != "Average of 5":
            continue
        for column, cell in zip(("base", "new", "h"), cells[2:], strict=False):
            found = figure(REPORT, cells[1], column).entry
            sign = "+" if " - " in cells[1] else ""
            spread = "" if found["std"] is None else f" ± {found['std']:.2f}"
            ends = f"[{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"
            assert cell == f"{found['mean']:{sign}.2f}{spread} {ends}", cells[1]
            checked += 1
    assert checked == 6 * 3


ORACLE = "oracle (leak: an upper bound, not a result)"


REPORT, SELECTION, WEIGHTS = "alternatives-report", "regularizers", "weights-of-methods"


def gain(setting: str, trainer: str = "") -> Figure:
    """The gain in H of an ablation's setting."""
    if trainer:
        return figure(WEIGHTS, f"{setting}, SAR_{trainer}", "gain")
    return figure(SELECTION, setting, "gain")


def minus_default(setting: str, study: str, column: str = "h") -> Figure:
    """An ablation's setting less SAR's default, which is the setting `shipped`."""
    return figure(SELECTION, f"{setting} - shipped", column, study)


def of_method(trainer: str, column: str = "h") -> Figure:
    return figure("all-methods", f"SAR_{trainer} - {trainer}", column, "demo_food")


def of_all(record: str, column: str) -> str:
    """What SAR adds to each method, in one record of all."""
    group = "demo_food" if column == "average" else ""
    gains = {m: figure(record, f"SAR_{m} - {m}", column, group) for m in METHODS}
    return ", ".join(f"{method} {found:all}" for method, found in gains.items())


METHODS = ("CoOp", "MaPLe", "CoCoOp", "PromptSRC", "KgCoOp")
COOP5, COOP7 = (figure(record, "SAR_CoOp - CoOp") for record in (REPORT, "base-to-new"))
MAPLE5, MAPLE7 = (figure(record, "SAR_MaPLe - MaPLe") for record in ("maple-report", "maple"))
FREE5 = figure(REPORT, "SAR_CoOp - CoOp, averaged 0.5")
FREE7 = figure("base-to-new", "SAR_CoOp - CoOp, averaged 0.5")
ZERO5, ZERO7 = (figure(r, "SAR_CoOp - ZeroshotCLIP") for r in (REPORT, "base-to-new"))
SHORT5, SHORT7 = (figure(r, "SAR_CoOp - 10 epochs") for r in (REPORT, "base-to-new"))
SHUFFLED, CONSTANT = (
    figure("regularizers-report", f"{control} - kl, weight 1", group="control")
    for control in ("shuffled", "constant")
)
ANCHOR = "anchor of base classes, weight 2"  # KgCoOp's loss
ANCHOR5 = figure("regularizers-report", f"{ANCHOR} - kl, weight 1")
KGCOOP5 = figure("kgcoop-report", "SAR_KgCoOp - KgCoOp")
PROMPTSRC5 = figure("promptsrc-report", "SAR_PromptSRC - PromptSRC")
COCOOP5, COCOOP7 = (figure(r, "SAR_CoCoOp - CoCoOp") for r in ("cocoop-report", "cocoop"))
AVERAGED = {
    method: {
        of: figure(f"{method.lower()}-report", name)
        for of, name in (
            ("plain", f"{method}, averaged 0.5 - {method}"),
            ("SAR", f"SAR_{method} - {method}, averaged 0.5"),
        )
    }
    for method in ("MaPLe", "CoCoOp", "PromptSRC", "KgCoOp")
}
SLOW = -figure("alternatives", "quarter of the rate - SAR_CoOp")
SENTENCES = {
    "README.md": [
        f"its gain of {COOP5} in H is at the edge of its interval",
        f"not surely above zero-shot CLIP ({ZERO5:gain})",
        f"10 epochs in place of 50 (H {SHORT5:gain}), nor at a quarter of its learning rate "
        f"({SLOW:gain} on the other two)",
        "with 4 shots MaPLe's {:gain} and CoCoOp's {:gain} in H".format(
            *(figure("four-shots-report", f"SAR_{m} - {m}") for m in ("MaPLe", "CoCoOp"))
        ),
        "trained on CoOp's {:gain}, MaPLe's {:gain} and CoCoOp's {:gain}, which".format(
            *(
                figure("cross-dataset", f"SAR_{m} - {m}", "average", "demo_food")
                for m in ("CoOp", "MaPLe", "CoCoOp")
            )
        ),
        "CoCoOp's {:+} deviates by {:.1f}, MaPLe's {:+} by {:.1f}".format(
            *(
                number
                for found in (
                    figure("four-shots-report", "SAR_CoCoOp - CoCoOp"),
                    figure("cross-dataset", "SAR_MaPLe - MaPLe", "average", "demo_food"),
                )
                for number in (found, found.entry["std"])
            )
        ),
        "it is surely below, by {:above} and {:above} H".format(
            *(-AVERAGED[method]["SAR"] for method in ("MaPLe", "CoCoOp"))
        ),
    ],
    "docs/claims.md": [
        f"H: CoOp {COOP5:all}, MaPLe {MAPLE5:all}, CoCoOp {COCOOP5:all}, "
        f"PromptSRC {PROMPTSRC5:all}, KgCoOp {KGCOOP5:all} (",
        f"H: MaPLe {MAPLE7:all}, CoCoOp {COCOOP7:all} |",
        f"| It works with 4 shots | H: {of_all('four-shots-report', 'h')} (",
        f"| CoOp H {figure('four-shots', 'SAR_CoOp - CoOp'):all} |",
        f"coloured drawings (862 images): {of_all('domain-generalization', 'average')} (",
        f"six other datasets (316 classes, 4,320 images): {of_all('cross-dataset', 'average')} (",
        f"H of SAR_CoOp less that of `--averaged 0.5`: five {FREE5:all}, seven {FREE7:all}",
        f"H of SAR_CoOp after 50 epochs less that of CoOp after 10: five {SHORT5:all}, seven "
        f"{SHORT7:all}",
        f"Five: H {ZERO5:all}",
        f"its rate (0.025 in place of 0.1): two {SLOW:all}",
        "less that of X is MaPLe's {:all} and CoCoOp's {:all}, both by new classes".format(
            *(AVERAGED[method]["plain"] for method in ("MaPLe", "CoCoOp"))
        ),
        "H of SAR_X less that of X averaged: "
        + ", ".join(f"SAR_{method} {of['SAR']:all}" for method, of in AVERAGED.items()),
        f"150 words {gain('150 random words'):all}, related names {gain('shipped'):all}, none "
        f"{gain('none'):all}. Words against related names: "
        f"{minus_default('150 random words', 'names'):all}, base "
        f"{minus_default('150 random words', 'names', 'base'):all}",
        f"a teacher whose classes are shuffled {minus_default('shuffled', 'control'):all}, one for "
        f"which all classes are equally alike {minus_default('constant', 'control'):all}; five "
        f"{SHUFFLED:all} and {CONSTANT:all}, which is below CoOp",
        f"which is KgCoOp's loss, five {ANCHOR5:all}: places do the same",
    ],
    "docs/regularizers.md": [
        f"CoOp gains {figure('automatic-weight-report', 'SAR_CoOp - CoOp'):gain}, other methods",
        f"cannot leak, {minus_default('150 mixtures', 'names'):gain}; shipped",
        "MaPLe {:gain} to H {:own}, CoCoOp {:gain} to {:own}".format(
            *(
                found
                for method in ("MaPLe", "CoCoOp")
                for found in (
                    AVERAGED[method]["plain"],
                    figure(f"{method.lower()}-report", f"{method}, averaged 0.5"),
                )
            )
        ),
        f"at weight 2, {figure('regularizers-report', ANCHOR, 'gain'):gain}, and cannot be told "
        f"from SAR: {ANCHOR5:gain}",
        f"(on the five {SHUFFLED:gain} and {CONSTANT:gain} H) and does harm",
        "{:gain} and {:gain} to CoOp".format(
            *(figure("regularizers-report", c, "gain") for c in ("shuffled", "constant"))
        ),
        f"`hsic` (weight 2) {minus_default('hsic, weight 2', 'regularizer'):gain}, `anchor` (2) "
        f"{minus_default('anchor, weight 2', 'regularizer'):gain}, `cross` (2) "
        f"{minus_default('cross, weight 2', 'regularizer'):gain}, `rank` (4) "
        f"{minus_default('rank, weight 4', 'regularizer'):gain}, `l2` (50) "
        f"{minus_default('l2, weight 50', 'regularizer'):gain}",
        f"{gain('hsic_apart, weight 0.125'):gain} and {gain('hsic_apart, weight 0.5'):gain} "
        "against CoOp at weights 0.125 and 0.5",
        f"gains {gain('hsic, weight 2'):gain}",
        f"none {minus_default('none', 'names'):gain}; random words "
        f"{minus_default('150 random words', 'names'):gain}, by base accuracy "
        f"({minus_default('150 random words', 'names', 'base'):gain})",
        f"an upper bound, not a result) {minus_default(ORACLE, 'names'):gain}",
        "without any novel name, at weights 0.5, 2 and 8: {}, {} and {}".format(
            *(
                f"{minus_default(f'anchor of base classes, weight {w}', 'regularizer'):gain}"
                for w in ("0.5", "2", "8")
            )
        ),
        f"60 templates: {minus_default('60 templates', 'teacher'):gain}",
    ],
}
"""Page -> what it says, with the records' figures."""


@pytest.mark.parametrize("page", SENTENCES)
def test_sentences(page: str) -> None:
    text = words(page)
    assert [said for said in SENTENCES[page] if said not in text] == []


def test_nowhere_is_sar_surely_above_the_free_average() -> None:
    """As README.md says; in H, and in the average accuracy of other datasets and styles."""
    records = [*(f"{m.lower()}-report" for m in METHODS[1:]), REPORT, "four-shots-report"]
    checked = 0
    for record, column, group in (
        *((record, "h", "") for record in records),
        ("cross-dataset", "average", "demo_food"),
        ("domain-generalization", "average", "demo_food"),
    ):
        for method in METHODS:
            label = f"SAR_{method} - {method}, averaged 0.5"
            if any(entry["label"] == label for entry in entries(record)):
                assert figure(record, label, column, group).entry["low"] <= 0
                checked += 1
    assert checked == 4 * len(METHODS)
