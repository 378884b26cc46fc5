"""One's own pictures as people see them; the field's as their published loaders read them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import shop
import torch
from own_images import build
from PIL import Image

from sar import picture
from sar.classifier.pictures import find_pictures, read_batches
from sar.data.likeness import look
from sar.data.own_pictures import in_folders, summary
from sar.errors import DataError
from sar.picture import as_seen, read_published, read_seen
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import DatasetBase
from sar.toolbox.data.data_manager import DataManager
from sar.toolbox.utils import read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(size: tuple[int, int] = (40, 20), mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new(mode, size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def corner(image: Image.Image) -> tuple[int, ...]:
    """The colour at the top left, roughly."""
    found = image.getpixel((2, 2))
    assert isinstance(found, tuple)
    return tuple(round(value / 255) * 255 for value in found)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    halves().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    seen, published = (read(str(tmp_path / "turned.jpg")) for read in (read_seen, read_published))
    assert (published.size, seen.size) == ((40, 20), (20, 40))
    assert corner(seen) == RED
    assert corner(seen.transpose(Image.Transpose.FLIP_TOP_BOTTOM)) == BLUE
    # What says nothing of its orientation is read alike; so is what says it in a damaged block.
    halves().save(tmp_path / "plain.jpg", quality=95)
    halves().save(tmp_path / "odd.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", quality=95)
    for name in ("plain.jpg", "odd.jpg"):
        seen, published = (read(str(tmp_path / name)) for read in (read_seen, read_published))
        assert seen.tobytes() == published.tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_what_is_transparent_is_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (4, 0, 8, 8))
    if mode == "P":
        image = image.convert("P")
        image.info["transparency"] = image.getpixel((0, 0))
    else:
        image = image.convert(mode)
    file = tmp_path / ("a.tif" if mode == "PA" else "a.png")
    if mode != "PA":
        image.save(file)
        image = Image.open(file)
    seen = as_seen(image)
    assert (seen.mode, seen.getpixel((0, 0)), seen.getpixel((7, 0))) == (
        "RGB",
        (255,) * 3,
        (0,) * 3,
    )


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_pictures_are_scaled_by_their_range(kind: type[np.generic], tmp_path: Path) -> None:
    values = np.linspace(100, 4100, 16).reshape(4, 4).astype(kind)  # of twelve bits
    Image.fromarray(values).save(tmp_path / "deep.tif")
    seen = np.asarray(read_seen(str(tmp_path / "deep.tif")))
    expected = (255 * (values.astype(float) - 100) / 4000).round()
    assert np.abs(seen - expected[..., None]).max() <= 1
    assert (
        as_seen(Image.fromarray(np.full((2, 2), np.nan, np.float32))).getpixel((0, 0)) == (0,) * 3
    )
    odd = np.array([[np.inf, 1], [0, np.nan]], np.float32)
    assert np.asarray(as_seen(Image.fromarray(odd)))[..., 0].tolist() == [[255, 255], [0, 0]]


def test_of_a_moving_picture_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for name in ("a.gif", "a.webp", "a.png"):
        file = tmp_path / name
        frames[0].save(file, save_all=True, append_images=frames[1:], duration=100)
        assert corner(read_seen(str(file))) == RED


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(halves((64, 64))).save(tmp_path / "a.HEIC", quality=95)
    seen = read_seen(str(tmp_path / "a.HEIC"))
    assert (seen.size, corner(seen)) == ((64, 64), RED)
    folders = shop.write_pictures(tmp_path / "shop")
    (tmp_path / "a.HEIC").rename(folders / "train" / "cup" / "a.HEIC")
    assert len(in_folders(folders).pictures["train"]["cup"]) == 3


def test_without_the_extra_heic_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda module: None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for remembered in (picture.suffixes, picture._know_heic):
        remembered.cache_clear()
    try:
        folders = shop.write_pictures(tmp_path / "shop")
        (folders / "train" / "cup" / "a.heic").write_bytes(b"whatever")
        said = summary(in_folders(folders))
        assert "1 file passed over (1 .heic, which needs pip install 'sarclip[heic]')" in said
        with pytest.raises(DataError, match=r"pillow_heif is not installed.*sarclip\[heic\].*jpg"):
            read_seen(str(folders / "train" / "cup" / "a.heic"))
        assert len(find_pictures(folders / "train" / "cup")) == 2
        assert "1 HEIC pictures in" in capsys.readouterr().out
    finally:
        monkeypatch.undo()
        for remembered in (picture.suffixes, picture._know_heic):
            remembered.cache_clear()


def test_own_datasets_and_classifiers_read_as_seen_and_the_field_does_not(tmp_path: Path) -> None:
    root = shop.write_pictures(tmp_path / "shop")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for file in root.glob("*/*/*.png"):
        halves().save(file, exif=exif)
    dataset = build(root)
    assert dataset.read_image is read_seen
    assert DatasetBase.read_image is read_image
    cfg = get_cfg_default()
    cfg.VERBOSE, cfg.DATASET.NAME, cfg.DATASET.ROOT = False, "ImageFolder", str(root)
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (8, 8), ("center_crop",)
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = [0.0] * 3, [1.0] * 3
    cfg.DATALOADER.NUM_WORKERS = 0
    manager = DataManager(cfg)
    seen = next(iter(manager.test_loader))["img"][0]
    assert seen[:, 0, 0].tolist() == [0, 0, 1]  # blue is left
    path = Path(dataset.test[0].impath)
    transform = manager.test_loader.dataset.transform
    for given in (path, Image.open(path)):
        (batch,) = read_batches([given], transform, 4)
        assert torch.equal(batch.images[0], seen)


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")  # whoever opens it waits
    with pytest.raises(DataError, match=r"cannot read image .*a\.png: it is no file"):
        read_seen(str(tmp_path / "a.png"))
    assert "it is no file" in look(str(tmp_path / "a.png")).problem
