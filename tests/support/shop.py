"""Pictures of a small shop, in class folders, and short trainings on them with the pocket CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sar import cli

BASE = ("red_apple", "cup", "forget-me-not")
NEW = ("yellow lemon", "shoe")
METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC", "AAPE")
TRAINERS = (*METHODS, *(f"SAR_{method}" for method in METHODS))
SETTINGS = (
    *("OPTIM.MAX_EPOCH", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "3"),
    *("DATALOADER.TEST.BATCH_SIZE", "4", "TRAINER.SAR.NOVEL", "words:5", "USE_CUDA", "False"),
)


def write_pictures(root: Path) -> Path:
    """`root` with train/ and test/, classes.yaml, and descriptions of the base classes.

    Pictures are of noise, larger than the CLIP's.
    """
    noise = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 3)):
        for name in (*BASE, *NEW):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 255, (3, 4, 3), dtype=np.uint8)
                image = Image.fromarray(pixels).resize((60, 50), Image.Resampling.BICUBIC)
                image.save(folder / f"{number}.png")
    described = {name: [f"a small {name}.", f"the {name}."] for name in BASE}
    (root / "descriptions.json").write_text(json.dumps(described))
    (root / "classes.yaml").write_text(f"base: {list(BASE)}\nnew: {list(NEW)}\n")
    return root


def sarclip(*words: str | Path) -> int:
    """The exit status of the command, run in this process."""
    with pytest.raises(SystemExit) as done:
        cli.main([str(word) for word in words])
    return int(done.value.code or 0)


def train(root: Path, folder: Path, trainer: str, *words: str) -> Path:
    """The output folder of a training on the base classes, or of what `words` make of it."""
    method = trainer.removeprefix("SAR_")
    given: list[str | Path] = [
        *("--root", root, "--seed", "1", "--trainer", trainer, "--output-dir", folder)
    ]
    given += ["--dataset-config-file", "configs/datasets/image_folder.yaml"]
    given += ["--config-file", f"configs/trainers/{method}/pocket.yaml"]
    subset = [] if "DATASET.SUBSAMPLE_CLASSES" in words else ["DATASET.SUBSAMPLE_CLASSES", "base"]
    described = ("TRAINER.AAPE.DESCRIPTIONS", root / "descriptions.json")
    assert sarclip("train", *given, *words, *SETTINGS, *subset, *described) == 0
    return folder
