"""One table per protocol, published numbers beside it, and nothing missing without a word."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from result_logs import (
    CFG,
    eval_log,
    put,
    put_ablation,
    put_evaluation,
    put_model,
    put_source,
    put_transfer,
    put_variant,
    run_dir,
    training_log,
)

from sar.results import collect, problems_text, published, to_text
from sar.results.collect import Filter
from sar.results.folders import RunKey
from sar.results.presentations import make_plots, make_tables
from sar.results.protocol import ProtocolRecord, record_protocol
from sar.results.statistics import harmonic_mean
from sar.results.tables import Kind, Row, Table


def rows(table: Table) -> dict[tuple[str, str], Row]:
    return {(row.group, row.label): row for row in table.rows}


def means(row: Row) -> dict[str, float]:
    return {column: round(cell.mean, 2) for column, cell in row.cells.items()}


# --- transfer --------------------------------------------------------------------------------


def test_transfer_average_leaves_the_source_out(tmp_path):
    for seed in (1, 2, 3):
        put_transfer(tmp_path, "CoOp", seed, 710 + seed, {"dtd": 400 + seed, "eurosat": 460})
        put_transfer(tmp_path, "SAR_CoOp", seed, 711 + seed, {"dtd": 430 + seed, "eurosat": 460})
    (table,) = make_tables(collect(tmp_path))
    assert list(table.columns) == ["imagenet", "dtd", "eurosat", "average"]
    found = rows(table)
    coop = found["imagenet", "CoOp"]
    assert means(coop) == {"imagenet": 71.2, "dtd": 40.2, "eurosat": 46.0, "average": 43.1}
    assert coop.cells["average"].std == pytest.approx(0.05)  # of the seeds' own averages
    assert coop.cells["eurosat"].std == pytest.approx(0)
    difference = found["imagenet", "SAR_CoOp - CoOp"]
    assert means(difference) == {"imagenet": 0.1, "dtd": 3.0, "eurosat": 0.0, "average": 1.5}
    assert difference.cells["dtd"].std == pytest.approx(0)  # paired


def test_seed_without_all_targets_is_not_in_the_average(tmp_path):
    put_transfer(tmp_path, "CoOp", 1, 710, {"dtd": 400, "eurosat": 460})
    put_transfer(tmp_path, "CoOp", 2, 710, {"dtd": 900})
    (table,) = make_tables(collect(tmp_path))
    coop = rows(table)["imagenet", "CoOp"]
    assert means(coop)["average"] == 43.0
    assert coop.seeds() == "1-2*"
    assert any("seed 2, is not in the average: no result on eurosat" in r for r in table.remarks)


def test_checkouts_shared_folder_is_taken_apart_by_the_logs(tmp_path):
    """CoOp's scripts put few-shot runs, the source and both kinds of tests into `output/`."""
    targets = {"dtd": 400, "imagenet_r": 700}
    put_transfer(tmp_path, "CoOp", 1, 710, targets, cfg="vit_b16")
    put_source(tmp_path, RunKey("caltech101", "CoOp", "vit_b16", 16, 1), 950)
    put_source(tmp_path, RunKey("caltech101", "CoOp", "vit_b16", 1, 1), 900)
    put_model(tmp_path / "base2new", "dtd", "CoOp", 1, 800, 400)
    tables = {table.protocol: rows(table) for table in make_tables(collect(tmp_path))}
    assert set(tables) == {"base2new", "cross-dataset", "domain-generalization", "few-shot"}
    assert set(tables["cross-dataset"]["imagenet", "CoOp"].cells) == {"imagenet", "dtd", "average"}
    assert means(tables["domain-generalization"]["imagenet", "CoOp"])["imagenet_r"] == 70.0
    assert means(tables["few-shot"]["caltech101", "CoOp"]) == {"1": 90.0, "16": 95.0}
    assert means(tables["few-shot"]["imagenet", "CoOp"]) == {"16": 71.0}


