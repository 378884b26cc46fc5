"""What a report says first, and what it says of single classes and pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from result_logs import eval_log, filled, put, put_model, run_dir, training_log

from sar.predictions import Predictions, read_predictions, write_predictions
from sar.predictions.chance import near_chance
from sar.results import collect
from sar.results.per_class import per_class
from sar.results.presentations import make_tables
from sar.results.provenance import read_provenance
from sar.results.report import render_report
from sar.results.verdict import verdict

NAMES = ("red apple", "cup & saucer", "shoe")


@pytest.mark.parametrize(
    ("accuracy", "classes", "pictures", "near"),
    [
        (14.6, 8, 400, True),
        (25.0, 8, 400, False),
        (24.0, 8, 8, True),  # two of eight may be luck
        (41.7, 4, 24, False),
        (54.0, 2, 1000, True),
        (60.0, 2, 1000, False),
        (10.0, 100, 1000, False),
        (1.5, 100, 1000, True),
        (100.0, 1, 10, False),
        (0.0, 10, 0, False),
    ],
)
def test_near_chance(accuracy: float, classes: int, pictures: int, near: bool) -> None:
    assert near_chance(accuracy, classes, pictures) is near


@given(st.integers(2, 1000), st.integers(1, 10_000))
def test_chance_is_near_chance_and_certainty_of_many_is_not(classes: int, pictures: int) -> None:
    assert near_chance(100 / classes, classes, pictures)
    assert not near_chance(100, classes, max(pictures, 30))


def put_tested(root: Path, trainer: str, half: str, predicted: list[int], pictures: Path) -> None:
    """A run of two pictures of each class, with what it predicted for each; the first is surest."""
    label = np.repeat(np.arange(3, dtype=np.int32), 2)
    found = Predictions(
        label,
        np.array(predicted, np.int32),
        np.linspace(0.9, 0.4, 6, dtype=np.float32),
        hashlib.sha256(half.encode()).hexdigest(),
        NAMES,
        tuple(str(pictures / f"{number}.png") for number in range(6)),
    )
    part, log = ("train_base", training_log) if half == "base" else ("test_new", eval_log)
    folder = put(
        run_dir(root, part, "shop", trainer, 1), log(int(found.correct.sum()), 6, subset=half)
    )
    write_predictions(folder, found)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        Image.new("RGB", (300, 200), (40 * number, 9, 9)).save(pictures / f"{number}.png")
    root = tmp_path / "output"
    put_tested(root, "CoOp", "base", [0, 0, 1, 1, 2, 2], pictures)
    put_tested(root, "SAR_CoOp", "base", [0, 1, 1, 1, 2, 2], pictures)
    put_tested(root, "CoOp", "new", [1, 1, 1, 0, 0, 2], pictures)
    put_tested(root, "SAR_CoOp", "new", [1, 1, 1, 1, 0, 2], pictures)
    return root


def test_classes_have_names_and_mistakes_have_pictures(shop: Path) -> None:
    base, new = per_class(collect(shop).records)
    assert (base.dataset, base.group, base.methods) == ("shop", "base", ["CoOp", "SAR_CoOp"])
    assert [row[0] for row in new.rows] == ["red apple", "shoe", "cup & saucer"]
    assert new.rows[0] == ("red apple", 2, {"CoOp": 0.0, "SAR_CoOp": 0.0})
    assert new.rows[2][2] == {"CoOp": 50.0, "SAR_CoOp": 100.0}
    said = [(m.true, m.predicted, round(m.confidence, 1)) for m in new.mistakes]
    apple = ("red apple", "cup & saucer")
    assert said == [(*apple, 0.9), (*apple, 0.8), ("shoe", "red apple", 0.5)]
    page = render_report(collect(shop))
    assert "cup &amp; saucer" in page
    assert "Surest mistakes of SAR_CoOp" in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert '<p class="verdict">SAR_CoOp is above CoOp' in page
    for picture in (shop.parent / "pictures").iterdir():
        picture.unlink()
    assert not any(found.mistakes for found in per_class(collect(shop).records))


def test_predictions_of_earlier_versions_have_no_names(shop: Path) -> None:
    folder = run_dir(shop, "test_new", "shop", "CoOp", 1)
    found = read_predictions(folder)
    assert found is not None
    assert found.names == NAMES
    arrays = {k: v for k, v in vars(found).items() if k not in ("names", "paths")}
    write_predictions(folder, Predictions(**arrays))
    again = read_predictions(folder)
    assert again is not None
    assert (again.names, again.paths) == ((), ())
    _, new = per_class(collect(shop).records)
    assert new.methods == ["SAR_CoOp"]


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    label = np.zeros(2, np.int32)
    paths = ("a\udcff.jpg", "\ud800 b.jpg")
    found = Predictions(label, label, np.ones(2, np.float32), "0f", ("c\0d", "\u00e9"), paths)
    write_predictions(tmp_path, found)
    again = read_predictions(tmp_path)
    assert again is not None
    assert (again.names, again.paths) == (("c d", "\u00e9"), paths)


def opening(root: Path) -> str:
    results = collect(root)
    return verdict(make_tables(results), results, list(map(read_provenance, results.places)))


def test_the_verdict_is_about_the_average(tmp_path: Path) -> None:
    filled(tmp_path)
    assert opening(tmp_path) == (
        "SAR_CoOp is above CoOp by 5.59 points of H: Base -4.00, New +10.00 (average of 2, "
        "seeds: 3)."
    )


def test_the_verdict_without_sar_and_with_intervals(shop: Path, tmp_path: Path) -> None:
    assert opening(shop).startswith("SAR_CoOp is above CoOp by 12.50 points of H: Base -16.67")
    assert "within what other pictures and classes would change, [" in opening(shop)
    put_model(tmp_path / "one", "food", "CoOp", 1, 800, 700)
    put_model(tmp_path / "one", "food", "KgCoOp", 1, 800, 710)
    assert opening(tmp_path / "one") == "KgCoOp is best with H 75.23 % (food)."


def test_a_clip_that_does_not_know_the_pictures_comes_first(tmp_path: Path) -> None:
    filled(tmp_path)
    head = "# classes  8\n# test     1,000\n"
    folder = run_dir(tmp_path, "test_base", "food", "ZeroshotCLIP", 1)
    put(folder, head + eval_log(146, subset="base"))
    assert opening(tmp_path) == (
        "This CLIP does not know the pictures of food (base classes): zero-shot 14.6 %, chance "
        "12.5 %; use a larger CLIP (MODEL.BACKBONE.NAME)."
    )
    put(folder, head + eval_log(630, subset="base"))
    assert opening(tmp_path).startswith("SAR_CoOp is above")
