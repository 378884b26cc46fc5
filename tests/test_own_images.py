"""ImageFolder and ImageCSV: one's own pictures, with and without a class list."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_images import build, pictures, rows_of, table
from PIL import Image

from sar.classes.novel_names import novel_names
from sar.data.own_pictures import assign_parts
from sar.errors import DataError
from sar.protocols.configs import dataset_record
from sar.settings.dataset_records import OWN_PICTURES, called
from sar.toolbox.config import dataset_title
from sar.toolbox.data.datasets.own import OwnDataset
from sar.toolbox.data.datasets.recorded import BASES
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import configure

CLASSES = """
base: [zebra, red fox]
new: [Apple]  # no training pictures
novel: [mule, wolf]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("test", 2)):
        for name in ("zebra", "red_fox", "Apple"):
            pictures(tmp_path / part / name, count)
            (tmp_path / part / name / "notes.txt").write_text("not an image")
    return tmp_path


def test_reads_classes_and_splits(root: Path) -> None:
    dataset = build(root)
    assert dataset.classnames == ["Apple", "red_fox", "zebra"]
    assert (len(dataset.train_x), len(dataset.test), dataset.val) == (9, 6, None)
    assert build(root, "base").classnames == ["Apple", "red_fox"]
    assert build(root, "new").classnames == ["zebra"]
    assert len(build(root, shots=2).train_x) == 6
    pictures(root / "val" / "zebra", 2)
    assert [(item.label, item.classname) for item in build(root).val or ()] == [(2, "zebra")] * 2


def test_wrong_folders(root: Path) -> None:
    with pytest.raises(DataError, match=r"found no folder .*nowhere.*train"):
        build(root / "nowhere")
    for file in (root / "test" / "zebra").glob("*.JPG"):
        file.unlink()
    with pytest.raises(DataError, match="zebra holds no images"):
        build(root)
    (root / "test" / "zebra" / "notes.txt").unlink()
    (root / "test" / "zebra").rmdir()
    with pytest.raises(DataError, match="different classes: 'zebra' only"):
        build(root)


@pytest.mark.parametrize(("name", "again"), [("zebra", "Zebra"), ("caf\u00e9", "cafe\u0301")])
def test_folders_that_are_one_class_to_clip(root: Path, name: str, again: str) -> None:
    for part in ("train", "test"):
        for one in {name, again} - {"zebra"}:
            pictures(root / part / one, 1)
    with pytest.raises(DataError, match=r"one class to CLIP.*merge the classes") as error:
        build(root)
    assert ascii(again) in str(error.value)
    for part in ("train", "test"):
        (root / part / name).rename(root / part / "other")
    # A list may write accents in either way.
    (root / "classes.yaml").write_text(f"base: [other, {name if name != 'zebra' else again}]")
    assert len(build(root, "base").train_x) == 2 + (name == "zebra") * 2


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_class_list(root: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / ("classes.yaml" if place == "beside" else "other.yaml")
    file.write_text(CLASSES)
    key = "" if place == "beside" else str(file)
    for picture in (root / "train" / "Apple").iterdir():
        picture.unlink()
    (root / "train" / "Apple").rmdir()
    pictures(root / "test" / "extra", 1)
    pictures(root / "test" / "zebra" / "older", 1)

    base, new, both = (build(root, part, 2, key) for part in ("base", "new", "all"))
    said = "6 files passed over (5 .txt, 1 in sub-folders), 1 class left out, not in the class list"
    assert f"Pictures: {said} (extra)" in capsys.readouterr().out
    assert base.classnames == ["zebra", "red fox"]
    assert {(item.label, item.classname) for item in base.train_x} == {(0, "zebra"), (1, "red fox")}
    assert len(base.train_x) == len(base.test) == 4
    assert new.classnames == ["Apple"]
    assert {item.label for item in new.test} == {0}
    assert both.classnames == ["zebra", "red fox", "Apple"]
    assert (both.num_classes, len(both.train_x), len(both.test)) == (3, 4, 6)
    assert novel_names(str(file), "ImageFolder", base.classnames) == ["mule", "wolf"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda file: file.symlink_to("gone.yaml")])
def test_a_class_list_that_is_no_file(root: Path, make: Callable[[Path], None]) -> None:
    """Passed over, base and new classes would be others."""
    make(root / "classes.yaml")
    with pytest.raises(DataError, match=r"classes\.yaml is no file"):
        build(root)