def test_source_is_known_without_the_training_and_without_a_protocol_file(tmp_path):
    key = RunKey("dtd", "CoOp", CFG, 16, 1)
    model = "/gone/output/imagenet/CoOp/vit_b16_ctxv1_16shots/seed1"
    put_evaluation(tmp_path, key, 400, model)
    put_evaluation(tmp_path, replace(key, trainer="ZeroshotCLIP"), 440)
    sources = {r.key.trainer: r.source for r in collect(tmp_path).records}
    assert sources == {"CoOp": "imagenet", "ZeroshotCLIP": "unknown"}
    record_protocol(
        tmp_path, ProtocolRecord("cross-dataset", ["dtd"], ["CoOp"], [1], [16], "imagenet")
    )
    assert {r.source for r in collect(tmp_path).records} == {"imagenet"}


def test_the_demo_is_averaged_among_itself_alone(tmp_path):
    """Catalogues of one's own have rows and an average of their own."""
    two, few = tmp_path / "base2new", tmp_path / "few"
    for number, dataset in enumerate(("demo_food", "demo_nature", "shop", "garden")):
        put_model(two, dataset, "CoOp", 1, 900 - 100 * number, 500)
        put_source(few, RunKey(dataset, "CoOp", CFG, 1, 1), 900 - 100 * number)
    for folder, column in ((two, "base"), (few, "1")):
        (table, *_) = make_tables(collect(folder))
        assert means(rows(table)["Average of 2", "CoOp"])[column] == 65.0
        said = "Not in an average with others, as they are drawings: demo_food, demo_nature."
        assert said in table.remarks
    (demo,) = make_tables(collect(two, Filter(datasets=["demo_food", "demo_nature"])))
    assert means(rows(demo)["Average of 2", "CoOp"])["base"] == 85.0


# --- few-shot --------------------------------------------------------------------------------


def test_fixed_views_are_another_method_under_another_protocol(tmp_path):
    """Never averaged with fresh views, paired among themselves, beside nothing published."""
    zero_shot = run_dir(tmp_path, "test_base", "food101", "ZeroshotCLIP", 1, CFG)
    put(zero_shot, eval_log(700, subset="base", VIEWS=4))
    for trainer, seed, views in (
        ("CoOp", 1, 0),
        ("CoOp", 2, 4),
        ("SAR_CoOp", 1, 4),
        ("SAR_CoOp", 2, 4),
    ):
        folder = run_dir(tmp_path, "train_base", "food101", trainer, seed, CFG)
        put(folder, training_log(700 + 10 * seed, VIEWS=views))
    results = collect(tmp_path)
    (table,) = make_tables(results)
    plain, sar = (f"{trainer} (4 fixed views)" for trainer in ("CoOp", "SAR_CoOp"))
    assert [(row.label, row.cells["base"].mean) for row in table.rows] == [
        ("ZeroshotCLIP", 70),
        ("ZeroshotCLIP, published", 90.1),
        ("CoOp", 71),
        ("CoOp, published", 88.33),
        (plain, 72),
        (sar, 71.5),
        (f"{sar} - {plain}", 0),
    ]
    assert "\nfixed views: drawn once of each" in to_text(results)
    assert {r["trainer"] for r in json.loads(to_text(results, "json"))} >= {"CoOp", plain, sar}


def test_the_training_says_on_which_views_a_model_was_trained(tmp_path):
    for trainer, views in (("CoOp", 1), ("SAR_CoOp", 0)):
        source = RunKey("imagenet", trainer, CFG, 16, 1)
        model = put(
            tmp_path / source.all_classes_folder(), training_log(700, subset="all", VIEWS=views)
        )
        put_evaluation(tmp_path, replace(source, dataset="food101"), 500, model)
    assert {record.key.trainer for record in collect(tmp_path).records} == {
        "CoOp (1 fixed view)",
        "SAR_CoOp",
    }


