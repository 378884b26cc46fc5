"""A result counts for the model that its folder names, or is named with the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from result_logs import (
    eval_log,
    put,
    put_evaluation,
    put_model,
    put_source,
    result_block,
    run_dir,
    training_log,
)

from sar.results import collect, problems_text, read_run
from sar.results.folders import RunKey

OTHER = "output/base2new/train_base/food/shots_16/CoOp/vit_b16/seed1"
OWN = "output/base2new/train_base/food/shots_16/SAR_CoOp/vit_b16/seed1"
OUTPUT = "output/base2new/test_new/food/shots_16/SAR_CoOp/vit_b16/seed1"


def put_pair(root: Path, training: str, test: str) -> None:
    put(run_dir(root, "train_base", "food", "SAR_CoOp", 1), training)
    put(run_dir(root, "test_new", "food", "SAR_CoOp", 1), test)


HONEST: dict[str, Any] = {
    "trainer": "SAR_CoOp",
    "Loading trainer": "SAR_CoOp",
    "Loading dataset": "Food",
    "dataset_config_file": "configs/datasets/food.yaml",
    "seed": 1,
    "SEED": 1,
    "NUM_SHOTS": 16,
}


def test_a_log_that_says_what_its_folder_says_counts(tmp_path):
    training = training_log(700, **HONEST, output_dir=OWN)
    put_pair(tmp_path, training, eval_log(500, model=OWN, output_dir=OUTPUT, **HONEST))
    results = collect(tmp_path)
    assert [record.values["new"] for record in results.records] == [50.0]
    assert not problems_text(results)


def test_own_pictures_are_known_by_their_title(tmp_path):
    said = {**HONEST, "Loading dataset": "ImageFolder", "dataset_config_file": "image_folder.yaml"}
    for title, counted in (("food", 1), ("garden", 0), ("", 0)):
        training = training_log(700, **said, TITLE=title, output_dir=OWN)
        test = eval_log(500, model=OWN, output_dir=OUTPUT, **said, TITLE=title)
        put_pair(tmp_path, training, test)
        results = collect(tmp_path)
        assert len(results.records) == counted
        expected = f"the log is that of dataset {title or 'ImageFolder'}, its folder that of food"
        assert (expected in problems_text(results)) == (not counted)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"Loading trainer": "CoOp"}, "trainer CoOp, its folder that of SAR_CoOp"),
        (
            {"Loading dataset": "OxfordPets", "dataset_config_file": "c/oxford_pets.yaml"},
            "dataset OxfordPets, its folder that of food",
        ),
        (
            {"Loading dataset": "OxfordPets", "opts": "['DATASET.NAME', 'OxfordPets']"},
            "dataset OxfordPets, its folder that of food",
        ),
        ({"SEED": 2, "seed": 2}, "seed 2, its folder that of 1"),
        ({"SEED": 2}, "seed 2, its folder that of 1"),
        ({"SEED": -1, "seed": -1}, "seed -1, its folder that of 1"),
        ({"NUM_SHOTS": 4}, "shots 4, its folder that of 16"),
        ({"NUM_SHOTS": -1}, "shots -1, its folder that of 16"),
        ({"Loading CLIP (backbone": "RN50)"}, "backbone RN50, its folder that of vit_b16"),
    ],
)
def test_a_training_of_something_else_does_not_count(tmp_path, said, reason):
    put_pair(tmp_path, training_log(700, **{**HONEST, **said}), eval_log(500, **HONEST))
    results = collect(tmp_path)
    assert not results.records
    assert reason in problems_text(results)


@pytest.mark.parametrize(
    "said",
    [
        {"SEED": -1, "seed": -1, "NUM_SHOTS": -1},  # scripts give tests neither
        {"Loading dataset": "Food101", "dataset_config_file": "mine/food.yaml"},
        {"Loading CLIP (backbone": "/weights/mirror.pt)"},
        {"Loading CLIP (backbone": "ViT-B/16)"},
    ],
)
def test_what_a_test_need_not_say(tmp_path, said):
    put_pair(tmp_path, training_log(700, **HONEST), eval_log(500, **{**HONEST, **said}))
    results = collect(tmp_path)
    assert [record.values["new"] for record in results.records] == [50.0], problems_text(results)


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (eval_log(500, model=OTHER), "the model that was tested is that of trainer CoOp"),
        (
            eval_log(500, model=OWN.replace("seed1", "seed3")),
            "the model that was tested is that of seed 3",
        ),
        (
            eval_log(500, model=OWN.replace("shots_16", "shots_4")),
            "the model that was tested is that of shots 4",
        ),
        (
            eval_log(500, model=OWN.replace("/food/", "/pets/")),
            "the model that was tested is that of dataset pets",
        ),
        (
            eval_log(500, model=OWN.replace("base2new", "older"), output_dir=OUTPUT),
            "the model that was tested is output/older/train_base",
        ),
        (
            eval_log(500, model="weights/base/seed1", output_dir=OUTPUT),
            "the model that was tested is weights/base/seed1",
        ),
        (eval_log(500, epoch=1), "tested the checkpoint of epoch 1, but the training had 2 epochs"),
        (
            "eval_only: True\nmodel_dir: \nNo model directory given: as it was built\n"
            "Evaluate on the *test* set\n" + result_block(500, 1000),
            "no model was loaded",
        ),
        (
            "eval_only: True\nNote that load_model() is skipped as none is given\n"
            "Evaluate on the *test* set\n" + result_block(500, 1000),
            "no model was loaded",
        ),
    ],
)
def test_a_test_of_another_model_does_not_count(tmp_path, test, reason):
    """Not even as a difference of 0.00: base and new accuracy are those of one model."""
    put_pair(tmp_path, training_log(700, output_dir=OWN), test)
    results = collect(tmp_path)
    assert not results.records
    assert reason in problems_text(results)


def test_the_best_model_on_validation_images_is_of_any_epoch(tmp_path):
    test = eval_log(500, epoch=1).replace("load_epoch: 1", "load_epoch: None")
    put_pair(tmp_path, training_log(700), test)
    assert len(collect(tmp_path).records) == 1


def test_a_tree_that_was_moved_or_started_from_elsewhere_is_one_still(tmp_path):
    """What counts is where the model was as seen from the test, not how its path was written."""
    put_pair(
        tmp_path,
        training_log(700, output_dir="/first/machine/" + OWN),
        eval_log(500, model="../../" + OWN, output_dir="../../" + OUTPUT),
    )
    assert len(collect(tmp_path).records) == 1
    moved = tmp_path / "moved" / "away"
    put(run_dir(moved, "train_base", "food", "SAR_CoOp", 2), training_log(700))
    test = eval_log(500, model="/a/b/train_base/food/shots_16/SAR_CoOp/vit_b16/seed2")
    put(run_dir(moved, "test_new", "food", "SAR_CoOp", 2), test)
    assert len(collect(moved).records) == 1


def test_a_transfer_names_the_model_too(tmp_path):
    key = RunKey("imagenet", "SAR_CoOp", "vit_b16", 16, 1)
    source = put_source(tmp_path, key, 700)
    target = RunKey("dtd", "SAR_CoOp", "vit_b16", 16, 1)
    put_evaluation(tmp_path, target, 400, str(source).replace("SAR_CoOp", "CoOp"))
    assert "that of trainer CoOp" in problems_text(collect(tmp_path))
    put_evaluation(tmp_path, target, 400, source)
    assert {r.key.dataset: r.values["accuracy"] for r in collect(tmp_path).records} == {
        "imagenet": 70.0,
        "dtd": 40.0,
    }
    put(tmp_path / target.evaluation_folder(), eval_log(400, subset="new", model=source))
    assert "wrong classes: expected all" in problems_text(collect(tmp_path))


# --- several results in one folder -----------------------------------------------------------


def test_results_that_differ_are_none_and_both_are_named(tmp_path):
    put(tmp_path, training_log(720))
    put(tmp_path, training_log(720), "log.txt-2024-01-31-09-00-00")
    assert read_run(tmp_path, trained=True).score is not None  # the same twice is one result
    put(tmp_path, training_log(654), "log.txt-2024-02-01-09-00-00")
    reason = read_run(tmp_path, trained=True).reason
    assert "72.00 % in log.txt" in reason
    assert "65.40 % in log.txt-2024-02-01-09-00-00" in reason
    put(tmp_path, eval_log(500, epoch=1))
    put(tmp_path, eval_log(480), "log.txt-2024-02-01-09-00-00")
    assert "results that differ" in read_run(tmp_path, trained=False).reason


def test_two_tests_at_the_end_of_one_start_that_differ_are_none(tmp_path):
    put(tmp_path, training_log(720) + "Evaluate on the *test* set\n" + result_block(600, 1000))
    assert "72.00 % in log.txt, 60.00 % in log.txt" in read_run(tmp_path, trained=True).reason


def test_of_several_logs_the_one_of_this_model_counts_and_the_others_are_named(tmp_path):
    folder = run_dir(tmp_path, "train_base", "food", "CoOp", 1)
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    put(folder, training_log(654, SEED=2), "log.txt-2024-02-01-09-00-00")
    test = run_dir(tmp_path, "test_new", "food", "CoOp", 1)
    put(test, eval_log(450, epoch=1), "log.txt-2024-02-01-09-00-00")
    results = collect(tmp_path)
    (record,) = results.records
    assert (record.values["base"], record.values["new"]) == (70.0, 50.0)
    assert not results.problems
    assert [note.partition(": ")[2] for note in results.notes] == [
        "log.txt-2024-02-01-09-00-00: not counted: the log is that of seed 2, its folder that of 1",
        "log.txt-2024-02-01-09-00-00: not counted: tested the checkpoint of epoch 1, but the "
        "training had 2 epochs",
    ]


def test_a_training_that_was_continued_counts_as_it_ended(tmp_path):
    text = training_log(720) + "\n--- log continued at 2024-01-31 09:00:00 ---\n"
    put(tmp_path, text + training_log(740, resumed=True, epochs=4))
    run = read_run(tmp_path, trained=True)
    assert run.score is not None
    assert (run.score.correct, run.epochs) == (740, 4)
    assert run.notes == ("replaced by 74.00 % in log.txt: 72.00 % in log.txt",)
