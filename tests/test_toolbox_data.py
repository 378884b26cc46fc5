"""Datasets, few-shot files and transforms."""

import json
import math
import os
import pickle
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from toolbox_mini import default_cfg

from sar.classes import names
from sar.classes.identity import prompt_name
from sar.classes.names import known_datasets
from sar.errors import DataError
from sar.toolbox.clip import tokenizer
from sar.toolbox.data import DatasetBase, Datum, build_transform, class_names
from sar.toolbox.data.datasets import read_fewshot, write_data

HERE = os.path.abspath(__file__)  # an existing file; these tests open no images

labelled = st.lists(st.integers(0, 8), min_size=1, max_size=60)


def images(labels):
    return [Datum(HERE, label, 0, f"class {label}") for label in labels]


@given(labelled, st.integers(1, 5), st.integers(0, 99))
def test_few_shots_are_a_seeded_draw_per_class(labels, shots, seed):
    source = images(labels)
    dataset = DatasetBase(train_x=images([0]), test=images([0]))
    drawn = []
    for _ in range(2):
        random.seed(seed)
        drawn.append(dataset.generate_fewshot_dataset(source, num_shots=shots))
    assert drawn[0] == drawn[1]
    counts = Counter(item.label for item in drawn[0])
    assert counts == {label: min(n, shots) for label, n in Counter(labels).items()}
    assert len(set(map(id, drawn[0]))) == len(drawn[0])  # without replacement
    assert dataset.generate_fewshot_dataset(source, num_shots=0) is source


@given(labelled)
def test_base_and_new_classes_share_out_all(labels):
    source = images(labels)
    (base,) = DatasetBase.subsample_classes(source, subsample="base")
    (new,) = DatasetBase.subsample_classes(source, subsample="new")
    classes = sorted(set(labels))
    base_names = {item.classname for item in base}
    assert base_names == {f"class {label}" for label in classes[: math.ceil(len(classes) / 2)]}
    assert len(base) + len(new) == len(labels)
    assert base_names.isdisjoint(item.classname for item in new)
    for part in (base, new):
        assert sorted({item.label for item in part}) == list(range(len({*_names(part)})))


def _names(part):
    return (item.classname for item in part)


def test_classes_without_training_images_are_refused():
    with pytest.raises(DataError, match="labels up to 2 but training images of 2 classes"):
        DatasetBase(train_x=images([0, 2]), test=images([0]))
    with pytest.raises(DataError, match=r"nowhere\.jpg"):
        Datum("nowhere.jpg")


def test_split_files_round_trip(tmp_path):
    names = ("a.jpg", "b.jpg", "c.jpg")
    for name in names:
        (tmp_path / name).touch()
    parts = [[Datum(str(tmp_path / name), 3, 0, "x y")] for name in names]
    file = str(tmp_path / "split.json")
    train, val, test = parts
    DatasetBase.save_split(train, val, test, file, str(tmp_path))
    read = DatasetBase.read_split(file, str(tmp_path))
    assert [vars(part[0]) for part in read] == [vars(part[0]) for part in parts]
    assert str(tmp_path) not in Path(file).read_text()
    Path(file).write_text('{"train": [["a.jpg", "x"]]}')
    with pytest.raises(DataError, match="not a split file"):
        DatasetBase.read_split(file, str(tmp_path))