def test_few_shot_columns_are_shots_and_zero_shot_has_none(tmp_path):
    for dataset, shift in (("dtd", 0), ("eurosat", 100)):
        put(
            tmp_path / RunKey(dataset, "ZeroshotCLIP", "vit_b16", 1, 1).all_classes_folder(),
            eval_log(440 + shift, subset="all"),
        )
        for shots, correct in ((1, 500), (16, 600)):
            for seed in (1, 2):
                put_source(
                    tmp_path, RunKey(dataset, "CoOp", CFG, shots, seed), correct + shift + seed
                )
    put_source(tmp_path, RunKey("dtd", "CoOp", CFG, 4, 1), 550)
    (table,) = make_tables(collect(tmp_path))
    found = rows(table)
    assert list(table.columns.values()) == ["0 shots", "1 shot", "4 shots", "16 shots"]
    assert means(found["dtd", "CoOp"]) == {"1": 50.15, "4": 55.0, "16": 60.15}
    assert found["dtd", "CoOp"].seeds() == "1-2*"
    assert means(found["Average of 2", "CoOp"]) == {"1": 55.15, "16": 65.15}  # 4: not on eurosat
    assert means(found["Average of 2", "ZeroshotCLIP"]) == {"0": 49.0}
    assert found["Average of 2", "CoOp"].cells["1"].std == pytest.approx(0.0707, abs=1e-4)


# --- ablation --------------------------------------------------------------------------------


def test_ablation_rows_are_settings_averaged_over_datasets(tmp_path):
    whole, food, _ = make_tables(collect(put_ablation(tmp_path)))
    assert whole.title == "Ablation, average of food, pets"
    assert [(row.group, row.label) for row in whole.rows] == [
        ("baseline", "CoOp"),
        ("components", "base only"),
        ("components", "all (default)"),
        ("weight", "0.25"),
        ("weight", "4 (default)"),
    ]
    row = rows(whole)["weight", "0.25"]
    h = 2 * 78.1 * 66.5 / (78.1 + 66.5)
    assert means(row) == {
        "base": 78.1,
        "new": 66.5,
        "h": round(h, 2),
        "gain": round(h - 2 * 80 * 55 / 135, 2),
    }
    assert "gain" not in rows(whole)["baseline", "CoOp"].cells
    assert means(rows(food)["weight", "0.25"])["new"] == 61.5
    assert "+" in to_text(collect(tmp_path)).split("H gain")[1]


def test_ablation_with_two_numbers_of_shots_is_not_mixed(tmp_path):
    variants = {f"weight_{w}": ["TRAINER.SAR.WEIGHT", str(w)] for w in (1, 4)}
    plan = ProtocolRecord("ablation", ["food"], ["SAR_CoOp"], [1], [4, 16], "", variants)
    record_protocol(tmp_path, plan)
    for shots in (4, 16):
        put_variant(tmp_path, RunKey("food", "CoOp", CFG, shots, 1, "baseline"), 800 + shots, 500)
        for variant in variants:
            key = RunKey("food", "SAR_CoOp", CFG, shots, 1, variant)
            put_variant(tmp_path, key, 700 + shots, 600)
    (table,) = make_tables(collect(tmp_path))
    found = {name: means(row) for name, row in rows(table).items()}
    assert [label for _, label in found][:3] == [
        "CoOp 4 shots",
        "CoOp 16 shots",
        "1, SAR_CoOp 4 shots",
    ]
    for shots in (4, 16):
        row, plain = 70 + shots / 10, 80 + shots / 10
        h = harmonic_mean(row, 60) - harmonic_mean(plain, 50)
        assert found["weight", f"4, SAR_CoOp {shots} shots"]["base"] == row
        assert found["weight", f"4, SAR_CoOp {shots} shots"]["gain"] == round(h, 2)
    sweeps = [plot.name for plot in make_plots(table) if plot.name.startswith("weight")]
    assert sweeps == ["weight_SAR_CoOp_4_shots_food", "weight_SAR_CoOp_16_shots_food"]


def test_ablation_setting_without_all_datasets_is_named_not_averaged(tmp_path):
    results = collect(put_ablation(tmp_path, skip=("pets", "weight_4")))
    whole, food, pets = make_tables(results)
    default = ("weight", "4 (default)")
    assert default not in rows(whole)
    missing = "components: all (default); weight: 4 (default)."
    assert any(remark.endswith(missing) for remark in whole.remarks)
    assert default in rows(food)
    assert default not in rows(pets)
    assert "not started: weight_4 SAR_CoOp, 16 shots, seeds 1, 2, on pets" in problems_text(results)


