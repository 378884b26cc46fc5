"""Intervals over classes and images: the bootstrap against all that can happen, and the tables."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_logs import eval_log, put, run_dir, training_log

from sar.command_line.commands import call
from sar.errors import ConfigError, DataError
from sar.predictions import PREDICTIONS_FILE, Predictions, write_predictions
from sar.predictions.ece import calibration_errors, gaps_by_bin
from sar.results import collect, problems_text, to_text, write_files
from sar.results.bootstrap import RESAMPLES, accuracies, calibration
from sar.results.calibration import calibration_tables
from sar.results.cli import results as results_command
from sar.results.presentations import compare_with, make_tables
from sar.results.report import render_report
from sar.results.resampled import Resampled, mean
from sar.results.resolution import resolution_table
from sar.results.statistics import Summary, harmonic_mean
from sar.results.tables import Kind, Row
from sar.results.tables.summary import summary_of, tables_in

CLASSES, IMAGES = 10, 8


def every_resample(label: list[int], correct: list[int]) -> dict[float, float]:
    """Accuracy -> probability, by going through all draws of classes and of their images."""
    classes = sorted(set(label))
    hits = {c: [h for k, h in zip(label, correct, strict=True) if k == c] for c in classes}
    found: dict[float, float] = defaultdict(float)
    for drawn in itertools.product(classes, repeat=len(classes)):
        chance = 1 / len(classes) ** len(classes)
        images = [list(itertools.product(hits[c], repeat=len(hits[c]))) for c in drawn]
        for some in itertools.product(*images):
            taken = [hit for part in some for hit in part]
            each = chance / np.prod([len(part) for part in images])
            found[round(100 * sum(taken) / len(taken), 6)] += float(each)
    return found


@pytest.mark.parametrize(
    ("label", "correct"),
    [
        ([0, 0, 1, 1], [1, 0, 1, 1]),
        ([0, 1, 1, 1], [0, 1, 1, 0]),  # classes of different sizes
        ([2, 0, 2, 1, 0], [1, 1, 0, 0, 1]),  # in no order
    ],
)
def test_it_draws_what_a_brute_force_reference_finds(label, correct):
    expected = every_resample(label, correct)
    count = 40_000
    hits = np.array(correct, dtype=bool)[:, None]
    drawn = accuracies(np.array(label, dtype=np.int32), hits, seed=5, resamples=count)
    found = Counter(np.round(drawn[:, 0], 6).tolist())
    assert found.keys() <= expected.keys()
    for accuracy, chance in expected.items():
        spread = (chance * (1 - chance) / count) ** 0.5
        assert abs(found[accuracy] / count - chance) < 5 * spread + 1e-9


@given(st.data())
@settings(max_examples=40)
def test_resamples_are_accuracies_of_the_same_images_for_all_models(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    label = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    bits = st.lists(st.booleans(), min_size=len(label), max_size=len(label))
    a, b = (np.array(data.draw(bits)) for _ in range(2))
    drawn = accuracies(label, np.stack([a, b, a, ~a, a & b], axis=1), seed=3, resamples=50)
    assert drawn.shape == (50, 5)
    assert ((drawn >= 0) & (drawn <= 100 + 1e-9)).all()
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    np.testing.assert_allclose(drawn[:, 0] + drawn[:, 3], 100)
    assert (drawn[:, 4] <= np.minimum(drawn[:, 0], drawn[:, 1]) + 1e-9).all()
    # The same images are drawn in another call, whoever else is compared, and in any order.
    alone = accuracies(label, a[:, None], seed=3, resamples=50)[:, 0]
    np.testing.assert_allclose(alone, drawn[:, 0])
    if len(label) == len(sizes) == 1:
        assert set(drawn[:, 0]) == {100.0 * a[0]}


def test_without_spread_among_images_only_classes_count():
    """Classes that are all right or all wrong: the binomial of the drawn classes."""
    label = np.repeat(np.arange(20), 7).astype(np.int32)
    drawn = accuracies(label, (label % 2 == 0)[:, None], seed=1, resamples=20_000)[:, 0]
    assert drawn.mean() == pytest.approx(50, abs=0.5)
    assert drawn.std() == pytest.approx(100 * (0.25 / 20) ** 0.5, rel=0.03)
    assert np.allclose(drawn % 5, 0, atol=1e-6) or np.allclose(drawn * 20 % 100, 0, atol=1e-6)


def test_numbers_keep_their_resamples_through_arithmetic():
    a = Resampled(60.0, np.array([50.0, 70.0]))
    b = Resampled(40.0, np.array([30.0, 50.0]))
    h = harmonic_mean(a, b)
    assert isinstance(h, Resampled)
    assert h == harmonic_mean(60.0, 40.0)
    np.testing.assert_allclose(h.draws, [harmonic_mean(50, 30), harmonic_mean(70, 50)])
    middle = mean([a, b])
    assert isinstance(middle, Resampled)
    np.testing.assert_allclose(middle.draws, [40, 60])
    difference = a - b
    assert isinstance(difference, Resampled)
    np.testing.assert_allclose(difference.draws, [20, 20])
    assert difference.interval() == pytest.approx((20, 20))
    nothing = Resampled(0.5, np.array([0.0, 1.0]))
    none = harmonic_mean(nothing, nothing)
    assert isinstance(none, Resampled)
    np.testing.assert_allclose(none.draws, [0, 1])  # H of two zeros is 0
    for unknown in (a - 1.5, 1.5 - a, mean([a, 2.5]), a * 0.5):
        assert type(unknown) is float  # what is known without resamples has no interval


# --- folders of runs -------------------------------------------------------------------------


def predicted(rng: np.random.Generator, rates: np.ndarray, images: str) -> Predictions:
    """Of IMAGES images a class, of which so many are right."""
    label = np.repeat(np.arange(CLASSES), IMAGES).astype(np.int32)
    right = rng.random(len(label)) < np.repeat(rates, IMAGES)
    confidence = rng.random(len(label)).astype(np.float32)
    return Predictions(
        label, np.where(right, label, label + 1).astype(np.int32), confidence, images
    )


def content(*what: str) -> str:
    return hashlib.sha256(" ".join(what).encode()).hexdigest()


def put_tests(
    root: Path, gains: Mapping[str, float], datasets: tuple[str, ...] = ("food", "pets")
) -> None:
    """Three seeds of every trainer, with so much more accuracy on new classes."""
    rng = np.random.default_rng(1)
    for dataset in datasets:
        rates = {half: rng.choice([0.1, 0.8], CLASSES) for half in ("base", "new")}
        for trainer, gain in gains.items():
            for seed in (1, 2, 3):
                for half, part, log in (
                    ("base", "train_base", training_log),
                    ("new", "test_new", eval_log),
                ):
                    found = predicted(
                        rng, rates[half] + gain * (half == "new"), content(dataset, half)
                    )
                    score = (int(found.correct.sum()), len(found.label))
                    folder = run_dir(root, part, dataset, trainer, seed)
                    write_predictions(put(folder, log(*score, seed=seed)), found)


def rows_of(root: Path) -> dict[tuple[str, str], Row]:
    (table,) = make_tables(collect(root))
    return {(row.group, row.label): row for row in table.rows}


def test_tables_have_the_paired_interval_of_the_seeds_means(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15})
    rows = rows_of(tmp_path)

    def reference(dataset: str) -> dict[str, np.ndarray]:
        """H of every seed, averaged, in each resample of the classes and images."""
        found = {}
        for trainer in ("CoOp", "SAR_CoOp"):
            per_seed = []
            for seed in (1, 2, 3):
                halves = []
                for half, part in (("base", "train_base"), ("new", "test_new")):
                    file = run_dir(tmp_path, part, dataset, trainer, seed) / PREDICTIONS_FILE
                    with np.load(file) as data:
                        label, right = data["label"], data["label"] == data["predicted"]
                    number = int(content(dataset, half), 16)
                    halves.append(accuracies(label, right[:, None], number)[:, 0])
                base, new = halves
                per_seed.append((base, new, 2 * base * new / (base + new)))
            found[trainer] = np.mean(per_seed, axis=0)
        return found

    food, pets = reference("food"), reference("pets")
    difference = food["SAR_CoOp"][2] - food["CoOp"][2]
    cell = rows["food", "SAR_CoOp - CoOp"].cells["h"]
    assert cell.interval() == pytest.approx(tuple(np.quantile(difference, (0.025, 0.975))))
    whole = {t: (food[t] + pets[t]) / 2 for t in food}
    h = {t: 2 * b * n / (b + n) for t, (b, n, _) in whole.items()}
    for label, expected in (
        ("CoOp", h["CoOp"]),
        ("SAR_CoOp - CoOp", h["SAR_CoOp"] - h["CoOp"]),
    ):
        cell = rows["Average of 2", label].cells["h"]
        assert cell.interval() == pytest.approx(tuple(np.quantile(expected, (0.025, 0.975))))
    # Paired: what both trainers share (hard classes) does not widen the difference's interval.
    own, paired = (rows["food", label].cells["new"] for label in ("CoOp", "SAR_CoOp - CoOp"))
    (low, high), (paired_low, paired_high) = own.interval() or (0, 0), paired.interval() or (0, 0)
    assert 0 < paired_high - paired_low < high - low


@pytest.mark.parametrize(
    ("low", "high", "printed"),
    [(-0.04, 1.26, "[-0.0, +1.3]"), (-2.0, -0.01, "[-2.0, -0.0]"), (-0.0, 0.04, "[+0.0, +0.0]")],
)
def test_a_rounded_end_says_on_which_side_of_nothing_it_is(low, high, printed):
    ends = Summary(3, Resampled(0.5, np.array([low] * 30 + [high] * 30)), 0.1)
    assert Row("", "SAR_CoOp - CoOp", {"h": ends}, Kind.DIFFERENCE).interval("h") == printed


def test_every_format_has_them(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15})
    results = collect(tmp_path)
    text = to_text(results)
    assert "95 % interval over classes and test images" in text
    (row,) = [line for line in to_text(results, "markdown").splitlines() if "pets" in line]
    assert row.count("[") == 3
    entries = json.loads(to_text(results, "json", summary=True))
    (entry,) = [
        e
        for e in entries
        if (e["group"], e["label"], e["column"]) == ("food", "SAR_CoOp - CoOp", "new")
    ]
    assert entry["low"] < entry["mean"] < entry["high"]
    assert entry["seeds"] == 3
    assert entry["std"] > 0
    lines = list(csv.DictReader(to_text(results, "csv", summary=True).splitlines()))
    assert [line["low"] for line in lines] == [str(e["low"]) for e in entries]
    assert any(path.name == "summary.json" for path in write_files(results, tmp_path))
    # The records per seed are what they were.
    assert json.loads(to_text(results, "json"))[0].keys() == {
        *("protocol", "dataset", "trainer", "cfg", "shots", "seed", "base", "new", "h")
    }


def test_what_is_missing_is_an_em_dash_and_changes_nothing_else(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "KgCoOp": 0.1, "SAR_CoOp": 0.15})
    whole = rows_of(tmp_path)
    (run_dir(tmp_path, "test_new", "food", "SAR_CoOp", 2) / PREDICTIONS_FILE).unlink()
    rows = rows_of(tmp_path)
    assert {k: v.cells for k, v in rows.items()} == {k: v.cells for k, v in whole.items()}
    for label in ("SAR_CoOp", "SAR_CoOp - CoOp"):
        assert rows["food", label].interval("new") == "—"
        assert rows["food", label].interval("h") == "—"
        assert rows["Average of 2", label].interval("h") == "—"
        assert rows["food", label].interval("base").startswith("[")
        assert rows["pets", label].interval("h").startswith("[")
    assert rows["food", "KgCoOp"].interval("h").startswith("[")
    for file in tmp_path.rglob(PREDICTIONS_FILE):
        file.unlink()
    text = to_text(collect(tmp_path))
    assert "—" not in text
    assert "[" not in text


def test_predictions_of_another_test_or_damaged_ones_do_not_count(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0}, ("food",))
    first, second = (run_dir(tmp_path, "train_base", "food", "CoOp", s) for s in (1, 2))
    put(first, training_log(41, CLASSES * IMAGES))
    (second / PREDICTIONS_FILE).write_bytes(b"nonsense")
    results = collect(tmp_path)
    notes = problems_text(results)
    assert "is of another test" in notes
    assert "is damaged" in notes
    assert len(results.records) == 3
    assert rows_of(tmp_path)["food", "CoOp"].interval("base") == "—"


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": np.full(CLASSES * IMAGES, np.nan, np.float32)},
        {"confidence": np.full(CLASSES * IMAGES, 1.5, np.float32)},
        {"images": ""},
        {"images": "none"},
    ],
)
def test_what_is_no_probability_or_no_hash_is_damaged(tmp_path, wrong):
    put_tests(tmp_path, {"CoOp": 0.0}, ("food",))
    file = run_dir(tmp_path, "test_new", "food", "CoOp", 2) / PREDICTIONS_FILE
    with np.load(file) as found:
        whole = dict(found)
    np.savez(file, **(whole | wrong))
    results = collect(tmp_path)
    assert f"{file} is damaged" in problems_text(results)
    for table in calibration_tables(results):
        assert table.rows[0].cells["new"].count == 2
    assert "NaN" not in to_text(results, "json")


def test_runs_on_different_images_are_not_paired(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.1})
    folder = run_dir(tmp_path, "test_new", "food", "SAR_CoOp", 3)
    with np.load(folder / PREDICTIONS_FILE) as data:
        arrays = {name: data[name] for name in ("label", "predicted", "confidence")}
    write_predictions(folder, Predictions(**arrays, images=content("other pictures")))
    rows = rows_of(tmp_path)
    assert rows["food", "SAR_CoOp - CoOp"].interval("new") == "—"
    assert rows["food", "CoOp"].interval("new") == "—"
    assert rows["food", "CoOp"].interval("base").startswith("[")
    assert rows["pets", "SAR_CoOp - CoOp"].interval("h").startswith("[")
    assert "food, new: no intervals, as its runs were tested on different images" in problems_text(
        collect(tmp_path)
    )


def test_the_resamples_of_a_demo_take_less_than_two_seconds():
    label = np.repeat(np.arange(60), 12).astype(np.int32)
    right = np.random.default_rng(0).random((len(label), 7)) < 0.6
    start = time.process_time()
    for seed in range(4):  # two datasets, base and new
        assert accuracies(label, right, seed).shape == (RESAMPLES, 7)
    assert time.process_time() - start < 2


def test_differences_to_any_row_are_paired_over_seeds_and_images(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "KgCoOp": 0.1, "SAR_CoOp": 0.15}, ("food",))
    results = collect(tmp_path)
    compare_with(results, ["KgCoOp"])
    (table,) = make_tables(results)
    found = {row.label: row for row in table.rows}
    labels = [label for label in found if " - " in label]
    assert labels == ["SAR_CoOp - CoOp", "CoOp - KgCoOp", "SAR_CoOp - KgCoOp"]
    values = {(r.key.trainer, r.key.seed): r.values["h"] for r in results.records}
    per_seed = [values["SAR_CoOp", s] - values["KgCoOp", s] for s in (1, 2, 3)]
    cell = found["SAR_CoOp - KgCoOp"].cells["h"]
    assert cell.mean == pytest.approx(np.mean(per_seed))
    assert cell.std == pytest.approx(np.std(per_seed, ddof=1))
    assert cell.is_resampled
    with pytest.raises(
        ConfigError, match=r"kgcoop: no such row; there are CoOp \| SAR_CoOp \| KgCoOp"
    ):
        compare_with(results, ["KgCoOp", "kgcoop"])


def test_what_a_summary_says_is_a_table_again(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15})
    results = collect(tmp_path)
    tables = make_tables(results)
    read = tables_in(json.loads(to_text(results, "json", summary=True)))
    assert [table.title for table in read] == [table.title for table in tables]
    for ours, theirs in zip(read[0].rows, tables[0].rows, strict=True):
        for column in ("base", "new", "h"):
            one, other = ours.cells[column], theirs.cells[column]
            for number in ("mean", "std", "count", "is_resampled"):
                assert getattr(one, number) == pytest.approx(getattr(other, number), abs=1e-4)
            assert one.interval() == pytest.approx(other.interval(), abs=1e-4)
    assert [row["low"] for row in summary_of(read)] == [row["low"] for row in summary_of(tables)]


def test_zero_shot_is_the_same_for_every_seed(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0}, ("food",))
    for part, subset in (("test_base", "base"), ("test_new", "new")):
        log = eval_log(40, CLASSES * IMAGES, subset=subset)
        put(run_dir(tmp_path, part, "food", "ZeroshotCLIP", 1), log)
    results = collect(tmp_path)
    results.against = ["ZeroshotCLIP", "CoOp"]
    (table,) = make_tables(results)
    rows = {row.label: row.cells["new"] for row in table.rows}
    difference = rows["CoOp - ZeroshotCLIP"]
    assert difference.count == 3
    assert difference.mean == pytest.approx(rows["CoOp"].mean - 50)
    assert difference.std == pytest.approx(rows["CoOp"].std)
    mirrored = rows["ZeroshotCLIP - CoOp"]
    assert (mirrored.count, mirrored.mean) == (3, pytest.approx(-difference.mean))


def test_calibration_errors_are_resampled_as_accuracies_are(tmp_path):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15}, ("food",))
    found = collect(tmp_path)
    table, adaptive = calibration_tables(found)
    assert not adaptive.has_intervals
    cells = {row.label: row.cells["new"] for row in table.rows}
    draws = {}
    for trainer in ("CoOp", "SAR_CoOp"):
        per_seed = []
        for seed in (1, 2, 3):
            with np.load(
                run_dir(tmp_path, "test_new", "food", trainer, seed) / PREDICTIONS_FILE
            ) as d:
                label, sure, right = d["label"], d["confidence"], d["label"] == d["predicted"]
            gaps = gaps_by_bin(sure, right)
            error = calibration_errors(sure, right).ece
            assert abs(gaps.sum(axis=0)).sum() * 100 / len(label) == pytest.approx(error)
            number = int(content("food", "new"), 16)
            drawn = calibration(label, gaps[:, None], np.array([error]), number)[:, 0]
            assert drawn.mean() == pytest.approx(error)
            per_seed.append(drawn)
        draws[trainer] = np.mean(per_seed, axis=0)
        assert cells[trainer].interval() == pytest.approx(
            tuple(np.quantile(draws[trainer], (0.025, 0.975)))
        )
    difference = draws["SAR_CoOp"] - draws["CoOp"]
    assert cells["SAR_CoOp - CoOp"].interval() == pytest.approx(
        tuple(np.quantile(difference, (0.025, 0.975)))
    )


def test_resolution_is_half_the_width_of_the_paired_interval(tmp_path, capsys):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15})
    table = resolution_table(collect(tmp_path))
    assert [row.group for row in table.rows] == ["food", "pets", "Average of 2"]
    whole = rows_of(tmp_path)
    for row in table.rows:
        ends = whole[row.group, "SAR_CoOp - CoOp"].cells["h"].interval()
        assert ends is not None
        assert row.cells["3"].mean == pytest.approx((ends[1] - ends[0]) / 2)
        assert row.cells["1"].mean > row.cells["3"].mean
    call(results_command, [str(tmp_path), "--resolution"])
    assert "Resolution in H" in capsys.readouterr().out
    for file in tmp_path.rglob(PREDICTIONS_FILE):
        file.unlink()
    with pytest.raises(DataError, match="no difference has an interval"):
        resolution_table(collect(tmp_path))


def test_calibration_error_is_that_of_fifteen_bins(tmp_path, capsys):
    put_tests(tmp_path, {"CoOp": 0.0, "SAR_CoOp": 0.15}, ("food",))
    with np.load(run_dir(tmp_path, "test_new", "food", "CoOp", 2) / PREDICTIONS_FILE) as data:
        confidence, right = data["confidence"], data["label"] == data["predicted"]
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((confidence[bins == b] - right[bins == b]).sum()) for b in np.unique(bins)]
    call(results_command, [str(tmp_path), "--calibration", "--format", "json"])
    records = json.loads(capsys.readouterr().out)
    (record,) = [r for r in records if (r["trainer"], r["seed"]) == ("CoOp", 2)]
    assert record["new_ece"] == pytest.approx(100 * sum(gaps) / len(right), abs=1e-3)
    assert 0 <= record["new_adaptive_ece"] <= 100
    call(results_command, [str(tmp_path), "--calibration"])
    text = capsys.readouterr().out
    assert "calibration error" in text
    assert "adaptive calibration error" in text
    page = render_report(collect(tmp_path))
    assert page.count("calibration error</h3>") == 2
    shown = [r["new_adaptive_ece"] for r in records if r["trainer"] == "CoOp"]
    assert f"{fmean(shown):.2f}" in page.partition('id="calibration"')[2]
    assert "SAR_CoOp - CoOp" in text