def test_pictures_left_out_under_another_spelling(root: Path) -> None:
    """Else a class would be tested without some of its pictures."""
    (root / "classes.yaml").write_text("base: [zebra]")
    pictures(root / "test" / "Zebra", 1)
    with pytest.raises(DataError, match=r"of 'Zebra' are not in the class list.*as 'zebra', which"):
        build(root)
    (root / "test" / "Zebra").rename(root / "test" / "_")
    assert len(build(root).test) == 2


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_one_file_in_two_places_by_a_link(root: Path, link: Callable[[Path, Path], None]) -> None:
    picture = next((root / "train" / "zebra").iterdir())
    again = root / "train" / "zebra" / "again.jpg"
    link(again, picture)
    build(root)  # twice in the training of its class
    for place in (root / "test" / "zebra", root / "train" / "Apple"):
        again.unlink()
        again = place / "again.jpg"
        link(again, picture)
        with pytest.raises(DataError, match=r"again\.jpg.*are one file, by a link"):
            build(root)
    if link is Path.symlink_to:  # a whole class
        again.unlink()
        for file in (root / "test" / "zebra").iterdir():
            file.unlink()
        (root / "test" / "zebra").rmdir()
        (root / "test" / "zebra").symlink_to(root / "train" / "zebra")
        with pytest.raises(DataError, match=r"zebra, test.*zebra, train.*are one file"):
            build(root)