# --- what is missing -------------------------------------------------------------------------


def test_what_was_asked_for_and_never_started_is_listed(tmp_path):
    trainers = ["ZeroshotCLIP", "CoOp", "SAR_CoOp"]
    record_protocol(tmp_path, ProtocolRecord("base2new", ["food", "pets"], trainers, [1, 2], [16]))
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    put_model(tmp_path, "food", "CoOp", 2, 700, 500)
    put_model(tmp_path, "pets", "CoOp", 1, 700, 500)
    text = problems_text(collect(tmp_path))
    assert "not started: CoOp, 16 shots, seed 2, on pets" in text
    assert "not started: SAR_CoOp, 16 shots, seeds 1, 2, on food, pets" in text
    assert "not started: ZeroshotCLIP, seed 1, on food, pets" in text
    assert "not started" not in problems_text(collect(tmp_path / "train_base"))


def test_last_words_of_a_crashed_process_are_the_reason(tmp_path):
    folder = put(
        tmp_path / RunKey("food", "CoOp", CFG, 16, 1).all_classes_folder(),
        training_log().split("epoch [2/2]")[0],
    )
    put(folder, "Traceback ...\nRuntimeError: CUDA out of memory\n", "console.txt")
    (problem,) = collect(tmp_path).problems
    assert problem.reason.endswith("at epoch 1/2; RuntimeError: CUDA out of memory")


@pytest.mark.parametrize("recorded", [False, True])
def test_second_run_of_the_same_model_is_reported(tmp_path, recorded):
    put_model(tmp_path / "a", "food", "CoOp", 1, 700, 500)
    put_model(tmp_path / "b", "food", "CoOp", 1, 900, 900)
    if recorded:
        record_protocol(tmp_path / "a", ProtocolRecord("base2new", ["food"], ["CoOp"], [1], [16]))
    results = collect(tmp_path)
    assert [record.values["base"] for record in results.records] == [70.0]
    assert [problem.directory for problem in results.problems] == [
        run_dir(tmp_path / "b", part, "food", "CoOp", 1) for part in ("train_base", "test_new")
    ]
    assert all("a second run like" in problem.reason for problem in results.problems)
    (table,) = make_tables(results)
    assert means(rows(table)["food", "CoOp"])["base"] == 70.0


def test_a_copied_seed_counts_once(tmp_path):
    """`cp -r seed1 seed2` of logs that name no seed; zero-shot CLIP is the same for each seed."""
    for seed, shift in ((1, 0), (2, 0), (3, 10)):
        put(run_dir(tmp_path, "train_base", "food", "CoOp", seed), training_log(700 + shift))
        put(run_dir(tmp_path, "test_new", "food", "CoOp", seed), eval_log(500 + shift))
        for part in ("test_base", "test_new"):
            put(run_dir(tmp_path, part, "food", "ZeroshotCLIP", seed), eval_log(subset=part[5:]))
    results = collect(tmp_path)
    assert [r.key.seed for r in results.records if r.key.trainer == "CoOp"] == [1, 3]
    assert len(results.records) == 5
    assert [(problem.directory, problem.reason) for problem in results.problems] == [
        (
            run_dir(tmp_path, part, "food", "CoOp", 2),
            f"a copy of {run_dir(tmp_path, part, 'food', 'CoOp', 1)}: the logs are the same, byte "
            "for byte",
        )
        for part in ("train_base", "test_new")
    ]


def test_models_of_two_output_folders_are_never_mixed(tmp_path):
    """The run in `a` has died before its test and was repeated in `b`."""
    put(run_dir(tmp_path / "a", "train_base", "food", "CoOp", 1), training_log(700))
    put_model(tmp_path / "b", "food", "CoOp", 1, 900, 800)
    results = collect(tmp_path)
    assert [(r.values["base"], r.values["new"]) for r in results.records] == [(90.0, 80.0)]
    assert [p.reason for p in results.problems] == ["incomplete: no new-class accuracy"]


