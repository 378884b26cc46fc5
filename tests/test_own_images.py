"""ImageFolder: one's own pictures."""

from pathlib import Path

import pytest
from PIL import Image

from sar.errors import DataError
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import DatasetBase
from sar.toolbox.data.datasets.own import ImageFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("test", 2)):
        for name in ("zebra", "red_fox", "Apple"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            (folder / "notes.txt").write_text("not an image")
            for number in range(count):
                Image.new("RGB", (8, 8)).save(folder / f"{number}.JPG", "JPEG")
    return tmp_path


def build(root: Path, subsample: str = "all", shots: int = -1) -> DatasetBase:
    cfg = get_cfg_default()
    cfg.SEED = 1
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(root), "ImageFolder"
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS = subsample, shots
    return ImageFolder(cfg)


def test_reads_classes_and_splits(root: Path) -> None:
    dataset = build(root)
    assert dataset.classnames == ["Apple", "red_fox", "zebra"]
    assert (len(dataset.train_x), len(dataset.test)) == (9, 6)
    assert build(root, "base").classnames == ["Apple", "red_fox"]
    assert build(root, "new").classnames == ["zebra"]
    assert len(build(root, shots=2).train_x) == 6


def test_wrong_folders(root: Path) -> None:
    with pytest.raises(DataError, match=r"found no folder .*nowhere.*train"):
        build(root / "nowhere")
    for file in (root / "test" / "zebra").glob("*.JPG"):
        file.unlink()
    with pytest.raises(DataError, match="zebra holds no images"):
        build(root)
    (root / "test" / "zebra" / "notes.txt").unlink()
    (root / "test" / "zebra").rmdir()
    with pytest.raises(DataError, match="different classes: zebra"):
        build(root)
