"""docs/ablation.md says what `sarclip protocol ablation` measures, in its words and its order."""

from __future__ import annotations

import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from result_logs import eval_log, put, put_variant

from sar.protocols.ablation import BASELINE, STUDIES, Ablation
from sar.protocols.configs import SEEDS
from sar.results.folders import RunKey
from sar.results.protocol import record_protocol

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ablation.md"


def put_everything(plan: Ablation) -> None:
    """An output folder as a finished ablation leaves it."""
    record_protocol(plan.output, plan.record())
    for dataset in plan.datasets:
        zero_shot = RunKey(dataset, "ZeroshotCLIP", "pocket", 16, 1, BASELINE)
        put(plan.output / zero_shot.base_to_new_folder("test_base"), eval_log(690, subset="base"))
        put(plan.output / zero_shot.base_to_new_folder("test_new"), eval_log(680))
        for seed in plan.seeds:
            coop = RunKey(dataset, "CoOp", "pocket", 16, seed, BASELINE)
            put_variant(plan.output, coop, 750 + seed, 570)
            for i, variant in enumerate(plan.variants()):
                sar = RunKey(dataset, "SAR_CoOp", "pocket", 16, seed, variant)
                put_variant(plan.output, sar, 700 + seed, 600 + i)


def tables(page: str) -> list[list[list[str]]]:
    """Every table's rows below its head, as cells; an empty first cell is the one above."""
    found = []
    for block in page.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
        for above, row in pairwise(rows):
            row[0] = row[0] or above[0]
        found += [rows] if rows else []
    return found


def names(rows: list[list[str]]) -> list[tuple[str, str]]:
    return [(study, setting) for study, setting, *_ in rows]


def not_measured(page: str) -> list[tuple[str, str]]:
    """The settings that a page names as left out."""
    _, _, found = page.partition("for want of a result on every dataset: ")
    named = found.partition(".\n")[0].split("; ") if found else []
    return [(study, setting) for study, _, setting in (name.partition(": ") for name in named)]


def test_page_and_protocol_name_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(BASELINE, "ZeroshotCLIP"), (BASELINE, "CoOp")]
    expected += [(study, setting) for study, settings in STUDIES.items() for setting in settings]
    plan = Ablation(output=tmp_path / "output")
    put_everything(plan)
    monkeypatch.setattr(sys, "argv", ["ablation.py", str(plan.output), str(tmp_path)])
    runpy.run_path(str(ROOT / "tools" / "ablation.py"), run_name="__main__")
    assert (tmp_path / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    written = tables((tmp_path / "ablation.md").read_text())
    assert [names(rows) for rows in written] == [expected] * (1 + len(plan.datasets))
    whole = tables(PAGE.read_text())[0]
    assert names(whole) == [row for row in expected if row not in not_measured(PAGE.read_text())]
    seeds = {(study, setting): int(count) for study, setting, *_, count in whole}
    assert seeds.pop((BASELINE, "ZeroshotCLIP")) == 1
    assert set(seeds.values()) == {len(SEEDS)}


def test_a_variant_of_several_studies_is_one_folder() -> None:
    plan = Ablation(output=Path("output"))
    folders = [folder for names in plan.record().studies.values() for folder in names.values()]
    assert set(folders) == set(plan.variants())
    assert len(folders) > len(plan.variants())
