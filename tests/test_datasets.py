"""The field's fifteen datasets, each read from a small copy of its real layout."""

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import yaml
from dataset_host_run import record
from hosts_at_hand import HOSTS, needs_dassl
from mini_layouts import CLASSES, ORIGINALS, PER_CLASS, WNIDS, write_originals, write_split

from sar.classes.names import class_names
from sar.data.layouts import LAYOUTS
from sar.errors import ConfigError, DataError
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import build_dataset
from sar.toolbox.registered import register_builtin
from sar.toolbox.utils import set_random_seed

WITH_SPLIT = [name for name, layout in LAYOUTS.items() if layout.split]
VARIANTS = ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR")
register_builtin()


def build(root, name, seed=1, shots=-1, subsample="all"):
    cfg = get_cfg_default()
    cfg.VERBOSE = False
    cfg.DATASET.ROOT, cfg.DATASET.NAME, cfg.SEED = str(root), name, seed
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES = shots, subsample
    set_random_seed(seed)
    return build_dataset(cfg)


def write(name, root):
    if name in ("StanfordCars", "OxfordFlowers"):
        pytest.importorskip("scipy", reason="original annotations are MATLAB files")
    return write_originals(name, root)


def names_of(items):
    return [item.classname for item in items]


@pytest.mark.parametrize("name", WITH_SPLIT)
def test_split_files(tmp_path, name):
    folder = write(name, tmp_path)
    parts = write_split(name, folder)
    dataset = build(tmp_path, name)
    for part, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
        images = folder / LAYOUTS[name].prefix
        assert [(item.impath, item.label, item.classname) for item in items] == [
            (str(images / path), label, classname) for path, label, classname in parts[part]
        ]
    base, new = (build(tmp_path, name, 1, 2, part) for part in ("base", "new"))
    assert base.classnames + new.classnames == dataset.classnames
    assert (base.num_classes, new.num_classes) == (3, 2)
    assert [item.label for item in new.train_x] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", WITH_SPLIT)
def test_splits_from_original_annotations(tmp_path, name, capsys):
    folder = write(name, tmp_path)
    made = build(tmp_path, name)
    assert "split was made here" in capsys.readouterr().out
    assert set(made.classnames) <= set(class_names(name))  # spelled as in the published split
    assert made.num_classes == CLASSES
    parts = [names_of(part) for part in (made.train_x, made.val, made.test)]
    assert sum(map(len, parts)) == CLASSES * PER_CLASS
    assert set(Counter(parts[2]).values()) == {3}  # 30 %, or three in the original lists
    held_out = name in ("OxfordPets", "StanfordCars", "SUN397", "UCF101")  # 20 % of the other seven
    assert set(Counter(parts[1]).values()) == {1 if held_out else 2}
    assert record(build(tmp_path, name, seed=2)) == record(made)  # it was saved
    assert (folder / LAYOUTS[name].split).is_file()


def test_aircraft(tmp_path):
    folder = write("FGVCAircraft", tmp_path)
    dataset = build(tmp_path, "FGVCAircraft")
    assert dataset.classnames == ["707-320", "A300B4", "F/A-18", "BAE 146-200", "Cessna 172"]
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [25, 10, 15]
    assert dataset.test[0].impath == str(folder / "images" / "0000000.jpg")
    (folder / "variants.txt").write_text("707-320\n")
    with pytest.raises(DataError, match=r"'A300B4' is not in variants\.txt"):
        build(tmp_path, "FGVCAircraft")


@pytest.mark.parametrize("classnames", [True, False])
def test_imagenet(tmp_path, classnames):
    folder = write("ImageNet", tmp_path)
    if not classnames:  # the package has the same names
        (folder / "classnames.txt").unlink()
    dataset = build(tmp_path, "ImageNet", shots=4)
    assert dataset.classnames == class_names("ImageNet")[:CLASSES]
    assert Counter(names_of(dataset.train_x)) == dict.fromkeys(dataset.classnames, 4)
    assert dataset.val == dataset.test
    assert len(dataset.test) == 3 * CLASSES
    assert {Path(item.impath).parent.name for item in dataset.test} == {*WNIDS}

    listed = folder / "preprocessed.pkl"
    assert b"cdassl.data.datasets.base_dataset\nDatum\n" in listed.read_bytes()


def test_incomplete_imagenet(tmp_path):
    folder = write("ImageNet", tmp_path)
    (folder / "images" / "train" / WNIDS[0]).rename(folder / "images" / "train" / "tench")
    with pytest.raises(DataError, match=r"different class folders \(n01440764, tench.*labels"):
        build(tmp_path, "ImageNet")
    (folder / "images" / "val" / WNIDS[0]).rename(folder / "images" / "val" / "tench")
    with pytest.raises(DataError, match=r"tench is not in classnames\.txt"):
        build(tmp_path, "ImageNet")


@pytest.mark.parametrize("name", VARIANTS)
def test_imagenet_variants(tmp_path, name):
    folder = write(name, tmp_path)
    dataset = build(tmp_path, name, shots=16)  # has no effect here
    everything = class_names("ImageNet")
    assert dataset.classnames == (everything if name == "ImageNetV2" else everything[1:CLASSES])
    assert len(dataset.test) == (1000 if name == "ImageNetV2" else 3 * (CLASSES - 1))
    with pytest.raises(ConfigError, match="tested on all its classes"):
        build(tmp_path, name, subsample="new")
    if name == "ImageNetV2":
        (folder / LAYOUTS[name].images[0] / "17").rename(tmp_path / "17")
        with pytest.raises(DataError, match=r"no class folders 17, .*1 of 1000 missing"):
            build(tmp_path, name)


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere.*sarclip data download OxfordPets"):
        build(tmp_path / "nowhere", "OxfordPets")
    folder = write("OxfordPets", tmp_path)
    with pytest.raises(DataError, match="that folder itself: give the one around it"):
        build(folder, "OxfordPets")
    with pytest.raises(DataError, match=r"'food-101' in --root, but .* has oxford_pets"):
        build(tmp_path, "Food101")
    (folder / "annotations" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"no split_zhou_OxfordPets\.json.*test\.txt.*download"):
        build(tmp_path, "OxfordPets")
    write_split("OxfordPets", folder)
    (folder / "images" / "pug_3.jpg").unlink()
    with pytest.raises(DataError, match=r"pug_3\.jpg.*unpacked completely"):
        build(tmp_path, "OxfordPets")


