"""Trainings on classes of one name, as ImageNet has them: a classifier has all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shop
import torch
from mini_layouts import WNIDS, write_originals

from sar import Classifier
from sar.classes.identity import told_apart
from sar.classes.names import class_names
from sar.classifier.scores import known_pictures, labels_of

NAMES = ("tench", "missile", "missile", "ostrich", "hen")
APART = ("tench", "missile", "missile (label 2)", "ostrich", "hen")


def test_each_name_is_another_one() -> None:
    assert told_apart(["cup", "red apple", "red_apple"]) == {
        "cup": "cup",
        "red apple": "red apple",
        "red apple (label 2)": "red_apple",
    }
    names = class_names("ImageNet")
    apart = told_apart(names)
    assert list(apart.values()) == list(names)
    repeated = [name for name, said in apart.items() if name != said]
    assert repeated == ["missile (label 744)", "sunglasses (label 837)"]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagenet")
    folder = write_originals("ImageNet", root)
    lines = [f"{wnid} {name}\n" for wnid, name in zip(WNIDS, NAMES, strict=True)]
    (folder / "classnames.txt").write_text("".join(lines))
    return root


def trained(root: Path, output: Path, *words: str) -> Path:
    """The output folder of a CoOp on all classes."""
    given: list[str | Path] = ["--root", root, "--output-dir", output, "--seed", "1"]
    given += ["--trainer", "CoOp", "--dataset-config-file", "configs/datasets/imagenet.yaml"]
    given += ["--config-file", "configs/trainers/CoOp/pocket.yaml", *words, *shop.SETTINGS]
    assert shop.sarclip("train", *given, "DATASET.NUM_SHOTS", "1") == 0
    return output


@pytest.mark.parametrize("specific", [False, True])
def test_a_classifier_has_a_logit_for_each_label(
    specific: bool, imagenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = ("TRAINER.COOP.CTX_INIT", "") if specific else ()
    run = trained(imagenet, tmp_path / "run", "TRAINER.COOP.CSC", str(specific), *context)
    assert "one class to CLIP" in capsys.readouterr().out
    classifier = Classifier.load(run)
    assert classifier.classes == classifier.base_classes == APART
    size = classifier.recipe.cfg.INPUT.SIZE
    noise = torch.randn(6, 3, *size, generator=torch.Generator().manual_seed(0))
    logits = classifier.logits(noise)
    assert torch.equal(logits[:, 1], logits[:, 2]) != specific  # one prompt, or one for each label

    classifier.export(tmp_path / "exported")
    exported = Classifier.load(tmp_path / "exported")
    assert exported.classes == APART
    assert torch.equal(exported.logits(noise), logits)
    if not specific:
        for guesses in exported.predict(noise):  # the first of both is said first
            said = [guess.name for guess in guesses]
            assert said.index(APART[1]) + 1 == said.index(APART[2])
        exported.add_classes(["fork"])
        assert exported.classes == (*APART, "fork")
    exported.remove_classes([APART[1]])
    assert torch.allclose(exported.logits(noise)[:, :4], logits[:, [0, 2, 3, 4]], atol=1e-3)


def test_commands_say_it_and_count_by_name(
    imagenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(imagenet, tmp_path / "run")
    places = dict(zip(("tench", "missile", "ostrich"), WNIDS, strict=False))
    lines = [
        f"{file},{name}"
        for name, wnid in places.items()
        for file in sorted((imagenet / "imagenet" / "images" / "val" / wnid).iterdir())
    ]
    table = tmp_path / "known.csv"
    table.write_text("\n".join(["path,label", *lines, ""]))
    capsys.readouterr()
    assert shop.sarclip("evaluate", run, table, "--output", tmp_path / "scores") == 0
    assert "the later ones are missile (label 2) here" in capsys.readouterr().out
    classifier, known = Classifier.load(run), known_pictures(table)
    labels = labels_of(known, classifier)
    assert {APART[int(label)] for label in labels} == set(places)
    right = (classifier.logits([path for path, _ in known]).argmax(dim=1) == labels).sum()
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["accuracy"]["joint"]["correct"] == right
    assert scores["names"] == list(APART)
