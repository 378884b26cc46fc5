"""A miniature world for the toolbox's tests: images in CoOp's layout, a random CLIP, and a command.

As a script it is `sarclip train` with the dataset `MiniPets`; SAR_TEST_KILL=epoch,batch (from 0) in
the environment makes it send itself SIGKILL, or what SAR_TEST_SIGNAL names, in front of that
training step; with SAR_TEST_VICTIM=worker, one of the processes that read its images.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from sar import cli
from sar.toolbox.clip import set_precision
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import DATASET_REGISTRY, DatasetBase
from sar.toolbox.data.datasets import fewshot_split
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg

NAMES = ("abyssinian", "basset hound", "beagle", "bengal", "boxer", "great_pyrenees", "sphynx")
PIXELS = 32
CONFIG = """
DATALOADER: {TRAIN_X: {BATCH_SIZE: 4}, TEST: {BATCH_SIZE: 7}, NUM_WORKERS: 0}
INPUT:
  SIZE: (32, 32)
  INTERPOLATION: bicubic
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: [random_resized_crop, random_flip, normalize]
DATASET: {NUM_SHOTS: 4, SUBSAMPLE_CLASSES: base}
OPTIM:
  NAME: sgd
  LR: 0.02
  MAX_EPOCH: 5
  LR_SCHEDULER: cosine
  WARMUP_EPOCH: 1
  WARMUP_TYPE: constant
  WARMUP_CONS_LR: 1e-5
TRAIN: {PRINT_FREQ: 2}
TRAINER: {COOP: {PREC: fp32, N_CTX: 4}, AAPE: {PREC: fp32, HEADS: 2}}
"""


@DATASET_REGISTRY.register()
class MiniPets(DatasetBase):
    """What `write_world` writes; 16 training images in base classes with 4 shots."""

    def __init__(self, cfg: CfgNode) -> None:
        folder = os.path.join(cfg.DATASET.ROOT, "oxford_pets")
        split = os.path.join(folder, "split_zhou_OxfordPets.json")
        train, val, test = self.read_split(split, os.path.join(folder, "images"))
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        cache = os.path.join(folder, "split_fewshot")
        train, val = fewshot_split(self, train, val, shots, seed, cache)
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        train, val, test = self.subsample_classes(train, val, test, subsample=subsample)
        super().__init__(train_x=train, val=val, test=test)


def write_world(root: Path) -> None:
    """OxfordPets in CoOp's layout, a CLIP (clip.pt), a configuration (mini.yaml), descriptions."""
    write_images(root)
    torch.save(random_clip().state_dict(), root / "clip.pt")
    (root / "mini.yaml").write_text(
        f"{CONFIG}\nMODEL: {{BACKBONE: {{NAME: {root / 'clip.pt'}}}}}\n"
    )
    described = {name: [f"a small {name}.", f"the {name} sleeps."] for name in NAMES}
    (root / "descriptions.json").write_text(json.dumps(described))


def write_images(root: Path) -> None:
    images = root / "oxford_pets" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    split: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(NAMES):
        colour = np.array([label * 37 % 255, label * 91 % 255, label * 151 % 255])
        for part, count in (("train", 6), ("val", 2), ("test", 4)):
            for i in range(count):
                path = f"{name.replace(' ', '_')}_{part}{i}.png"
                pixels = colour + rng.normal(0, 25, (40, 40, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / path)
                split[part].append((path, label, name))
    (root / "oxford_pets" / "split_zhou_OxfordPets.json").write_text(json.dumps(split))


def random_clip(seed: int = 0) -> torch.nn.Module:
    """A CLIP of tiny ViT shapes, rounded to fp16 as released ones are."""
    from sar.toolbox.clip import CLIP

    torch.manual_seed(seed)
    model = CLIP(32, PIXELS, 1, 64, 16, 77, 49408, 64, 1, 2)
    set_precision(model, "fp16")
    return model.float().eval()


def arguments(root: Path, output: Path, *more: str, trainer: str = "CoOp") -> list[str]:
    """Options of a base-class training run with seed 1."""
    config = str(root / "mini.yaml")
    where = ["--root", str(root), "--output-dir", str(output), "--config-file", config]
    return ["--trainer", trainer, "--seed", "1", *where, *more, "DATASET.NAME", "MiniPets"]


def make_cfg(argv: Sequence[str]) -> CfgNode:
    """The configuration `main` would use."""
    register_builtin()
    return setup_cfg(parse_arguments(argv))


def default_cfg(*options: object) -> CfgNode:
    """Defaults with options, not validated."""
    cfg = get_cfg_default()
    cfg.merge_from_list(list(options))
    return cfg


def _kill_at(epoch: int, batch: int) -> None:
    register_builtin()
    trainer = TRAINER_REGISTRY.get("CoOp")
    step = trainer.forward_backward

    def forward_backward(self: Any, data: dict[str, Any]) -> Any:
        if (self.epoch, self.batch_idx) == (epoch, batch):
            os.kill(_victim(), signal.Signals[os.environ.get("SAR_TEST_SIGNAL", "SIGKILL")])
        return step(self, data)

    trainer.forward_backward = forward_backward


def _victim() -> int:
    if os.environ.get("SAR_TEST_VICTIM") != "worker":
        return os.getpid()
    pid = multiprocessing.active_children()[0].pid
    assert pid is not None
    return pid


if __name__ == "__main__":
    # A suite started in the background ignores SIGINT, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if moment := os.environ.get("SAR_TEST_KILL"):
        _kill_at(*map(int, moment.split(",")))
    cli.main(["train", *sys.argv[1:]])