def test_few_shot_files_of_other_classes_are_refused(tmp_path):
    folder = write("OxfordPets", tmp_path)
    write_split("OxfordPets", folder)
    drawn = record(build(tmp_path, "OxfordPets", shots=2))
    assert record(build(tmp_path, "OxfordPets", shots=2)) == drawn
    assert record(build(tmp_path, "OxfordPets", seed=2, shots=2)) != drawn
    split = folder / LAYOUTS["OxfordPets"].split
    split.write_text(split.read_text().replace("class 1", "beagle"))
    with pytest.raises(DataError, match=r"label 1 was 'class 1' and is 'beagle'.*delete"):
        build(tmp_path, "OxfordPets", shots=2)


def _seen_by_a_process(root, seed):
    dataset = build(root, "OxfordPets", seed, 2)
    return [item.impath for item in (*dataset.train_x, *dataset.test)]


def test_processes_that_start_at_once_see_one_split_and_one_draw(tmp_path):
    for attempt in range(3):
        root = tmp_path / str(attempt)
        write("OxfordPets", root)
        with ProcessPoolExecutor(4) as pool:
            seen = list(pool.map(_seen_by_a_process, [root] * 4, (1, 1, 2, 2)))
        assert seen[0] == seen[1]
        assert seen[2] == seen[3]
        assert seen[0][10:] == seen[2][10:]  # the test images
        assert seen[0] == _seen_by_a_process(root, 1)


def test_folders_that_cannot_be_written(tmp_path, capsys):
    folder = write("OxfordPets", tmp_path)
    write_split("OxfordPets", folder)
    (folder / "split_fewshot").touch()
    drawn = record(build(tmp_path, "OxfordPets", shots=2))
    output = capsys.readouterr().out
    assert "Cannot make" in output
    assert "Cannot save" in output
    assert record(build(tmp_path, "OxfordPets", shots=2)) == drawn


def test_every_dataset_has_its_configuration():
    configs = Path(__file__).parent.parent / "configs" / "datasets"
    for layout in LAYOUTS.values():
        content = yaml.safe_load((configs / f"{layout.config}.yaml").read_text())
        assert content.keys() == {"DATASET", "RECORD"}
        assert content["DATASET"] == {"NAME": layout.name}
    assert yaml.safe_load((configs / "image_csv.yaml").read_text())["DATASET"]["NAME"] == "ImageCSV"


@needs_dassl
def test_same_as_the_published_loaders(tmp_path):
    """Items, class names, splits made, few shots of three seeds; files exchanged both ways."""
    pytest.importorskip("scipy")
    for name in ORIGINALS:
        write_originals(name, tmp_path)
    requests = []
    for name in ORIGINALS:
        plain = [tmp_path, name, 1, -1, "all"]  # the first one makes the split
        requests.append(plain)
        if name not in VARIANTS:
            requests += [[tmp_path, name, seed, 2, "base"] for seed in (1, 2, 3)]
            requests += [[tmp_path, name, 1, 2, "new"], [tmp_path, name, 1, 16, "all"]]

    theirs = run_host(tmp_path, requests)
    reread = [record(build(*request)) for request in requests]  # their splits and few-shot files
    for request, own, their in zip(requests, reread, theirs, strict=True):
        assert own == their, request
    made = [*tmp_path.glob("*/split_zhou_*"), *tmp_path.glob("*/split_fewshot/*.pkl")]
    made += tmp_path.glob("*/preprocessed.pkl")
    assert len(made) == len(WITH_SPLIT) + 11 * 4 + 1
    for file in made:
        file.unlink()
    ours = [record(build(*request)) for request in requests]  # our splits and few-shot files
    for request, own, their in zip(requests, ours, theirs, strict=True):
        assert own == their, request
    assert all(file.is_file() for file in made)
    assert run_host(tmp_path, requests) == theirs


def run_host(folder, requests):
    script = Path(__file__).parent / "support" / "dataset_host_run.py"
    asked, answer = folder / "requests.json", folder / "record.json"
    asked.write_text(json.dumps([[str(root), *rest] for root, *rest in requests]))
    command = [sys.executable, str(script), HOSTS, str(asked), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(answer.read_text())


@pytest.mark.parametrize("name", ["OxfordPets", "ImageNet", "ImageNetA"])
def test_other_numbers_of_images_than_published_are_said(tmp_path, capsys, name):
    folder = write(name, tmp_path)
    if name in WITH_SPLIT:
        write_split(name, folder)
    build(tmp_path, name)
    published = ", ".join(f"{count:,}" for count in LAYOUTS[name].counts if count)
    line = next(
        s for s in capsys.readouterr().out.splitlines() if s.startswith(f"Note: {name} has")
    )
    assert line.partition("published: ")[2].replace(" 0,", "").startswith(published)
    assert not LAYOUTS[name].remark(*LAYOUTS[name].counts)
