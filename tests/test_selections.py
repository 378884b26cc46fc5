"""Stored lists of images, few-shot selections above all, against the data as they are today."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini_layouts import CLASSES, WNIDS, write_originals, write_split
from own_images import build, pictures, rows_of, table

from sar.data.own_pictures import in_table
from sar.data.reading import PARTS
from sar.errors import DataError
from sar.toolbox.data import DatasetBase, Datum
from sar.toolbox.data.datasets import fewshot_split, read_fewshot, write_data
from sar.toolbox.data.datasets.base_dataset import Split, to_data


def content(items: Split) -> list[tuple[str, int, str]]:
    return [(item.impath, item.label, item.classname) for item in items]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A table of three classes: 5 images of each for training, 3 for validation, 2 for the test."""
    place = tmp_path / "own"
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        for name in ("zebra", "red fox", "okapi"):
            pictures(place / part / name, count)
    table(place, *rows_of(place))
    return place


def shots(root: Path, count: int = 2) -> DatasetBase:
    """The table's images, and a file of shots beside it as the field's datasets have them."""
    found = in_table(root.absolute())
    names = sorted(found.pictures["train"])
    train, val, test = (
        to_data(
            (path, label, name)
            for label, name in enumerate(names)
            for path in found.pictures[part].get(name, ())
        )
        for part in PARTS
    )
    dataset = DatasetBase(train_x=train, val=val, test=test)
    folder = str(found.folder / "split_fewshot")
    dataset.train_x, dataset.val = fewshot_split(dataset, train, val, count, 1, folder)
    return dataset


def test_what_was_drawn_is_kept_while_it_is_right(root):
    drawn = shots(root)
    pictures(root / "more", 4)
    table(root, *rows_of(root), *(f"more/{i}.JPG,zebra,train" for i in range(4)))
    again = shots(root)
    assert content(again.train_x) == content(drawn.train_x)
    assert content(again.val or []) == content(drawn.val or [])


def edited(root: Path, change) -> Path:
    """The root with every row (path, label, part) of its table changed."""
    rows = [row.split(",") for row in rows_of(root)]
    return table(root, *(",".join(change(*row)) for row in rows))


