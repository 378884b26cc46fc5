"""The page's tools write what records say between its marks, and nothing else."""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from ablation_run import names, put_everything, tables

from sar.errors import DataError
from sar.protocols.ablation import BASELINE, Ablation
from sar.protocols.studies import COMPARISONS
from sar.results.tables import Row

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"


def run(monkeypatch: pytest.MonkeyPatch, tool: str, *arguments: Path | str) -> None:
    monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
    runpy.run_path(str(TOOLS / tool), run_name="__main__")


def imported(monkeypatch: pytest.MonkeyPatch, tool: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module(tool)


def test_tables_are_those_of_the_comparing_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    asked, mine = ("control", "pairs"), "hsic, weight 2"
    for part, given in (
        ("selection", {"studies": (*asked, "weight")}),
        ("report", {"studies": asked, "datasets": ("demo_food", "demo_nature")}),
        ("mine", {"settings": (mine,)}),
    ):
        plan = Ablation(output=tmp_path / part, seeds=(1, 2), **given)
        put_everything(plan)
        record = tmp_path / "experiments"
        run(monkeypatch, "experiment.py", plan.output, "--experiments", record, "--against", "CoOp")
    page = tmp_path / "regularizers.md"
    shutil.copy(ROOT / "docs" / "regularizers.md", page)
    before, after = page.read_text().partition("\n## Tables\n")[0], "\nwritten by hand\n"
    page.write_text(page.read_text() + after)
    records = [tmp_path / "experiments" / part for part in ("selection", "report", "mine")]
    for _ in range(2):  # again, in place of what was there
        run(monkeypatch, "regularizers.py", *records, "--docs", tmp_path)
        text = page.read_text()
        assert text.startswith(before)
        assert text.endswith(after)
        assert (tmp_path / "regularizers.png").read_bytes().startswith(b"\x89PNG")
        expected = [(BASELINE, "ZeroshotCLIP"), (BASELINE, "CoOp")]
        expected += [(study, label) for study in asked for label in COMPARISONS[study]]
        selection, report = tables(text.partition("<!-- tables: ")[2])
        assert sorted(names(report)) == sorted(expected)
        assert sorted(names(selection)) == sorted([*expected, ("regularizer", mine)])


def test_curves_go_along_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = imported(monkeypatch, "curves")
    rows = [Row("regularizer", f"l1, weight {weight}", {}) for weight in ("10", "2.5", "40")]
    rows += [Row("weight", name, {}) for name in ("16", "1 (default)")]
    rows += [Row("divergence", "l1, weight 5", {}), Row("names", "none", {})]
    rows += [Row("regularizer", "anchor of base classes, weight 2", {})]
    alone = [Row("", "CoOp, averaged 0.5", {}), Row("", "LogitsCoOp4", {}), Row("", "MeanCoOp", {})]
    lines = curves.families([*map(curves.setting, rows), *map(curves.other, alone)])
    assert {family: [point.label for point in of] for family, of in lines.items()} == {
        "l1": ["l1 2.5", "l1 5", "l1 10", "l1 40"],
        "kl": ["kl 1", "kl 16"],
        "anchor, base classes": ["anchor, base classes 2"],
        "free average": ["free average 0.5"],
        "KL on logits": ["KL on logits 4"],
        "mean over epochs": ["mean over epochs"],
    }


def test_the_picture_has_every_point_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = imported(monkeypatch, "curves")
    picture = tmp_path / "curves.png"
    monkeypatch.setattr(sys, "argv", ["curves.py", "--output", str(picture)])
    curves.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    for label in ("ZeroshotCLIP", "kl 16", "l1 5", "free average 0.75", "KL on logits 0.25"):
        assert f"{label}: Base " in said
    stars, lines = curves.measured(curves.EXPERIMENTS)
    for of in lines.values():
        assert all(a.number < b.number for a, b in pairwise(of))
        assert all("gain" in p.row.cells for p in of if p.family != "CoOp's epochs")
    (average,) = (p for p in lines["free average"] if p.number == 0.5)
    gain, h = (average.row.cells[column] for column in ("gain", "h"))
    assert gain.mean == pytest.approx(h.mean - stars[1].cells["h"].mean, abs=2e-4)
    assert gain.interval() is not None


def test_the_drift_table_is_that_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    page = ROOT / "docs" / "regularizers.md"
    shutil.copy(page, tmp_path)
    run(monkeypatch, "drift.py", "--docs", tmp_path)
    assert (tmp_path / "regularizers.md").read_text() == page.read_text()
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((ROOT / "experiments" / "drift.json").read_text())
    for one in record[1:]:  # accuracy is zero-shot CLIP's, with what is mended, without the broken
        moved = one["numbers"]["mended"] - one["numbers"]["broken"]
        assert one["numbers"]["new"] == pytest.approx(record[0]["numbers"]["new"] + moved, abs=1e-6)
        for column in ("base", "new"):
            mean, _, low, high = one["gains"][column]
            less = one["numbers"][column] - record[0]["numbers"][column]
            assert mean == pytest.approx(less, abs=1e-6)
            assert low < mean < high


def test_the_tables_of_the_methods_are_those_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    pages = ("README.md", "docs/claims.md")
    (tmp_path / "docs").mkdir()
    for page in pages:
        shutil.copy(ROOT / page, tmp_path / page)
    run(monkeypatch, "methods.py", "--root", tmp_path)
    for page in pages:
        assert (tmp_path / page).read_text() == (ROOT / page).read_text()
        assert (tmp_path / page).read_text().count("SAR_KgCoOp - KgCoOp") >= 1


def test_a_method_without_a_row_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = imported(monkeypatch, "methods")
    with pytest.raises(DataError, match=r"^no record has SAR_CoOp, SAR_CoOp - CoOp, MaPLe, "):
        methods.of_methods(
            {name: Row("", name, {}) for name in ("ZeroshotCLIP", "CoOp")}, methods.ALONE, {}
        )
    rows = {
        form.format(m): Row("", form.format(m), {})
        for m in methods.METHODS
        for form in methods.ALONE
    }
    with pytest.raises(DataError, match=r"^a row lacks New; make its record again"):
        methods.of_methods(
            rows | {"ZeroshotCLIP": Row("", "ZeroshotCLIP", {})}, methods.ALONE, {"new": "New"}
        )
