"""One's own pictures, in folders and tables, and datasets built without a command line."""

from pathlib import Path

from PIL import Image

from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import DatasetBase, build_dataset
from sar.toolbox.registered import register_builtin


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.JPG", "JPEG")


def build(
    root: Path | str,
    subsample: str = "all",
    shots: int = -1,
    classes: str = "",
    name: str = "ImageFolder",
) -> DatasetBase:
    """Not validated, seed 1."""
    register_builtin()
    cfg = get_cfg_default()
    cfg.SEED, cfg.VERBOSE = 1, False
    cfg.DATASET.ROOT, cfg.DATASET.NAME, cfg.DATASET.CLASSES = str(root), name, classes
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS = subsample, shots
    return build_dataset(cfg)


def table(root: Path, *rows: str, header: str = "path,label,split") -> Path:
    file = root / "images.csv"
    file.write_text("\ufeff" + "\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def rows_of(root: Path) -> list[str]:
    return [
        f"{file.relative_to(root)},{file.parent.name},{file.parts[-3]}"
        for file in sorted(root.glob("*/*/*.JPG"))
    ]