def test_what_two_output_folders_have_counts_once(tmp_path):
    put_transfer(tmp_path / "a", "CoOp", 1, 710, {"dtd": 400})
    put_transfer(tmp_path / "b", "CoOp", 1, 810, {"dtd": 500, "eurosat": 600})
    results = collect(tmp_path)
    found = {r.key.dataset: r.values["accuracy"] for r in results.records}
    assert found == {"imagenet": 71.0, "dtd": 40.0, "eurosat": 60.0}
    assert sum("a second run like" in problem.reason for problem in results.problems) == 2


# --- published numbers -----------------------------------------------------------------------


def test_published_numbers_stand_beside_and_deviations_are_marked(tmp_path):
    known = published.base_to_new("CoOp", "dtd")
    assert known is not None
    base, new = round(10 * known["base"]), round(10 * known["new"]) - 11
    put_model(tmp_path, "dtd", "CoOp", 1, base, new, cfg=CFG)
    put_model(tmp_path, "eurosat", "CoOp", 1, 922, 547, cfg=CFG)
    (table,) = make_tables(collect(tmp_path))
    found = rows(table)
    assert found["dtd", "CoOp"].deviating == {"new"}
    assert found["dtd", "CoOp, published"].kind is Kind.PUBLISHED
    assert means(found["dtd", "CoOp, published"]) == {"base": 79.44, "new": 41.18, "h": 54.24}
    average = means(found["Average of 2", "CoOp, published"])
    assert average["base"] == round((79.44 + 92.19) / 2, 2)
    text = to_text(collect(tmp_path))
    assert f"{new / 10:.2f}†" in text
    assert "Sources: " in text
    assert len(json.loads(to_text(collect(tmp_path), "json"))) == 2  # own results alone


@pytest.mark.parametrize(
    ("dataset", "where"),
    [
        ("food", {"cfg": CFG}),  # no published dataset
        ("dtd", {"cfg": "pocket"}),
        ("dtd", {"cfg": CFG, "shots": "4"}),
    ],
)
def test_published_numbers_of_another_setup_are_not_shown(tmp_path, dataset, where):
    put_model(tmp_path, dataset, "CoOp", 1, 700, 500, **where)
    (table,) = make_tables(collect(tmp_path))
    assert {row.kind for row in table.rows} == {Kind.MEASURED}


def test_published_data_is_complete_and_consistent():
    eleven = published.datasets()
    assert len(eleven) == 11
    for trainer in ("ZeroshotCLIP", "CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC"):
        average = published.base_to_new_average(trainer, eleven)
        assert average is not None
        assert published.base_to_new_average(trainer, [*eleven, "demo_food"]) is None
    coop = published.base_to_new_average("CoOp", eleven)
    assert coop == pytest.approx({"base": 82.69, "new": 63.22, "h": 71.66}, abs=0.006)
    targets = [name for name in eleven if name != "imagenet"]
    found = published.transfer("cross-dataset", "MaPLe", "imagenet", targets)
    assert found is not None
    assert found["average"] == pytest.approx(66.30, abs=0.006)
    assert published.transfer("cross-dataset", "MaPLe", "demo_food", targets) is None
    assert "average" not in (
        published.transfer("cross-dataset", "MaPLe", "imagenet", [*targets, "mine"]) or {}
    )
    assert published.plugins("CoOp", eleven)["DePT"]["h"] == pytest.approx(77.29, abs=0.006)
    assert published.plugins("CoOp", targets) == {}


def test_all_protocols_in_every_format(tmp_path):
    put_ablation(tmp_path / "ablation")
    put_transfer(tmp_path / "xd", "CoOp", 1, 710, {"dtd": 400})
    put_model(tmp_path / "b2n", "dtd", "CoOp", 1, 800, 400)
    results = collect(tmp_path)
    records = json.loads(to_text(results, "json"))
    assert {r["protocol"] for r in records} == {"ablation", "cross-dataset", "base2new"}
    assert {"variant": "weight_4", "dataset": "food"}.items() <= next(
        r for r in records if r.get("variant") == "weight_4"
    ).items()
    assert len(list(csv.DictReader(to_text(results, "csv").splitlines()))) == len(records)
    for style in ("table", "markdown", "latex"):
        assert "Ablation, food" in to_text(results, style)
