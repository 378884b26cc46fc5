"""The free average: learned and hand-crafted text features interpolated, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from result_logs import eval_log, put, put_model, run_dir, training_log
from toolbox_mini import arguments, make_cfg

from sar.command_line.commands import shares
from sar.errors import ConfigError
from sar.predictions import Predictions, read_predictions
from sar.protocols.all_classes import CrossDataset, DomainGeneralization, FewShot
from sar.protocols.base2new import BaseToNew
from sar.protocols.jobs import Job
from sar.results import collect, problems_text
from sar.results.presentations import compare_with, make_tables
from sar.results.protocol import record_protocol
from sar.results.tables.rows import pairs
from sar.toolbox.clip.prompted import normalize
from sar.toolbox.engine import build_trainer
from sar.toolbox.train import main

SETTINGS = [
    *("TRAINER.COCOOP.PREC", "fp32", "TRAINER.MAPLE.PREC", "fp32"),
    *("TRAINER.PROMPTSRC.PREC", "fp32", "TRAINER.MAPLE.PROMPT_DEPTH", "1"),
    *("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "1", "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "1"),
]


def built(world: Path, output: Path, trainer: str, *options: str) -> Any:
    torch.manual_seed(0)
    argv = arguments(world, output, trainer=trainer)
    return build_trainer(make_cfg([*argv, *SETTINGS, *options]))


def features(trainer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Learned text features and those that a test classifies by."""
    found = []
    model = trainer.model
    averaged = model.averaged

    def spy(learned: torch.Tensor) -> torch.Tensor:
        found.append((learned, averaged(learned)))
        return found[-1][1]

    model.averaged = spy
    trainer.set_model_mode("eval")
    with torch.no_grad(), model.text_encoded_once():
        model(next(iter(trainer.test_loader))["img"])
    model.averaged = averaged
    return found[0]


@pytest.mark.parametrize("trainer", ["CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC"])
def test_every_method_classifies_by_the_interpolated_features(world, tmp_path, trainer):
    zero = built(world, tmp_path, "ZeroshotCLIP").model.text_features
    learned, unchanged = features(built(world, tmp_path, trainer))
    assert torch.equal(learned, unchanged)
    for share in (0.0, 0.25):
        model = built(world, tmp_path, trainer, "TEST.LEARNED_SHARE", str(share))
        again, averaged = features(model)
        assert torch.equal(again, learned)  # the random state is as without
        expected = normalize(share * learned + (1 - share) * zero)
        torch.testing.assert_close(averaged, expected)
        assert torch.equal(model.model.averaged(learned), learned)  # in training


def predictions(folder: Path) -> Predictions:
    found = read_predictions(folder)
    assert found is not None
    return found


