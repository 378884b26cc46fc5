"""What `sarclip evaluate` wrote, in tables and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shop

from sar.errors import DataError
from sar.results import collect, to_text
from sar.results.calibration import calibration_tables
from sar.results.collect import Filter
from sar.results.evaluations import read_evaluation
from sar.results.report import render_report
from sar.results.tables.evaluated import evaluation_tables
from sar.results.tables.summary import summary_of


def evaluation(method: str = "CoOp", seed: int = 1, correct: int = 60, **said: Any) -> Any:
    """scores.json of 100 pictures, 40 of base classes."""
    trained = not method.startswith("Zeroshot")
    share = {"correct": correct, "total": 100, "percent": float(correct)}
    return {
        "pictures": "/shop/tomorrow",
        "method": method,
        "clip": "pocket",
        "trained_on": "today" * trained,
        "shots": 16 * trained,
        "seed": seed,
        "names": ["cup", "shoe"],
        "accuracy": {"joint": share, "base": {"percent": 80.0}, "new": {"percent": 60.0}},
        "harmonic_mean": 68.57,
        "openworld_auc": 50.0,
        "calibration": {"joint": {"ece": 9.0 - seed, "adaptive_ece": 2.0}},
        "unknown": None,
    } | said


def unknown(seed: int = 1, auroc: float = 80.0) -> Any:
    told = {"auroc": auroc, "fpr95": 70.0, "kept": 95.0, "rejected": 20.0, "unknown": 60}
    of_known = {"joint": {"correct": 32, "total": 40, "percent": 80.0}}
    none: dict[str, Any] = {"harmonic_mean": None, "openworld_auc": None, "calibration": {}}
    return evaluation(seed=seed, accuracy=of_known, unknown=told, names=["cup"], **none)


def write(root: Path, **found: Any) -> Path:
    for name, content in found.items():
        (root / name).mkdir(parents=True)
        (root / name / "scores.json").write_text(json.dumps(content))
    return root


def test_a_table_of_seeds_and_their_differences(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=evaluation(seed=1, correct=60),
        b=evaluation(seed=2, correct=64),
        c=evaluation("SAR_CoOp", 1, 65),
        d=evaluation("SAR_CoOp", 2, 67),
        z=evaluation("ZeroshotCLIP", correct=61),
        u=unknown(),
    )
    known, others = evaluation_tables(collect(tmp_path).evaluations)
    assert [row.label for row in known.rows] == [
        "ZeroshotCLIP",
        "CoOp",
        "SAR_CoOp",
        "SAR_CoOp - CoOp",
    ]
    assert {row.group for row in known.rows} == {"tomorrow, 2 classes"}
    assert list(known.columns) == ["joint", "base", "new", "h", "auc", "ece"]
    joint = [row.cells["joint"] for row in known.rows]
    assert [cell.mean for cell in joint] == [61, 62, 66, 4]
    assert [cell.count for cell in joint] == [1, 2, 2, 2]
    assert list(others.columns) == ["joint", "base", "auroc", "fpr95", "kept", "rejected"]
    # Of 100 pictures, 60 show what the model does not have.
    assert others.rows[0].cells["joint"].mean == 32
    assert others.rows[0].cells["base"].mean == 80
    text = to_text(collect(tmp_path))
    assert "tomorrow, 1 class  " in text
    assert "62.00 ± 2.83" in text
    only = collect(tmp_path, Filter(trainers=("SAR_CoOp",))).evaluations
    assert {one.method for one in only} == {"SAR_CoOp"}
    entries = summary_of(evaluation_tables(only))
    assert ("SAR_CoOp", "joint", 66.0) in {(e["label"], e["column"], e["mean"]) for e in entries}


def test_methods_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, a=evaluation(), b=evaluation(), c=evaluation(shots=4), d=evaluation(shots=-1))
    found = collect(tmp_path).evaluations
    (table,) = evaluation_tables(found)
    labels = {row.label for row in table.rows}
    assert labels == {
        "CoOp, 16 shots (a)",
        "CoOp, 16 shots (b)",
        "CoOp, 4 shots",
        "CoOp, all shots",
    }
    write(tmp_path / "more", e=evaluation(clip="ViT-B/16"))
    (table,) = evaluation_tables(collect(tmp_path / "more").evaluations + found[2:3])
    assert {row.label for row in table.rows} == {
        "CoOp, 16 shots, ViT-B/16",
        "CoOp, 4 shots, pocket",
    }


def test_calibration_has_tables_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both errors, for all pictures, base and new ones; in the report and with --calibration."""
    found = {
        "joint_before": {"ece": 9.0, "adaptive_ece": 9.5},
        "joint": {"ece": 4.0, "adaptive_ece": 4.5},
        "base": {"ece": 3.0, "adaptive_ece": 3.5},
        "new": {"ece": 5.0, "adaptive_ece": 5.5},
    }
    write(tmp_path, a=evaluation(seed=1, calibration=found), b=evaluation(seed=2, calibration={}))
    plain, adaptive = calibration_tables(collect(tmp_path))
    assert plain.title == "Evaluation: calibration error"
    assert adaptive.title == "Evaluation: adaptive calibration error"
    assert list(plain.columns.values()) == ["Joint at T = 1", "Joint", "Base", "New"]
    (row,) = adaptive.rows
    means = {column: cell.mean for column, cell in row.cells.items()}
    assert means == {"joint_before": 9.5, "joint": 4.5, "base": 3.5, "new": 5.5}
    assert "adaptive calibration error" in render_report(collect(tmp_path))
    for words in (["--calibration"], ["--calibration", "--summary", "--format", "json"]):
        assert shop.sarclip("results", tmp_path, *words) == 0
        assert "Evaluation: adaptive calibration error" in capsys.readouterr().out
    assert shop.sarclip("results", tmp_path, "--format", "csv") == 0
    assert "for the 2 evaluations: --summary" in capsys.readouterr().err
    write(tmp_path / "none", a=evaluation(calibration={}))
    assert shop.sarclip("results", tmp_path / "none", "--calibration") == 1
    assert "none was evaluated with --calibrate" in capsys.readouterr().err


