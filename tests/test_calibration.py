"""Temperature, calibration errors, "unknown" and OpenworldAUC: the numbers, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shop
import torch
from hypothesis import given
from hypothesis import strategies as st
from shop import sarclip
from torch import Tensor

from sar import Classifier
from sar.classes.identity import without
from sar.classifier.confidence import (
    detection,
    errors,
    fit_temperature,
    known_share,
    openworld_auc,
    threshold,
)
from sar.classifier.held_out import HeldOut
from sar.classifier.predictor import UNKNOWN
from sar.errors import ConfigError, DataError
from sar.predictions.ece import calibration_errors
from sar.toolbox.clip import catalogue


def drawn(temperature: float, count: int = 4000, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from their softmax at a temperature."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(count, classes, generator=generator)
    chances = (logits / temperature).softmax(dim=1)
    return logits, torch.multinomial(chances, 1, generator=generator).flatten()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_the_labels(temperature: float) -> None:
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.08)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * found, rel=0.01)
    before = errors(logits.softmax(dim=1), labels)
    after = errors((logits / found).softmax(dim=1), labels)
    assert max(after) < 3
    if temperature != 1:
        assert all(a < b for a, b in zip(after, before, strict=True))


def test_errors_of_what_is_sure_and_of_what_is_wrong() -> None:
    sure = torch.tensor([[1.0, 0.0]]).repeat(30, 1)
    assert errors(sure, torch.zeros(30, dtype=torch.long)) == (0.0, 0.0)
    assert errors(sure, torch.ones(30, dtype=torch.long)) == (100.0, 100.0)
    # 0.6 sure, half of them right: both are off by ten points, in whatever bin they lie.
    half = torch.tensor([[0.6, 0.4]]).repeat(30, 1)
    found = errors(half, torch.arange(30) % 2)
    assert found == pytest.approx((10.0, 10.0), abs=4)


edges = st.sampled_from([*torch.linspace(0, 1, 16).tolist(), *(np.arange(16) / 15)])


@given(st.lists(st.tuples(st.floats(0, 1, width=32) | edges, st.booleans()), min_size=1))
def test_ece_is_that_of_torchmetrics(images: list[tuple[float, bool]]) -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    sure, right = (np.array(column) for column in zip(*images, strict=True))
    found = calibration_errors(sure, right).ece
    expected = torchmetrics.binary_calibration_error(
        torch.from_numpy(sure).float(), torch.from_numpy(right).long(), n_bins=15
    )
    assert found == pytest.approx(100 * float(expected), abs=1e-3)


def test_the_adaptive_error_has_bins_of_equally_many() -> None:
    # 15 bins of two: within each, one image is right, whatever its confidence.
    sure = np.linspace(0.2, 0.9, 30)
    right = np.arange(30) % 2 == 0
    gaps = [abs(sure[i] + sure[i + 1] - 1) for i in range(0, 30, 2)]
    order = np.random.default_rng(0).permutation(30)
    found = calibration_errors(sure[order], right[order])
    assert found.adaptive == pytest.approx(100 * sum(gaps) / 30)
    assert str(found) == f"ECE {found.ece:.2f}%, adaptive ECE {found.adaptive:.2f}% (15 bins)"


scores = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=1, max_size=12)


@given(scores, scores, st.randoms())
def test_auc_and_openworld_auc_count_pairs(base: list[float], new: list[float], random) -> None:
    """Against the definition, ties as halves."""

    def pairs(a: list[float], b: list[float]) -> float:
        return sum(1.0 if y > x else 0.5 if y == x else 0.0 for x in a for y in b)

    base_right, new_right = ([random.random() < 0.7 for _ in some] for some in (base, new))
    kept = (
        [x for x, right in zip(base, base_right, strict=True) if right],
        [x for x, right in zip(new, new_right, strict=True) if right],
    )
    found = openworld_auc(
        torch.tensor(base_right), torch.tensor(new_right), torch.tensor(base), torch.tensor(new)
    )
    assert found == pytest.approx(100 * pairs(*kept) / (len(base) * len(new)))
    auroc, _ = detection(torch.tensor(new), torch.tensor(base))
    assert auroc == pytest.approx(100 * pairs(base, new) / (len(base) * len(new)), abs=1e-3)


def test_the_threshold_keeps_what_it_says() -> None:
    known = torch.rand(997, generator=torch.Generator().manual_seed(2))
    least = threshold(known)
    assert 0.95 <= (known >= least).double().mean() < 0.953
    auroc, fpr95 = detection(known + 1, known)
    assert (auroc, fpr95) == (100.0, 0.0)
    with pytest.raises(DataError, match="of classes that are known and of others"):
        detection(known, known[:0])
    output = torch.tensor([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]])
    assert known_share(output, 2).tolist() == pytest.approx([0.5, 1.0])


def test_negative_labels_are_no_classes() -> None:
    assert without(["Mule", "zebras", "mule", "red_fox", "wolf"], ("zebra", "Red Fox")) == (
        "Mule",
        "wolf",
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return shop.train(root, folder, "SAR_CoOp", "DATASET.NUM_SHOTS", "1")


def test_held_out_pictures_are_those_that_no_shot_is(root: Path, run: Path) -> None:
    recipe = Classifier.load(run).recipe
    left = HeldOut(recipe)
    found = left.pictures()
    assert len(found) == len(shop.BASE)
    assert {path.parent for path, _ in found} == {root / "train" / name for name in shop.BASE}
    assert len(left.negative_names()) == 5
    cfg = recipe.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS = -1
    with pytest.raises(DataError, match=r"has seen all of its pictures.*--held-out"):
        HeldOut(replace(recipe, cfg=cfg)).pictures()
    cfg.DATASET.ROOT = str(root / "gone")
    with pytest.raises(DataError, match=r"are not there .*--held-out"):
        HeldOut(replace(recipe, cfg=cfg)).pictures()
    with pytest.raises(DataError, match="nothing was trained"):
        HeldOut(Classifier.zero_shot("pocket", ["cup"]).recipe).pictures()


def test_evaluate_tells_what_is_unknown(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--unknown", "--calibrate", "--output", tmp_path / "e")
    assert sarclip("evaluate", run, root / "test", *words) == 0
    said = capsys.readouterr().out
    assert "fitted on 3 held-out pictures" in said
    assert "beside 5 negative labels" in said
    assert "AUROC" in said
    found = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert found["unknown"]["known"] == 9
    assert found["unknown"]["unknown"] == 6
    assert found["names"] == [name.replace("_", " ") for name in shop.BASE]
    assert set(found["calibration"]) == {"joint", "joint_before"}
    page = (tmp_path / "e" / "mistakes.html").read_text()
    wrong = sum(c["total"] - c["correct"] for c in found["classes"])
    assert (page.count("<figure>") > 0) == (wrong > 0)

    assert sarclip("evaluate", run, root / "test", "--output", tmp_path / "plain") == 0
    found = json.loads((tmp_path / "plain" / "scores.json").read_text())
    assert found["unknown"] is None
    assert 0 <= found["openworld_auc"] <= 100
    assert "OpenworldAUC" in capsys.readouterr().out


def test_what_was_fitted_is_exported(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "classifier"
    assert sarclip("export", run, "--to", folder, "--unknown", "--calibrate") == 0
    said = json.loads((folder / "config.json").read_text())
    assert said["temperature"] != 1
    assert len(said["unknown"]["negatives"]) == 5
    classifier = Classifier.load(folder)
    assert classifier.recipe.threshold == said["unknown"]["threshold"]
    assert len(classifier.classes) == 3
    assert classifier.class_features().shape[0] == 3
    assert classifier.logits(root / "test" / "cup").shape == (3, 3)
    words = ("--unknown", "--calibrate", "--json", tmp_path / "p.json", "--top", "3")
    capsys.readouterr()
    assert sarclip("predict", folder, root / "test" / "cup", *words) == 0
    assert "fitted" not in capsys.readouterr().out  # it is there already
    assert sarclip("predict", folder, root / "test" / "cup", "--add", "spoon") == 0
    note = "limit for unknown pictures were fitted with other classes; to fit with these: --cal"
    assert note in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    assert "| temperature and limit for unknown pictures |" in card
    assert 'says "unknown" where the classes have less than 0.' in card
    classifier.recipe = replace(classifier.recipe, threshold=2.0)  # nothing reaches it
    guesses = classifier.predict(root / "test" / "cup", top=3)
    assert [found[0].name for found in guesses] == [UNKNOWN] * 3
    assert [len(found) for found in guesses] == [3] * 3
    chances = classifier.probabilities(classifier.logits(root / "test" / "cup"))
    expected = (classifier.logits(root / "test" / "cup") / said["temperature"]).softmax(dim=1)
    assert torch.allclose(chances, expected)


def test_other_classes_than_those_it_was_fitted_with_are_told(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whatever uses an export, an export of an export included; not where both are the same."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert sarclip("export", run, "--to", first, "--unknown", "--calibrate") == 0
    said = capsys.readouterr().out
    assert "3 classes and their temperature and limit for unknown pictures to" in said
    assert "Note:" not in said
    assert sarclip("export", first, "--to", second, "--add", "spoon") == 0
    assert "Note:" in capsys.readouterr().out
    for folder, misfit in ((first, False), (second, True)):
        assert sarclip("predict", folder, root / "test" / "cup") == 0
        assert ("Note:" in capsys.readouterr().out) == misfit
        assert ("Note:" in (folder / "README.md").read_text()) == misfit
        accuracy = (run / "log.txt").read_text().rpartition("* accuracy: ")[2].partition("%")[0]
        assert f"| after the training | {accuracy} " in (folder / "README.md").read_text()
    output = ("--output", tmp_path / "e")
    assert sarclip("evaluate", first, root / "test", *output) == 0
    assert capsys.readouterr().out.count("Note:") == 1
    novel = tmp_path / "novel.txt"
    novel.write_text("mule\nkite\n")
    words = ("--calibrate", "--unknown", "--held-out", root / "test", "--novel", novel)
    assert sarclip("predict", second, root / "test" / "cup", *words) == 0
    assert "Note:" not in capsys.readouterr().out

    classifier = Classifier.load(first)
    recipe = classifier.recipe
    classifier.set_classes(recipe.classes[::-1])
    assert classifier.recipe.misfit == ""
    classifier.set_classes(recipe.negatives)
    assert "no picture is told as unknown" in classifier.recipe.misfit


def test_options_that_would_do_nothing_are_refused(
    root: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", run, root / "test" / "cup")
    assert sarclip(*words, "--held-out", root / "train") == 2
    assert "give one of these, too" in capsys.readouterr().err
    assert sarclip(*words, "--calibrate", "--novel", root / "classes.yaml") == 2
    assert "give that, too" in capsys.readouterr().err


def test_class_specific_contexts_have_no_negative_labels(root: Path, tmp_path: Path) -> None:
    words = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "2")
    folder = shop.train(root, tmp_path / "run", "CoOp", *words)
    classifier = Classifier.load(folder)
    with pytest.raises(ConfigError, match="context of its own"):
        classifier.know_unknown(root / "test", ["mule"])
    with pytest.raises(ConfigError, match="no negative labels"):
        classifier.know_unknown(root / "test", ["cups"])


def test_a_clip_is_read_once_however_often_classes_change(
    root: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pocket = catalogue._BACKBONES["pocket"]
    built = []

    def build() -> object:
        built.append(1)
        return pocket.build()

    monkeypatch.setitem(catalogue._BACKBONES, "pocket", replace(pocket, build=build))
    classifier = Classifier.load(run)
    before = classifier.logits(root / "test")
    classifier.add_classes(["shoe"])
    classifier.remove_classes(["shoe"])
    assert torch.equal(classifier.logits(root / "test"), before)
    assert len(built) == 1
    plain = Classifier.zero_shot("pocket", ["cup", "shoe"])
    assert torch.equal(plain.untrained().class_features(), plain.class_features())
    plain.add_classes(["lemon"])
    assert len(built) == 2
    assert np.isfinite(plain.logits(root / "test" / "cup").numpy()).all()
