"""tools/regularizers.py writes what was run between the page's marks, and nothing else."""

import importlib
import runpy
import shutil
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from ablation_run import names, put_everything, tables
from result_logs import eval_log, put

from sar.inspection.relations import similarities
from sar.protocols.ablation import BASELINE, Ablation
from sar.protocols.studies import COMPARISONS
from sar.results.folders import RunKey, averaged_name
from sar.results.tables import Row

ROOT = Path(__file__).parents[1]


def test_tables_are_those_of_the_comparing_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("control", "pairs")
    for part, studies in (("selection", asked), ("selection", ("weight",)), ("report", asked)):
        put_everything(Ablation(output=tmp_path / part, studies=studies, seeds=(1, 2)))
    page = tmp_path / "regularizers.md"
    shutil.copy(ROOT / "docs" / "regularizers.md", page)
    before, after = page.read_text().partition("\n## Tables\n")[0], "\nwritten by hand\n"
    page.write_text(page.read_text() + after)
    arguments = [str(tmp_path / "selection"), str(tmp_path / "report"), "--docs", str(tmp_path)]
    for _ in range(2):  # again, in place of what was there
        monkeypatch.setattr(sys, "argv", ["regularizers.py", *arguments])
        runpy.run_path(str(ROOT / "tools" / "regularizers.py"), run_name="__main__")
        text = page.read_text()
        assert text.startswith(before)
        assert text.endswith(after)
        assert (tmp_path / "regularizers.png").read_bytes().startswith(b"\x89PNG")
        expected = [(BASELINE, "ZeroshotCLIP"), (BASELINE, "CoOp")]
        expected += [(study, label) for study in asked for label in COMPARISONS[study]]
        written = tables(text.partition("<!-- tables: ")[2])
        assert [sorted(names(rows)) for rows in written] == [sorted(expected)] * 2


def test_curves_go_along_the_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    curves = importlib.import_module("curves")
    weights = ("10", "2.5", "40")
    rows = [Row("regularizer", f"l1, weight {weight}", {}) for weight in weights]
    found = curves.families([*rows, Row("regularizer", "kl, weight 1", {})])
    assert {measure: [row.label for row in of] for measure, of in found.items()} == {
        "l1": ["l1, weight 2.5", "l1, weight 10", "l1, weight 40"],
        "kl": ["kl, weight 1"],
    }
    put_everything(Ablation(output=tmp_path / "a", studies=("regularizer",), seeds=(1, 2)))
    for dataset, seed, share in product(("demo_objects", "demo_travel"), (1, 2), (0.25, 0.5)):
        key = RunKey(dataset, averaged_name("CoOp", share), "pocket", 16, seed)
        for subset in ("base", "new"):
            folder = tmp_path / "b" / key.base_to_new_folder(f"test_{subset}")
            put(folder, eval_log(700, subset=subset))
    picture = tmp_path / "curves.png"
    arguments = [str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", ["curves.py", *arguments])
    curves.main()
    said = capsys.readouterr().out
    assert "; CoOp, averaged 0.25: Base 70.00, New 70.00, H 70.00; CoOp, averaged 0.5: " in said
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pairs_are_told_by_kind_and_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    pairs = importlib.import_module("pairs")
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    base, before = torch.arange(20) < 12, similarities(features)
    kinds = ["base-base", "base-new", "new-new"]
    same = pairs.moved(before, before, base)
    assert same == {kind: pytest.approx({"near": 0, "far": 0, "correlation": 1}) for kind in kinds}
    swapped = features[[*range(18), 19, 18]]  # two new classes
    found = pairs.moved(before, similarities(swapped), base)
    assert found["base-base"] == same["base-base"]
    assert found["base-new"]["near"] < 0 < found["base-new"]["far"]
    apart = before - 0.1 * (before >= before.topk(6).values[:, 5:])  # the class itself is one of 6
    assert pairs.moved(before, apart, base)["new-new"]["near"] == pytest.approx(-0.1)
    said = pairs.table({"CoOp": [found, same], "SAR_CoOp": [same]})
    assert "| SAR_CoOp   | new-new   | +0.000" in said
    assert pairs.mean_of([found, same])["base-new"]["far"] == found["base-new"]["far"] / 2