def test_parts_of_a_split_file_that_nobody_reads_are_named(tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    split = {"train": [["a.jpg", 0, "cat"]], "val": [], "test": []}
    file = tmp_path / "split.json"
    for others in ({}, {"test_new": [["b.jpg", 1, "dog"]], "note": "mine"}):
        file.write_text(json.dumps(split | others))
        train, _, _ = DatasetBase.read_split(str(file), str(tmp_path))
        assert [item.classname for item in train] == ["cat"]
        said = capsys.readouterr().out
        assert said.count(f"Not used, parts of {file}: note, test_new\n") == bool(others)
        assert ("Not used" in said) == bool(others)


ONE = [["a.jpg", 0, "cat"], ["b.jpg", 1, "dog"]]
SPLITS = {
    # What is wrong: training and test items.
    r"c\.jpg in test is label 0, 'dog', but label 0 is 'cat' before": (ONE, [["c.jpg", 0, "dog"]]),
    r"b\.jpg in train is label 0, 'dog', but label 0": ([ONE[0], ["b.jpg", 0, "dog"]], ONE[:0]),
    "label 2, 'dog', but label 1 is 'dog' before": ([*ONE, ["c.jpg", 2, "dog"]], []),
    r"label 1\.7 and the class name 'dog'": ([ONE[0], ["b.jpg", 1.7, "dog"]], []),
    "label True and the class name 'dog'": ([ONE[0], ["b.jpg", True, "dog"]], []),
    "label '1' and the class name 'dog'": ([ONE[0], ["b.jpg", "1", "dog"]], []),
    "label -1 and the class name 'dog'": ([ONE[0], ["b.jpg", -1, "dog"]], []),
    "label 1 and the class name 7": ([ONE[0], ["b.jpg", 1, 7]], []),
    "of which there are no training images": (ONE, [["c.jpg", 2, "cow"]]),
    "a.jpg in test is there twice, first in train": (ONE, [["a.jpg", 0, "cat"]]),
    r"x/\.\./a\.jpg in test is there twice, first in train": (ONE, [["x/../a.jpg", 0, "cat"]]),
    r"\./b\.jpg in train is there twice, first in train": ([*ONE, ["./b.jpg", 1, "dog"]], []),
}


@pytest.mark.parametrize("what", SPLITS)
def test_split_files_that_say_two_things_are_refused(tmp_path, what):
    (tmp_path / "x").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    train, test = SPLITS[what]
    file = tmp_path / "split.json"
    for part, other in (("test", "val"), ("val", "test")):
        file.write_text(json.dumps({"train": train, part: test, other: []}))
        with pytest.raises(DataError, match=what.replace(" in test ", f" in {part} ")):
            DatasetBase.read_split(str(file), str(tmp_path))


def test_lists_of_any_dataset_agree():
    """Also where no split file was read: a subclass makes its lists as it likes."""
    for odd in ([Datum(HERE, 1, 0, "class 0")], [Datum(HERE, 2, 0, "class 2")]):
        with pytest.raises(DataError, match=r"but that label is '(class 1|not known)' among"):
            DatasetBase(train_x=images([0, 1]), test=odd)
    with pytest.raises(DataError, match="label 0, but that label is"):
        DatasetBase(train_x=[*images([0]), Datum(HERE, 0, 0, "other")], test=images([0]))


ALIKE = [
    ("red fox", "red_fox"),
    ("red fox", "Red Fox "),
    ("caf\u00e9", "cafe\u0301"),
    ("hot-dog", "Hot - dog"),
    ("co2", "co 2"),
    ("rock &amp; roll", "rock & roll"),
]


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_are_one_to_clip_are_said(names, capsys):
    """By their tokens, which is what CLIP sees."""
    first, second = (prompt_name(name) for name in names)
    assert tokenizer.encode(first) == tokenizer.encode(second)
    data = [Datum(HERE, label, 0, name) for label, name in enumerate((*names, "zebra"))]
    DatasetBase(train_x=data, test=data)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note")]
    assert "(label 0)" in line
    assert "(label 1) are one class to CLIP" in line
    assert len(set(line.partition("are one")[0].removeprefix("Note: ").split(" and "))) >= 2


def test_imagenets_pairs_are_said_and_the_other_datasets_have_none():
    for dataset in known_datasets():
        labels = class_names.alike(dict(enumerate(names.class_names(dataset))))
        assert len(labels) == (2 if dataset == "ImageNet" else 0), dataset


@pytest.mark.parametrize("name", ["", "_", " "])
def test_a_name_that_is_empty_to_clip_is_refused(name):
    data = [Datum(HERE, label, 0, one) for label, one in enumerate(("zebra", name))]
    with pytest.raises(DataError, match=r"the class name of label 1 is .*empty to CLIP"):
        DatasetBase(train_x=data, test=data)


def test_classes_without_test_images_are_said(capsys):
    data = [Datum(HERE, label, 0, name) for label, name in enumerate(("zebra", "fox", "cat"))]
    DatasetBase(train_x=data, test=data)
    assert capsys.readouterr().out == ""
    DatasetBase(train_x=data, test=data[1:2])
    assert "Note: no test images of 2 of 3 classes (zebra, cat)" in capsys.readouterr().out


def test_numbers_in_the_place_of_names_are_said(capsys):
    data = [Datum(HERE, label, 0, str(label)) for label in range(3)]
    DatasetBase(train_x=data, test=data)
    assert "Note: the class names are numbers, and CLIP reads them so" in capsys.readouterr().out


def test_fewshot_files_name_dassls_class_and_run_nothing(tmp_path):
    file = tmp_path / "shots" / "shot_1-seed_1.pkl"
    file.parent.mkdir()
    write_data(file, train=images([0, 1]), val=images([1]))
    train, val = read_fewshot(file)
    assert [item.label for item in (*train, *val)] == [0, 1, 1]
    assert b"cdassl.data.datasets.base_dataset\nDatum\n" in file.read_bytes()
    assert b"sar." not in file.read_bytes()

    file.write_bytes(pickle.dumps({"train": [os.system], "val": []}))
    with pytest.raises(DataError, match=r"system.*delete it"):
        read_fewshot(file)


def test_transforms_have_dassls_shapes_and_draws():
    picture = Image.effect_noise((50, 60), 80).convert("RGB")
    names = ("random_resized_crop", "random_flip", "normalize")
    cfg = default_cfg(
        "MODEL.BACKBONE.NAME", "ViT-B/16", "INPUT.SIZE", (32, 32), "INPUT.TRANSFORMS", names
    )
    train, test = build_transform(cfg), build_transform(cfg, is_train=False)
    torch.manual_seed(0)
    first, second = train(picture), train(picture)
    torch.manual_seed(0)
    assert torch.equal(train(picture), first)
    assert not torch.equal(first, second)
    assert test(picture).shape == first.shape == (3, 32, 32)
    assert torch.equal(test(picture), test(picture))
    wide = Image.new("RGB", (96, 32))
    wide.paste((255, 255, 255), (32, 0, 64, 32))
    assert (test(wide) > 1).all()  # the centre is cut out, nothing is squeezed