def test_wrong_class_lists(root: Path) -> None:
    file = root / "classes.yaml"
    for text, message in (
        ("base: [zebra, okapi]", r"'okapi' \(base\) for training.*Not in the list: 'Apple'"),
        ("base: [zebra]\nnew: [okapi]", r"'okapi' \(new\) for the test.*class list\s+changed\?"),
        ("base: [zebra]\nnew: [zebra]", "'zebra' is in base and in new"),
        ("base: [red fox, red_fox]", "'red fox' is in base and in base"),
        ("base: [zebra, red fox]\nnovel: [Red Fox]", "'Red Fox' is in base and in novel"),
        ("base: [zebra, _]", "a name in base is empty"),
        ("base: [zebra, no]", "base is not a list of names; put odd ones in quotes"),
        ("base: zebra", "base is not a list of names"),
        ("new: [zebra]", "not a class list"),
        ("base: [zebra]\nnovle: [mule]", "not a class list"),
        ("[zebra]", "not a class list"),
        ("base: [zebra", "cannot read .*expected lists of class names"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            build(root)
    with pytest.raises(DataError, match=r"cannot read .*gone\.yaml"):
        build(root, classes=str(root / "gone.yaml"))
    file.write_text("base: [zebra]")
    with pytest.raises(DataError, match="has no new classes"):
        build(root, "new")


def test_shots_lie_in_the_cache(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same ones while they are a selection, drawn anew when they are none; beside the pictures
    nothing is written."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAR_CACHE", str(cache))
    pictures(root / "val" / "zebra", 5)
    (root / "classes.yaml").write_text("base: [zebra, red fox]\nnew: [Apple]")
    before = sorted(root.rglob("*"))

    def shots() -> list[str]:
        random.seed(1)
        dataset = build(root, "base", 2)
        assert len(dataset.train_x) == 4
        return [item.impath for item in (*dataset.train_x, *(dataset.val or ()))]

    drawn = shots()
    (file,) = (cache / "shots").rglob("*.json")
    listed = json.loads(file.read_text())
    assert [str(root / path) for path in (*listed["train"], *listed["val"])] == drawn
    extra = root / "train" / "zebra" / "0.webp"  # would be drawn by other numbers
    Image.new("RGB", (8, 8)).save(extra)
    assert shots() == drawn
    extra.unlink()
    (root / "classes.yaml").write_text("base: [zebra, red fox]\nnew: []")
    assert shots() == drawn  # new classes are not drawn from
    capsys.readouterr()
    lost = Path(drawn[0])
    lost.rename(lost.with_name("9.JPG"))
    again = shots()
    assert f"drawn anew: {lost} is not there any more" in capsys.readouterr().out
    file.write_text('{"train": 3')
    assert shots() == again
    (root / "classes.yaml").write_text("base: [red fox, zebra]\nnew: [Apple]")
    assert "red_fox" in shots()[0]
    lost.with_name("9.JPG").rename(lost)
    assert sorted(root.rglob("*")) == before


def test_a_folder_whose_name_is_no_text_has_shots(root: Path) -> None:
    place = root.with_name("shop\udcff")
    try:
        root.rename(place)
    except OSError:
        pytest.skip("this file system takes text only")
    assert len(build(place, shots=2).train_x) == len(build(place, shots=2).train_x) == 6


def test_table_equals_folder(root: Path) -> None:
    file = table(root, *rows_of(root))
    folder = build(root)
    for place in (root, file):
        from_table = build(place, name="ImageCSV")
        assert [vars(d) for d in from_table.train_x] == [vars(d) for d in folder.train_x]
        assert [vars(d) for d in from_table.test] == [vars(d) for d in folder.test]
    (root / "classes.yaml").write_text(CLASSES)
    assert build(file, "new", name="ImageCSV").classnames == ["Apple"]


def test_table_without_split(root: Path) -> None:
    rows = [row.rpartition(",")[0] for row in rows_of(root)]
    file = table(root, *rows, header="path,label")
    dataset = build(file, name="ImageCSV")
    parts = [dataset.train_x, dataset.val or [], dataset.test]
    assert [len(part) for part in parts] == [6, 3, 6]
    # However few pictures a class has, from two on there are some for the test.
    for part, shares in (("test", [3, 0, 3]), ("train", [6, 0, 3])):  # two pictures, and three
        table(root, *[row for row in rows if row.startswith(part)], header="path,label")
        small = build(file, name="ImageCSV")
        assert [len(part or []) for part in (small.train_x, small.val, small.test)] == shares
    table(root, *reversed(rows), header="path,label")
    again = build(file, name="ImageCSV")
    assert sorted(d.impath for d in again.test) == sorted(d.impath for d in dataset.test)


@given(st.integers(10, 60), st.integers(1, 30))
def test_added_pictures_hardly_move_others(before: int, added: int) -> None:
    """Ranks by hash: of n pictures and m new ones, at most about m change places."""

    def share_out(count: int) -> dict[str, str]:
        rows = [{"path": f"{number}.jpg", "label": "a"} for number in range(count)]
        assign_parts(rows)
        return {row["path"]: row["split"] for row in rows}

    old, new = share_out(before), share_out(before + added)
    assert sum(new[path] != part for path, part in old.items()) <= 2 * added + 2


def test_wrong_tables(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = rows_of(root)
    for rows, header, message in (
        (good, "file,label,split", r"begins with file,label,split .*expected a first line path"),
        ([], "path,label", "has 0 rows"),
        ([*good, "a.jpg,zebra,training"], "path,label,split", r"line 17: split is 'training'"),
        ([*good, good[0]], "path,label,split", "line 17: .* is there twice, for test and test"),
        ([*good, "a.jpg,,test"], "path,label,split", "line 17: expected 3 fields"),
        ([*good, "a.jpg,zebra,test,x"], "path,label,split", "line 17: expected 3 fields"),
        ([*good, "a.jpg,zebra,test"], "path,label,split", r"a\.jpg.* does not exist"),
        ([*good, "a\0.jpg,zebra,test"], "path,label,split", "does not exist"),
        (good[:9], "path,label,split", "different classes: "),
        ([*good, f"./{good[0]}"], "path,label,split", "line 17: .* is there twice, for test and"),
        (good, "path,label,Subset", r"no column split, but a column 'subset', .*name it split"),
        (good, "path,label,whatever", "no column split, but a column 'whatever'"),
        (good, "path,label,label", "has a column twice"),
        ([row.replace(",", ";") for row in good], "path;label;split", "separated by commas"),
    ):
        table(root, *rows, header=header)
        with pytest.raises(DataError, match=message):
            build(root, name="ImageCSV")
    for header in (" Path,LABEL,Split ", "path,label,split"):
        table(root, *good, header=header)
        build(root, name="ImageCSV")
    table(
        root, *(f"{line},{row},x" for line, row in enumerate(good)), header=",path,label,split,by"
    )
    build(root, name="ImageCSV")
    assert "images.csv: (no name), by" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv.*expects --root to be a table"):
        build(root / "gone.csv", name="ImageCSV")
    with pytest.raises(DataError, match="needs --root"):
        build("", name="ImageCSV")


def test_catalogues_are_called_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("shop/images.csv", "shop/birds.csv"):
        (tmp_path / name).write_text("path,label\n")
    places = {"shop": "shop", "shop/images.csv": "shop", "shop/birds.csv": "birds", "": "ImageCSV"}
    for place, name in places.items():
        assert called("ImageCSV", place and str(tmp_path / place)) == name
    assert called("ImageFolder", str(tmp_path), "my shop") == "my shop"
    assert called("OxfordPets", str(tmp_path)) == "OxfordPets"
    assert called("Unknown", str(tmp_path)) == "Unknown"
    # Wherever the configuration is read later.
    monkeypatch.chdir(tmp_path / "shop")
    words = ["--root", ".", "--trainer", "CoOp", "--backbone", "pocket"]
    files = ["--dataset-config-file", "configs/datasets/image_folder.yaml"]
    cfg = configure(parse_arguments([*words, *files]))
    monkeypatch.chdir("/")
    assert dataset_title(cfg) == "shop"


def test_protocols_know_the_loaders_of_own_pictures() -> None:
    """By the reader in their records, because the protocols do not import the toolbox."""
    own = {reader for reader, loader in BASES.items() if issubclass(loader, OwnDataset)}
    assert own == set(OWN_PICTURES)
    for config, loader in (("image_folder", "ImageFolder"), ("image_csv", "ImageCSV")):
        record = dataset_record(config)
        assert (record.name, BASES[record.reader].__name__) == (loader, loader)
