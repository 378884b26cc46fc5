"""`sarclip data check`: what is read, what is not, and what is wrong with one's own pictures."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import shop
from PIL import Image
from shop import sarclip

from sar.data.likeness import look, nearly_equal


def photograph(seed: int, size: int = 120) -> Image.Image:
    """Something with structures of several sizes."""
    noise = np.random.default_rng(seed)
    layers = [
        Image.fromarray(noise.integers(0, 255, (n, n, 3), dtype=np.uint8)).resize((size, size))
        for n in (3, 9, 40)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six classes, three of them new; every picture another one."""
    place, number = tmp_path / "shop", 0
    for part, names in (("train", shop.BASE), ("test", (*shop.BASE, *shop.NEW))):
        for name in names:
            (place / part / name).mkdir(parents=True)
            for _ in range(3):
                number += 1
                photograph(number).save(place / part / name / f"{number}.png")
    (place / "classes.yaml").write_text(f"base: {list(shop.BASE)}\nnew: {list(shop.NEW)}\n")
    return place


def checked(place: Path, capsys: pytest.CaptureFixture[str], status: int) -> str:
    capsys.readouterr()
    assert sarclip("data", "check", place) == status
    return capsys.readouterr().out


def test_nothing_is_wrong(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = checked(root, capsys, 0)
    assert "24 pictures in" in said
    assert "No problems found." in said
    rows = {line.split("  ")[0]: line.split()[-3:] for line in said.splitlines()}
    assert rows["red apple"] == ["base", "3", "3"]
    assert rows["yellow lemon"][1:] == ["new", "3"]


def test_what_is_not_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cup = root / "train" / "cup"
    (cup / "older").mkdir()
    photograph(91).save(cup / "older" / "1.png")
    photograph(92).save(cup / "without", "PNG")
    (cup / "notes.txt").write_text("notes")
    shutil.copytree(root / "test", root / "valid")
    photograph(93).save(root / "train" / "loose.png")
    (root / "test" / "spoon").mkdir()
    photograph(94).save(root / "test" / "spoon" / "1.png")
    said = checked(root, capsys, 0)
    for expected in (
        "in sub-folders: 1 (train/cup/older/1.png)",
        "without a suffix: 1 (train/cup/without)",
        ".txt: 1 (train/cup/notes.txt)",
        "in valid/: 15 (valid/cup/",
        "beside the class folders: 1 (train/loose.png)",
    ):
        assert expected in said, expected
    assert ["spoon", "left", "out", "1"] in [line.split() for line in said.splitlines()]
    (root / "classes.yaml").rename(root / "classes.yml")
    assert "classes.yml is not read" in checked(root, capsys, 1)
    (root / "classes.yaml").write_text("base: [cup]\nnew: [shoe]\n")
    assert "'cup' is the only base class" in checked(root, capsys, 1)


def test_damaged_empty_and_equal_pictures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cup, other = root / "train" / "cup", root / "test" / "cup"
    (cup / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (50, 50), "navy").save(cup / "blank.png")
    first = next(cup.glob("[0-9]*.png"))
    shutil.copy(first, cup / "again.png")
    shutil.copy(first, other / "leaked.png")
    shutil.copy(next((root / "train" / "red_apple").iterdir()), cup / "an apple.png")
    Image.open(first).resize((90, 90)).save(root / "test" / "shoe" / "smaller.jpg", quality=80)
    said = checked(root, capsys, 1)
    for expected in (
        "1 cannot be read: cannot read image",
        "one colour all over: 1 (train/cup/blank.png)",
        f"in several of train, val and test: 1 (train/cup/{first.name} = train/cup/again.png = "
        "test/cup/leaked.png)",
        "under several labels: 1 (train/cup/an apple.png = train/red_apple/",
        "= test/shoe/smaller.jpg",
    ):
        assert expected in said, expected
    shutil.rmtree(other)
    assert "has no pictures of" not in checked(root, capsys, 1)  # base classes are trained
    shutil.rmtree(root / "test" / "shoe")
    assert "has no pictures of 'shoe' (new) for the test" in checked(root, capsys, 1)


def test_classes_that_are_one_to_clip(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "classes.yaml").unlink()
    shutil.copytree(root / "test" / "shoe", root / "train" / "shoe")
    (root / "train" / "Red Apple").mkdir()
    photograph(95).save(root / "train" / "Red Apple" / "1.png")
    said = checked(root, capsys, 1)
    assert "'Red Apple' (label 0) and 'red_apple'" in said
    assert "have different classes" in said


def test_spellings_of_one_name_are_a_problem_without_a_class_list(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for the training, which refuses them; a list puts them together."""
    for part, number in (("train", 95), ("test", 96)):
        (root / part / "red apple").mkdir()
        photograph(number).save(root / part / "red apple" / f"{number}.png")
    assert "No problems found." in checked(root, capsys, 0)
    (root / "classes.yaml").unlink()
    for name in shop.NEW:
        shutil.rmtree(root / "test" / name)
    said = checked(root, capsys, 1)
    assert "Problems:\n- 'red apple' (label 2) and 'red_apple' (label 3) are one class" in said


def test_a_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{file.relative_to(root)},{file.parent.name},{file.parts[-3]}"
        for file in sorted(root.glob("*/*/*.png"))
    ]
    table = root / "shop.csv"
    table.write_text("\n".join(["path,label,split", *rows, "gone.png,cup,test"]))
    said = checked(table, capsys, 1)
    assert "25 pictures in" in said
    assert "1 cannot be read" in said
    table.write_text("\n".join(["path,label,split", *rows, rows[0].replace(",cup,", ",shoe,")]))
    assert sarclip("data", "check", table) == 1
    assert "is there twice" in capsys.readouterr().err


@pytest.mark.parametrize("background", ["white", "noise"])
def test_copies_are_near_and_others_are_not(tmp_path: Path, background: str) -> None:
    """Re-encoded, and smaller copies of 60 pictures, among all their neighbours."""
    draw = random.Random(1)
    originals, copies = [], []
    for number in range(60):
        image = photograph(number)
        if background == "white":  # a small thing on much white
            small = image.resize((30, 40))
            image = Image.new("RGB", (120, 120), "white")
            image.paste(small, (draw.randrange(20, 70), draw.randrange(20, 60)))
        image.save(tmp_path / f"{number}.png")
        image.resize((97, 97)).save(tmp_path / f"{number}-copy.jpg", quality=75)
        originals.append(look(str(tmp_path / f"{number}.png")))
        copies.append(look(str(tmp_path / f"{number}-copy.jpg")))
    pairs = nearly_equal(originals, copies)
    assert {(a.path, b.path) for a, b in zip(originals, copies, strict=True)} == {
        (one, other) for one, other, _ in pairs
    }
    assert nearly_equal(originals, originals) == []  # a picture is not its own copy