CHANGES = {
    r"was 'okapi' \(label 0\) and is 'zebra' \(label 2\)": (
        lambda path, label, part: (
            (path, {"zebra": "okapi", "okapi": "zebra"}.get(label, label), part)
        )
    ),
    "is no training image now": lambda path, label, part: (
        path,
        label,
        {"train": "test", "test": "train"}.get(part, part),
    ),
    "is no validation image now": lambda path, label, part: (
        path,
        label,
        {"val": "test", "test": "val"}.get(part, part),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_table_that_was_corrected_afterwards(root, what):
    shots(root)
    edited(root, CHANGES[what])
    with pytest.raises(DataError, match=rf"shot_2-seed_1\.pkl is no selection.*{what}.*delete"):
        shots(root)
    for file in (root / "split_fewshot").glob("*.pkl"):
        file.unlink()
    assert len(shots(root).train_x) == 6


def test_a_split_that_was_replaced_afterwards(tmp_path):
    folder = write_originals("OxfordPets", tmp_path)
    write_split("OxfordPets", folder)
    build(tmp_path, name="OxfordPets", shots=2)
    split = folder / "split_zhou_OxfordPets.json"
    parts = json.loads(split.read_text())
    parts["train"], parts["test"] = parts["test"], parts["train"]
    split.write_text(json.dumps(parts))
    with pytest.raises(DataError, match=r"is no training image now \(\d+ such changes\)"):
        build(tmp_path, name="OxfordPets", shots=2)


@pytest.mark.parametrize("way", ["moved", "copied", "linked", "relative"])
def test_a_dataset_in_another_place_has_its_own_images(root, tmp_path, monkeypatch, way):
    drawn = content(shots(root).train_x)
    there = tmp_path / "elsewhere" / "deep"
    there.parent.mkdir()
    if way == "moved":
        root.rename(there)
    elif way == "linked":
        there.symlink_to(root)
    else:
        shutil.copytree(root, there)
    place = there
    if way == "relative":
        monkeypatch.chdir(there.parent)
        place = Path("deep")
    again = content(shots(place).train_x)
    assert again == [(p.replace(str(root), str(there)), label, name) for p, label, name in drawn]
    if way == "copied":
        edited(there, CHANGES["is no training image now"])
        with pytest.raises(DataError, match="is no training image now"):
            shots(there)
        assert content(shots(root).train_x) == drawn


def test_shots_are_as_many_as_the_file_is_called_after(root):
    file = root / "split_fewshot" / "shot_2-seed_1.pkl"
    for count, what in (
        (1, "1 training images of label 0 were drawn, and 2 of 5"),
        (3, "3 training"),
    ):
        shots(root, count)
        (file.parent / f"shot_{count}-seed_1.pkl").rename(file)
        with pytest.raises(DataError, match=what):
            shots(root)
    file.unlink()
    shots(root)
    train, val = read_fewshot(file)
    write_data(file, train=[train[0], *train[:-1]], val=val)
    with pytest.raises(DataError, match=r"were drawn|is there twice"):
        shots(root)
    # A class with fewer images gave all; now it has more.
    shots(root, 16)
    pictures(root / "train" / "more okapi", 3)
    table(root, *(row.replace(",more okapi,", ",okapi,") for row in rows_of(root)))
    with pytest.raises(DataError, match="5 training images of label 0 were drawn, and 8 of 8"):
        shots(root, 16)


FILES = [f"{place}/{name}.jpg" for place in "abc" for name in range(4)]


@given(st.data())
def test_a_selection_is_of_today_or_refused(tmp_path_factory, data):
    """Whatever happens to the list: what comes back is in it as it is, `shots` of each class."""
    root = tmp_path_factory.mktemp("files")
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()

    def images() -> Split:
        labels = data.draw(st.lists(st.integers(0, 2), min_size=12, max_size=12))
        chosen = data.draw(st.permutations(list(zip(FILES, labels, strict=True))))
        some = chosen[: data.draw(st.integers(6, 12))]
        return [Datum(str(root / file), label, 0, f"class {label}") for file, label in some]

    before, today = images(), data.draw(st.sampled_from([None, images()]))
    count = data.draw(st.integers(1, 3))
    dataset = DatasetBase(
        train_x=[Datum(__file__, classname="a")], test=[Datum(__file__, classname="a")]
    )
    random.seed(1)
    drawn, _ = fewshot_split(dataset, before, [], count, 1, str(root / "shots"))
    today = before if today is None else today
    try:
        again, _ = fewshot_split(dataset, today, [], count, 1, str(root / "shots"))
    except DataError:
        assert today is not before
    else:
        assert all(any(item is other for other in today) for item in again)
        assert content(again) == content(drawn)
        for label in {item.label for item in today}:
            there, chosen = (sum(i.label == label for i in items) for items in (today, again))
            assert chosen == min(there, count)


def imagenet(folder: Path) -> list[tuple[str, int, str]]:
    dataset = build(folder.parent, name="ImageNet")
    return sorted(content([*dataset.train_x, *dataset.test]))


def older(folder: Path) -> None:
    """All class folders were changed long before the list was made."""
    for place in (*folder.glob("images/*"), *folder.glob("images/*/*")):
        os.utime(place, (1e9, 1e9))


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A small ImageNet with its preprocessed.pkl."""
    folder = write_originals("ImageNet", tmp_path)
    older(folder)
    imagenet(folder)
    before = (folder / "preprocessed.pkl").read_bytes()
    imagenet(folder)
    assert (folder / "preprocessed.pkl").read_bytes() == before
    assert "listed anew" not in capsys.readouterr().out
    return folder


def remove_class(folder: Path) -> None:
    for part in ("train", "val"):
        shutil.rmtree(folder / "images" / part / WNIDS[1])


def rename_class(folder: Path) -> None:
    file = folder / "classnames.txt"
    file.write_text(file.read_text().replace("goldfish", "carp"))


def add_image(folder: Path) -> None:
    (folder / "images" / "train" / WNIDS[0] / "late.JPEG").touch()


def remove_image(folder: Path) -> None:
    next((folder / "images" / "val" / WNIDS[2]).iterdir()).unlink()


def replace_class(folder: Path) -> None:
    """By a folder that was made before, as `mv` leaves it."""
    place = folder / "images" / "val" / WNIDS[3]
    shutil.rmtree(place)
    pictures(folder.parent / "other", 2)
    (folder.parent / "other").rename(place)
    os.utime(place, (1e9, 1e9))


@pytest.mark.parametrize(
    "change", [remove_class, rename_class, add_image, remove_image, replace_class]
)
def test_imagenets_list_is_that_of_today(listed, capsys, change):
    before = imagenet(listed)
    capsys.readouterr()
    change(listed)
    found = imagenet(listed)
    assert "preprocessed.pkl is no longer right: " in capsys.readouterr().out
    (listed / "preprocessed.pkl").unlink()
    assert found == imagenet(listed) != before


def test_a_copied_imagenet_has_its_own_list(listed, tmp_path, capsys):
    copy = tmp_path / "copy" / "imagenet"
    shutil.copytree(listed, copy)
    found = imagenet(copy)
    assert all(path.startswith(str(copy)) for path, _, _ in found)
    assert "listed anew" in capsys.readouterr().out
    assert len({label for _, label, _ in found}) == CLASSES