def test_a_finished_training_is_tested_without_training_again(world, tmp_path):
    main(arguments(world, tmp_path / "run"))
    before = (tmp_path / "run" / "log.txt").read_bytes()
    trained = ["--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "5"]
    found = {}
    for share in ("0", "0.5", "1"):
        argv = arguments(world, tmp_path / share)
        main([*argv, *trained, "TEST.LEARNED_SHARE", share])
        found[share] = predictions(tmp_path / share).confidence
    assert (tmp_path / "run" / "log.txt").read_bytes() == before
    np.testing.assert_allclose(found["1"], predictions(tmp_path / "run").confidence, rtol=1e-5)
    main(arguments(world, tmp_path / "zero", trainer="ZeroshotCLIP"))
    np.testing.assert_allclose(found["0"], predictions(tmp_path / "zero").confidence, rtol=1e-4)
    assert not np.allclose(found["0.5"], found["1"], rtol=1e-4)


def test_a_share_beyond_its_range_is_named(world, tmp_path):
    with pytest.raises(ConfigError, match=r"LEARNED_SHARE is 1\.5; expected a finite number"):
        make_cfg([*arguments(world, tmp_path), "TEST.LEARNED_SHARE", "1.5"])


def test_the_protocol_tests_every_training_once_more_for_each_share(tmp_path):
    trainers = ("ZeroshotCLIP", "CoOp", "SAR_CoOp")
    some: Any = {"output": tmp_path, "trainers": trainers, "datasets": ("demo_food",)}
    plain = BaseToNew(**some, seeds=(1,)).jobs()
    jobs = BaseToNew(**some, seeds=(1,), averaged=(0.25, 0.5)).jobs()
    assert [job for job in jobs if "LEARNED_SHARE" not in job.command()] == plain
    added = [job for job in jobs if "LEARNED_SHARE" in job.command()]
    assert len(added) == 2 * 2 * 2  # trainings, shares, halves of the classes
    assert {job.needs for job in added} == {job.output for job in plain if job.trains}
    assert not any(job.trains for job in added)
    assert {job.output.parts[-3] for job in added} == {
        *("CoOp_averaged_0.25", "CoOp_averaged_0.5"),
        *("SAR_CoOp_averaged_0.25", "SAR_CoOp_averaged_0.5"),
    }
    assert len({job.output for job in jobs}) == len(jobs)


@pytest.mark.parametrize("kind", [FewShot, CrossDataset, DomainGeneralization])
def test_so_do_the_protocols_that_train_on_all_classes(tmp_path, kind):
    some: Any = {"output": tmp_path, "trainers": ("ZeroshotCLIP", "CoOp"), "seeds": (1,)}
    some |= {"shots": (4,)}
    plan = kind(**some, averaged=(0.5,))
    jobs, plain = plan.jobs(), kind(**some).jobs()
    assert [job for job in jobs if "LEARNED_SHARE" not in job.command()] == plain
    added = [job for job in jobs if "LEARNED_SHARE" in job.command()]
    ours = [job for job in plain if " CoOp " in job.title]
    assert len(added) == len(ours)  # every training ends with a test of its own
    for job in plain:
        log = training_log if job.trains else eval_log
        put(job.output, log(600, subset="all", **stated(job)))
    for job in added:
        opts = "opts: ['TEST.LEARNED_SHARE', '0.5']\ntrainer: CoOp\n"
        put(job.output, f"** Arguments **\n{opts}{eval_log(700, subset='all', **stated(job))}")
    record_protocol(tmp_path, plan.record())
    found = collect(tmp_path)
    assert not found.problems
    compare_with(found, ["ZeroshotCLIP"])
    (table,) = make_tables(found)
    for label, mean in (
        ("CoOp, averaged 0.5", 70),
        ("CoOp, averaged 0.5 - CoOp", 10),
        ("CoOp - ZeroshotCLIP", 0),
        ("CoOp, averaged 0.5 - ZeroshotCLIP", 10),
    ):
        rows = [row for row in table.rows if row.label == label]
        columns = {cell for row in rows for cell in row.cells.values()}
        assert [round(cell.mean, 6) for cell in columns] == [mean] * len(columns), label
        assert columns or (kind is FewShot and label.endswith(" - ZeroshotCLIP"))  # 0 shots


def test_an_average_of_another_training_does_not_count(tmp_path):
    plan = FewShot(
        output=tmp_path,
        trainers=("CoOp",),
        datasets=("demo_food",),
        seeds=(1,),
        shots=(4,),
        averaged=(0.5,),
    )
    training, test = plan.jobs()
    put(training.output, training_log(600, subset="all", epochs=5))
    opts = "opts: ['TEST.LEARNED_SHARE', '0.5']\ntrainer: CoOp\n"
    log = eval_log(700, subset="all", epoch=2, **stated(test))
    put(test.output, f"** Arguments **\n{opts}{log}")
    record_protocol(tmp_path, plan.record())
    found = collect(tmp_path)
    assert [record.key.trainer for record in found.records] == ["CoOp"]
    assert "tested the checkpoint of epoch 2, but the training had 5 epochs" in problems_text(found)


def stated(job: Job) -> dict[str, Any]:
    """What the log of a test says about the model that it tested."""
    return {"model": str(job.needs)} if job.needs else {}


def put_average(root: Path, said: str = "CoOp", share: str = "0.5", name: str = "") -> None:
    for part, correct in (("base", 780), ("new", 600)):
        opts = f"opts: ['TEST.LEARNED_SHARE', '{share}']\ntrainer: {said}\n"
        log = f"** Arguments **\n{opts}{eval_log(correct, subset=part)}"
        put(run_dir(root, f"test_{part}", "food", f"CoOp_averaged_{name or share}", 1), log)


def test_it_is_a_row_of_its_own(tmp_path):
    put_model(tmp_path, "food", "CoOp", 1, 800, 500)
    put_average(tmp_path)
    (table,) = make_tables(collect(tmp_path))
    means = {row.label: round(row.cells["new"].mean, 1) for row in table.rows}
    assert means == {
        "CoOp": 50.0,
        "CoOp, averaged 0.5": 60.0,
        "CoOp, averaged 0.5 - CoOp": 10.0,
    }


def test_averages_are_compared_with_what_they_are_of_and_with_sar():
    labels = ["CoOp", "SAR_CoOp", "CoOp, averaged 0.5", "SAR_CoOp, averaged 0.5", "KgCoOp"]
    assert pairs(labels) == [
        ("CoOp", "SAR_CoOp"),
        ("CoOp, averaged 0.5", "SAR_CoOp, averaged 0.5"),
        ("CoOp", "CoOp, averaged 0.5"),
        ("CoOp, averaged 0.5", "SAR_CoOp"),
        ("SAR_CoOp", "SAR_CoOp, averaged 0.5"),
    ]
    shots = ["CoOp 4 shots", "CoOp, averaged 0.25 4 shots", "SAR_CoOp 16 shots"]
    assert pairs(shots) == [("CoOp 4 shots", "CoOp, averaged 0.25 4 shots")]
    assert pairs(["CoOp", "KgCoOp"], ["KgCoOp", "nothing"]) == [("KgCoOp", "CoOp")]


def test_a_share_counts_by_the_figures_in_its_name(tmp_path):
    """Very small ones, too; two of one name are one."""
    assert shares("0.123456,0.1234561, 1e-5 -0 0") == (0.123456, 1e-5, 0)
    for none in ("1", "0.99999999", "-0.1", "nan", "half", "inf"):
        with pytest.raises(click.BadParameter, match="from 0 up to, not with, 1"):
            shares(none)
    put_model(tmp_path, "food", "CoOp", 1, 800, 500)
    put_average(tmp_path, share="1e-05")
    results = collect(tmp_path)
    assert [r.key.trainer for r in results.records] == ["CoOp", "CoOp_averaged_1e-05"]


@pytest.mark.parametrize(("said", "share"), [("CoOp", "0.25"), ("KgCoOp", "0.5")])
def test_a_log_of_another_share_or_trainer_does_not_count(tmp_path, said, share):
    put_model(tmp_path, "food", "CoOp", 1, 800, 500)
    put_average(tmp_path, said, share, name="0.5")
    results = collect(tmp_path)
    assert [record.key.trainer for record in results.records] == ["CoOp"]
    assert "its folder that of" in problems_text(results)
