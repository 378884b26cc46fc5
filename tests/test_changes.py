"""What a method mends and breaks of zero-shot CLIP's answers, and how far its seeds agree."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from result_logs import eval_log, put, run_dir, training_log

from sar.command_line.commands import call
from sar.errors import DataError
from sar.predictions import PREDICTIONS_FILE, Predictions, write_predictions
from sar.results import collect
from sar.results.changes import change_tables
from sar.results.cli import results as results_command
from sar.results.tables import Table

LABEL = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)
ZERO_SHOT = [0, 0, 1, 1, 1, 1, 1, 0]  # 5 of 8
FIRST = [0, 1, 0, 1, 1, 1, 1, 1]  # mends two, breaks one
SECOND = [0, 1, 0, 0, 1, 1, 0, 0]  # mends two, breaks two, agrees with the first in five


def put_model(
    root: Path, trainer: str, seed: int, answers: list[int], images: str = "food"
) -> None:
    """A base-to-new model that gives these answers on base and on new classes."""
    predicted = np.array(answers, np.int32)
    score = (int((predicted == LABEL).sum()), len(LABEL))
    trained = trainer != "ZeroshotCLIP"
    logs = {
        "train_base" if trained else "test_base": training_log(*score, seed=seed)
        if trained
        else eval_log(*score, subset="base"),
        "test_new": eval_log(*score, seed=seed),
    }
    for part, log in logs.items():
        content = hashlib.sha256(f"{images} {part[-4:].strip('_')}".encode()).hexdigest()
        folder = put(run_dir(root, part, "food", trainer, seed), log)
        write_predictions(
            folder, Predictions(LABEL, predicted, np.full(8, 0.5, np.float32), content)
        )


def by_kind(root: Path) -> dict[str, Table]:
    return {table.title.partition(": ")[2]: table for table in change_tables(collect(root))}


def mean(table: Table, trainer: str, column: str = "new") -> float:
    (row,) = [row for row in table.rows if row.label == trainer]
    return row.cells[column].mean


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    put_model(tmp_path, "ZeroshotCLIP", 1, ZERO_SHOT)
    put_model(tmp_path, "CoOp", 1, FIRST)
    put_model(tmp_path, "CoOp", 2, SECOND)
    return tmp_path


def test_mended_less_broken_is_the_difference_in_accuracy(runs):
    tables = by_kind(runs)
    assert mean(tables["mended"], "CoOp") == pytest.approx(100 * (2 + 2) / 2 / 8)
    assert mean(tables["broken"], "CoOp") == pytest.approx(100 * (1 + 2) / 2 / 8)
    records = collect(runs).records
    coop = [record.values["base"] for record in records if record.key.trainer == "CoOp"]
    (zero_shot,) = [r.values["base"] for r in records if r.key.trainer == "ZeroshotCLIP"]
    gained = np.mean(coop) - zero_shot
    both = [mean(tables[kind], "CoOp", "base") for kind in ("mended", "broken")]
    assert both[0] - both[1] == pytest.approx(gained)
    assert tables["mended"].columns.keys() == {"base", "new"}  # H is one of accuracies alone


def test_seeds_agree_where_they_give_the_same_answer(runs):
    tables = by_kind(runs)
    assert mean(tables["agreement of seeds"], "CoOp") == pytest.approx(100 * 5 / 8)
    put_model(runs, "CoOp", 3, FIRST)
    tables = by_kind(runs)
    # the first and third agree wholly with each other, each in 5 of 8 with the second
    assert mean(tables["agreement of seeds"], "CoOp") == pytest.approx(
        100 * (1 + 5 / 8 + 5 / 8) / 3
    )


def test_other_images_are_not_compared(runs):
    put_model(runs, "SAR_CoOp", 1, FIRST, images="other food")
    tables = by_kind(runs)
    for kind in ("mended", "broken"):
        assert "SAR_CoOp" not in {row.label for row in tables[kind].rows}
    assert "CoOp" in {row.label for row in tables["mended"].rows}


def test_the_command_prints_them_or_says_what_is_missing(runs, capsys):
    call(results_command, [str(runs), "--changes"])
    text = capsys.readouterr().out
    for kind in ("mended", "broken", "agreement of seeds"):
        assert f"Base-to-new, 16 shots: {kind}" in text
    assert "25.00 ± 0.00" in text
    for file in runs.rglob(PREDICTIONS_FILE):
        file.unlink()
    with pytest.raises(DataError, match="no test has left its predictions"):
        call(results_command, [str(runs), "--changes"])