def test_places_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By the folders before it; as many as it takes. Nothing is averaged over both."""
    write(
        tmp_path,
        a=evaluation(pictures="/one/shop/test", correct=60),
        b=evaluation(pictures="/two/shop/test", correct=80),
        c=evaluation(pictures="/birds/images.csv", correct=70),
    )
    (table,) = evaluation_tables(collect(tmp_path).evaluations)
    joint = {row.group: row.cells["joint"].mean for row in table.rows}
    assert joint == {
        "birds, 2 classes": 70,
        "one/shop/test, 2 classes": 60,
        "two/shop/test, 2 classes": 80,
    }


def test_what_is_no_evaluation_is_listed(tmp_path: Path) -> None:
    write(tmp_path, a=evaluation(), b={"accuracy": {}}, c=[1])
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "scores.json").write_text("{")
    found = collect(tmp_path)
    assert len(found.evaluations) == 1
    assert {problem.directory.name for problem in found.problems} == {"b", "c", "d"}
    with pytest.raises(DataError, match=r"is no evaluation .*evaluate again"):
        read_evaluation(tmp_path / "b" / "scores.json")


def test_the_report_opens_with_joint_accuracy_and_knows_errors(tmp_path: Path) -> None:
    write(tmp_path, a=evaluation(seed=1), c=evaluation("SAR_CoOp", 1, 65))
    page = render_report(collect(tmp_path))
    assert "SAR_CoOp is above CoOp by 5.00 points of Joint" in page
    assert "<div><dt>Evaluations</dt><dd>2</dd></div>" in page
    write(
        tmp_path / "less",
        a=evaluation(seed=2),
        c=evaluation("SAR_CoOp", 2, calibration={"joint": {"ece": 1.0, "adaptive_ece": 1.0}}),
    )
    page = render_report(collect(tmp_path / "less"))
    # A smaller error is a gain.
    assert '<td class="number gain">-6.00' in page
    assert '<td class="number best">1.00' in page
