"""Reading logs back: only what a log proves counts, and every loss is named."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_logs import eval_log, filled, put, put_model, result_block, run_dir, training_log

from sar.command_line.commands import call
from sar.errors import DataError
from sar.results import Run, collect, read_run, to_text, write_files
from sar.results.cli import results
from sar.results.presentations import make_tables
from sar.results.statistics import harmonic_mean, t_quantile
from sar.results.tables import Kind

ROOT = Path(__file__).resolve().parents[1]


# --- one log ---------------------------------------------------------------------------------


@given(
    total=st.integers(1, 2_000_000),
    share=st.floats(0, 1),
    decimals=st.sampled_from([1, 2]),
    end=st.sampled_from(["Finish training", "Finished training"]),
)
@settings(max_examples=40, deadline=None)
def test_accuracy_comes_from_the_counts(tmp_path_factory, total, share, decimals, end):
    correct = round(share * total)
    text = training_log(correct, total, decimals=decimals, end=end)
    run = read_run(put(tmp_path_factory.mktemp("run"), text), trained=True, subset="base")
    assert run.score is not None, run.reason
    assert run.score.accuracy == 100 * correct / total
    assert run.epochs == 2


def test_a_log_cut_anywhere_gives_the_true_score_or_a_reason(tmp_path):
    text = training_log(1234, 5678)
    complete = text.index("Elapsed") - 1  # all five lines of the block are there
    for cut in range(len(text)):
        run = read_run(put(tmp_path, text[:cut]), trained=True)
        if cut >= complete:
            assert run.score is not None
            assert (run.score.correct, run.score.total) == (1234, 5678)
        else:
            assert run.score is None
            assert run.reason.startswith(("empty", "unfinished", "truncated"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty log"),
        (training_log(end="Killed"), "unfinished: training stopped at epoch 2/2"),
        (training_log().split("=> result")[0], "unfinished: no result block"),
        (training_log().replace("accuracy: 81.0%", "accuracy: nan%"), "accuracy is nan"),
        (training_log(loss="nan"), "training loss is nan"),
        (training_log().replace("accuracy: 81.0%", "accuracy: 81.2%"), "the log says 81.2 %"),
        (training_log().replace("correct: 810", "correct: 8\x0010"), "damaged result"),
        (training_log().replace("correct: 810", "correct: 2,810"), "2810 correct of 1000"),
        (training_log(subset="all"), "SUBSAMPLE_CLASSES all"),
        (training_log().replace("*test*", "*val*"), "only on the validation set"),
        (eval_log(), "not of a training"),
    ],
)
def test_what_does_not_count_has_a_reason(tmp_path, text, reason):
    run = read_run(put(tmp_path, text), trained=True, subset="base")
    assert run.score is None
    assert reason in run.reason


def accuracy(run: Run) -> float:
    assert run.score is not None, run.reason
    return run.score.accuracy


def test_validation_results_during_training_are_not_the_result(tmp_path):
    text = training_log(810).replace(
        "epoch [2/2]", "Evaluate on the *val* set\n" + result_block(990, 1000) + "epoch [2/2]"
    )
    assert accuracy(read_run(put(tmp_path, text), trained=True)) == 81.0


def test_continued_logs_last_complete_result_wins(tmp_path):
    put(tmp_path, training_log(700, end="crash"))
    put(tmp_path, training_log(720, resumed=True), "log.txt-2024-01-31-09-00-00")
    put(tmp_path, training_log(730, resumed=True), "log.txt-2024-02-01-09-00-00")
    put(tmp_path, training_log(740)[:-80], "log.txt-2024-02-02-09-00-00")
    put(tmp_path, eval_log(500), "log.txt-2024-02-03-09-00-00")
    put(tmp_path, training_log(100), "log.txt.bak")
    run = read_run(tmp_path, trained=True)
    assert accuracy(run) == 73.0
    assert run.notes == (
        "replaced by 73.00 % in log.txt-2024-02-01-09-00-00: 72.00 % in "
        "log.txt-2024-01-31-09-00-00",
    )
    assert accuracy(read_run(tmp_path, trained=False)) == 50.0


def test_one_log_of_several_starts(tmp_path):
    mark = "\n--- log continued at 2024-01-31 09:00:00 ---\n"
    crashed = training_log(700).split("epoch [2/2]")[0]
    put(tmp_path, crashed + mark + "eval_only: False\nError: no space left\n")
    assert read_run(tmp_path, trained=True).reason == (
        "unfinished: training stopped at epoch 1/2 (no space left)"
    )
    put(tmp_path, mark.join([crashed, training_log(720), eval_log(500), crashed]))
    assert accuracy(read_run(tmp_path, trained=True)) == 72.0
    assert accuracy(read_run(tmp_path, trained=False)) == 50.0


def test_unreadable_log_is_a_reason(tmp_path):
    (tmp_path / "log.txt").symlink_to(tmp_path / "nowhere")
    assert read_run(tmp_path, trained=True).reason == "no log.txt"
    assert read_run(tmp_path / "missing", trained=True).reason == "no log.txt"


# --- a folder --------------------------------------------------------------------------------


def test_records_are_the_same_from_every_level_of_the_folder(tmp_path):
    root = tmp_path / "output" / "base2new"
    put_model(root, "food", "CoOp", 1, 736, 467)
    put_model(root, "food", "CoOp", 2, 740, 480)
    expected = [record.as_dict() for record in collect(root).records]
    assert expected[0] == {
        "protocol": "base2new",
        "dataset": "food",
        "trainer": "CoOp",
        "cfg": "vit_b16",
        "shots": 16,
        "seed": 1,
        "base": 73.6,
        "new": 46.7,
        "h": 57.1425,
    }
    assert [record.as_dict() for record in collect(tmp_path).records] == expected
    (alone,) = collect(run_dir(root, "train_base", "food", "CoOp", 1)).records
    assert alone.values == {"base": 73.6}


def test_incomplete_and_broken_seeds_are_listed_and_not_in_the_mean(tmp_path):
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    put(run_dir(tmp_path, "train_base", "food", "CoOp", 2), training_log(999))
    put(run_dir(tmp_path, "test_new", "food", "CoOp", 3), eval_log(999))
    put_model(tmp_path, "food", "CoOp", 4, 999, 999)
    put(run_dir(tmp_path, "train_base", "food", "CoOp", 4), training_log(999)[:-40])
    run_dir(tmp_path, "train_base", "food", "CoOp", 5).mkdir()
    put(tmp_path / "notes" / "somewhere", training_log(999))
    results = collect(tmp_path)
    assert [(r.key.seed, r.values["base"]) for r in results.records] == [(1, 70.0)]
    reasons = {p.directory.name + " " + p.directory.parts[-6]: p.reason for p in results.problems}
    assert reasons["seed2 train_base"] == "incomplete: no new-class accuracy"
    assert reasons["seed3 test_new"] == "incomplete: no base-class accuracy"
    assert reasons["seed4 train_base"].startswith("truncated")
    assert reasons["seed4 test_new"] == "incomplete: no base-class accuracy"
    assert reasons["seed5 train_base"] == "no log.txt"
    assert len(results.problems) == 6  # and the folder of unknown layout


def test_what_was_trained_with_the_true_new_classes_is_called_a_leak(tmp_path):
    for trainer, novel in (("SAR_CoOp", "oracle"), ("SAR_MaPLe", "none")):
        put_model(tmp_path, "food", trainer, 1, 700, 600)
        log = training_log(700, opts=f"['TRAINER.SAR.NOVEL', '{novel}']")
        put(run_dir(tmp_path, "train_base", "food", trainer, 1), log)
    (note,) = collect(tmp_path).notes
    assert note.startswith("SAR_CoOp: ")
    assert note.endswith("a leak: an upper bound, not a result")


def test_zero_shot_base_half_is_an_evaluation(tmp_path):
    for part, subset, correct in (("test_base", "base", 631), ("test_new", "new", 598)):
        put(run_dir(tmp_path, part, "food", "ZeroshotCLIP", 1), eval_log(correct, subset=subset))
    (record,) = collect(tmp_path).records
    assert (record.values["base"], record.values["new"]) == (63.1, 59.8)


def test_kgcoop_weights_and_main_sh_layout(tmp_path):
    put_model(tmp_path, "food", "KgCoOp", 1, 700, 500, shots="16_8.0")
    put_model(tmp_path, "food", "KgCoOp", 1, 600, 400, shots="16_1.0")
    for seed in (1, 2):
        put(
            tmp_path
            / "output"
            / "food"
            / "CoOp"
            / "rn50_4shots"
            / "nctx16_cscFalse_ctpend"
            / f"seed{seed}",
            training_log(700 + 10 * seed, subset="all"),
        )
    results = collect(tmp_path)
    assert not results.problems
    assert {r.key.cfg for r in results.records} == {
        "vit_b16_8.0",
        "vit_b16_1.0",
        "rn50_nctx16_cscFalse_ctpend",
    }
    text = to_text(results)
    assert "KgCoOp vit_b16_8.0" in text
    assert "71.50 ± 0.71" in text  # the single-accuracy table, shots 4


# --- tables ----------------------------------------------------------------------------------


def test_table_means_differences_and_average(tmp_path):
    (table,) = make_tables(collect(filled(tmp_path)))
    cells = {(row.group, row.label): row.cells for row in table.rows}
    coop = cells["animals", "CoOp"]
    assert coop["base"].mean == pytest.approx(74.0)
    assert coop["base"].std == pytest.approx(1.0)
    per_seed = [harmonic_mean(b, n) for b, n in ((73, 45), (74, 47), (75, 49))]
    assert coop["h"].mean == pytest.approx(sum(per_seed) / 3)
    difference = cells["animals", "SAR_CoOp - CoOp"]
    assert difference["new"].mean == pytest.approx((13 + 10 + 7) / 3)
    assert difference["new"].std == pytest.approx(3.0)  # paired, not of the two means
    average = cells["Average of 2", "CoOp"]
    assert average["base"].mean == pytest.approx(75.0)
    assert average["h"].mean == pytest.approx(harmonic_mean(75.0, 46.0))
    assert cells["Average of 2", "SAR_CoOp - CoOp"]["h"].mean == pytest.approx(
        harmonic_mean(71.0, 56.0) - harmonic_mean(75.0, 46.0)
    )
    assert [row.label for row in table.rows[:4]] == [
        "ZeroshotCLIP",
        "CoOp",
        "SAR_CoOp",
        "SAR_CoOp - CoOp",
    ]
    assert not any(row.short for row in table.rows)


def test_missing_datasets_and_seeds_are_marked(tmp_path):
    filled(tmp_path)
    put_model(tmp_path, "travel", "CoOp", 1, 700, 500)
    put(run_dir(tmp_path, "test_new", "food", "SAR_CoOp", 3), "")
    results = collect(tmp_path)
    (table,) = make_tables(results)
    short = {(row.group, row.label) for row in table.rows if row.short}
    assert short == {("food", "SAR_CoOp"), ("Average of 2", "SAR_CoOp")}
    text = to_text(results)
    assert "2*" in text
    assert "Missing: ZeroshotCLIP on travel, SAR_CoOp on travel." in text
    assert {row.group for row in table.rows} == {"animals", "food", "travel", "Average of 2"}
    (paired,) = [r for r in table.rows if r.group == "food" and r.kind is Kind.DIFFERENCE]
    assert paired.seeds() == "2"


def test_differences_of_averages_are_paired(tmp_path):
    """The third seed of CoOp, which SAR_CoOp lacks, changes no difference."""
    for dataset in ("animals", "food"):
        for seed, new in ((1, 400), (2, 420), (3, 700)):
            put_model(tmp_path, dataset, "CoOp", seed, 700, new)
        for seed, new in ((1, 500), (2, 520)):
            put_model(tmp_path, dataset, "SAR_CoOp", seed, 700, new)
    (table,) = make_tables(collect(tmp_path))
    average = {row.label: row for row in table.rows if row.average}
    difference = average["SAR_CoOp - CoOp"]
    assert difference.cells["new"].mean == pytest.approx(10.0)
    assert difference.cells["new"].std == pytest.approx(0.0)
    assert difference.cells["h"].mean == pytest.approx(
        harmonic_mean(70, 51) - harmonic_mean(70, 41)
    )
    assert [row.seeds() for row in average.values()] == ["3", "2*", "2"]


def test_trainers_without_a_common_seed_have_no_difference(tmp_path):
    for dataset in ("animals", "food"):
        put_model(tmp_path, dataset, "CoOp", 1, 700, 400)
        put_model(tmp_path, dataset, "SAR_CoOp", 2, 700, 500)
    (table,) = make_tables(collect(tmp_path))
    assert {row.kind for row in table.rows} == {Kind.MEASURED}


def test_names_do_not_break_the_table(tmp_path):
    put_model(tmp_path, "a|b_c & 50%", "CoOp", 1, 700, 400)
    put_model(tmp_path, "a|b_c & 50%", "CoOp", 2, 710, 400)
    put_model(tmp_path, "food", "CoOp", 1, 700, 400)
    results = collect(tmp_path)
    assert r"| a\|b_c & 50% |" in to_text(results, "markdown")
    latex = to_text(results, "latex")
    assert r"a|b\_c \& 50\%" in latex
    assert r"70.50 $\pm$ 0.71" in latex
    assert latex.count(r"\midrule") == 3  # below the headings, and between the groups


def test_imagenet_config_of_its_own_is_one_method_but_shots_are_not(tmp_path):
    put_model(tmp_path, "food", "CoOp", 1, 700, 500, cfg="vit_b16_ctxv1")
    put_model(tmp_path, "imagenet", "CoOp", 1, 700, 500, cfg="vit_b16_ep50_ctxv1")
    (table,) = make_tables(collect(tmp_path))
    assert {row.label for row in table.rows if row.kind is Kind.MEASURED} == {"CoOp"}
    put_model(tmp_path, "food", "CoOp", 1, 700, 500, cfg="vit_b16_ctxv1", shots="4")
    (table,) = make_tables(collect(tmp_path))
    measured = {row.label for row in table.rows if row.kind is Kind.MEASURED}
    assert measured == {"CoOp 4 shots", "CoOp 16 shots"}


@pytest.mark.parametrize(
    ("df", "quantile"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (30, 2.04227),
        (1000, 1.96234),
    ],
)
def test_t_quantiles_of_the_printed_tables(df, quantile):
    assert t_quantile(df) == pytest.approx(quantile, rel=1e-5)


def test_ci95_is_wider_for_three_seeds(tmp_path):
    text = to_text(collect(filled(tmp_path)), ci95=True)
    assert f"74.00 ± {4.30265 / math.sqrt(3):.2f}" in text
    assert "95 % confidence interval" in text


def test_formats_agree(tmp_path):
    results = collect(filled(tmp_path))
    records = json.loads(to_text(results, "json"))
    rows = list(csv.DictReader(to_text(results, "csv").splitlines()))
    assert [{k: str(v) for k, v in record.items()} for record in records] == rows
    assert len(records) == 14
    assert "| CoOp" in to_text(results, "markdown")
    latex = to_text(results, "latex")
    assert r"SAR\_CoOp" in latex
    assert latex.count(r"\\") >= 9


def test_write_files_leaves_no_partial_file(tmp_path):
    written = write_files(collect(filled(tmp_path)), tmp_path)
    assert (
        {p.name for p in tmp_path.iterdir() if p.is_file()}
        == {p.name for p in written}
        == {"results.md", "results.csv", "results.json", "summary.json"}
    )


# --- command line ----------------------------------------------------------------------------


def test_command_line_filters_and_writes(tmp_path, capsys):
    filled(tmp_path / "out")
    target = tmp_path / "deep" / "table.json"
    call(
        results,
        [
            str(tmp_path / "out"),
            "--trainer",
            "CoOp,SAR_CoOp",
            "--dataset",
            "food",
            "--format",
            "json",
            "--output",
            str(target),
        ],
    )
    records = json.loads(target.read_text())
    assert {(r["trainer"], r["dataset"]) for r in records} == {
        ("CoOp", "food"),
        ("SAR_CoOp", "food"),
    }
    assert capsys.readouterr().out == ""


def test_results_and_reports_need_nothing_that_only_posix_has(tmp_path: Path) -> None:
    """As on Windows, where these modules are missing."""
    output = filled(tmp_path)
    code = f"""
import sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
from sar.command_line.commands import call
from sar.results.cli import report, results
call(results, [{str(output)!r}, "--write"])
call(report, [{str(output)!r}])
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
    assert (output / "results.md").is_file()
    assert (output / "report.html").is_file()


def test_command_line_errors_say_what_exists(tmp_path):
    with pytest.raises(DataError, match="is not a directory"):
        call(results, [str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="no complete result"):
        call(results, [str(tmp_path)])
    filled(tmp_path)
    with pytest.raises(DataError, match="trainers: CoOp, SAR_CoOp, ZeroshotCLIP"):
        call(results, [str(tmp_path), "--trainer", "Coop"])


def test_script_runs_without_installation_and_with_click_and_tabulate_alone(tmp_path):
    filled(tmp_path / "out")
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "for name in ('torch', 'yacs', 'numpy', 'jinja2'): sys.modules[name] = None\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            str(ROOT / "tools" / "parse_results.py"),
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Average of 2" in done.stdout
