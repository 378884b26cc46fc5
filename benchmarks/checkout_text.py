"""How much SAR_FAST_TEXT saves in the checkouts' own trainers, at the shapes of ViT-B/16.

    python benchmarks/checkout_text.py FOLDER [METHOD ...]

FOLDER holds the checkouts. Random weights and pictures, 50 base classes (random nouns), the batch
sizes of the published configurations (KgCoOp: 8 instead of 128), fp32. Both variants take turns
on the same trainer, the quicker of their steps counts. Each method runs in a process of its own;
in it `.half()` and `.cuda()` do nothing.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

CLASSES = 100
# Checkout, configuration, further options.
METHODS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "CoOp": ("CoOp", "vit_b16_ctxv1", ("TRAINER.COOP.PREC", "fp32")),
    "CoCoOp": ("CoOp", "vit_b16_c4_ep10_batch1_ctxv1", ("TRAINER.COCOOP.PREC", "fp32")),
    "KgCoOp": (
        "KgCoOp/KgCoOp",
        "vit_b16_ep100_ctxv1",
        ("TRAINER.COOP.PREC", "fp32", "DATALOADER.TRAIN_X.BATCH_SIZE", "8"),
    ),
    "MaPLe": ("multimodal-prompt-learning", "vit_b16_c2_ep5_batch4_2ctx", ()),
    "PromptSRC": ("PromptSRC", "vit_b16_c2_ep20_batch4_4+4ctx", ()),
}
COMMON = (
    *("DATASET.SUBSAMPLE_CLASSES", "base", "DATASET.NUM_SHOTS", "1"),
    *("DATALOADER.NUM_WORKERS", "0"),
)
COLUMNS = ("text encoder, forward and backward", "training step", "texts of a test batch")


def write_world(root: Path) -> None:
    """Pictures in OxfordPets' layout, and a CLIP of ViT-B/16's shapes."""
    from sar.classes.novel_names import novel_names
    from sar.toolbox.clip import CLIP, set_precision

    names = novel_names(f"words:{CLASSES}", "", [], seed=0)
    images = root / "oxford_pets" / "images"
    images.mkdir(parents=True)
    split: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    pixels = np.random.default_rng(0).integers(0, 255, (CLASSES, 224, 224, 3), dtype=np.uint8)
    for label, (name, picture) in enumerate(zip(names, pixels, strict=True)):
        Image.fromarray(picture).save(images / f"{label}.jpg")
        for part in split.values():
            part.append((f"{label}.jpg", label, name))
    (root / "oxford_pets" / "split_zhou_OxfordPets.json").write_text(json.dumps(split))
    torch.manual_seed(0)
    clip = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
    set_precision(clip, "fp16")
    torch.save(clip.state_dict(), root / "clip.pt")


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(trainer: Any) -> dict[str, tuple[float, float]]:
    """Seconds without and with the fast text encoder."""
    from sar.host import fast_text

    trainer.epoch = trainer.batch_idx = 0
    trainer.num_batches = 1000
    batch = next(iter(trainer.train_loader_x))
    encoder = trainer.model.text_encoder
    own = type(encoder)
    calls: list[tuple[Any, ...]] = []
    encoder.register_forward_pre_hook(lambda module, args: calls.append(args))
    trainer.set_model_mode("train")
    trainer.forward_backward(batch)
    texts = calls[0]
    fast_text.install(trainer)
    fast = type(encoder)
    trainer.forward_backward(batch)  # with the check

    def train_text() -> None:
        prompts, *others = (part.detach() if torch.is_tensor(part) else part for part in texts)
        encoder.forward(prompts.requires_grad_(), *others).sum().backward()

    @torch.no_grad()
    def test_text() -> None:
        encoder.forward(*texts)

    actions = (train_text, lambda: trainer.forward_backward(batch), test_text)
    result = {}
    for column, action in zip(COLUMNS, actions, strict=True):
        times: dict[type, list[float]] = {own: [], fast: []}
        for _ in range(2):
            for variant, taken in times.items():
                encoder.__class__ = variant
                taken.append(seconds(action))
        result[column] = (min(times[own]), min(times[fast]))
    return result


def run_one(method: str, world: Path) -> None:
    """In the checkout: measure, print as JSON."""
    for kind in (torch.Tensor, torch.nn.Module):
        kind.half = kind.cuda = lambda self, *args: self  # type: ignore[method-assign]
    from sar.host import hook, run

    _, config, options = METHODS[method]
    sys.path[0] = os.getcwd()
    sys.argv = ["train.py"]
    hook.install(run.package_root())
    train: Any = importlib.import_module("train")

    if method == "PromptSRC":  # its frozen target is computed once, from 60 templates
        sys.modules["trainers.promptsrc"].IMAGENET_TEMPLATES = ["a photo of a {}."]  # type: ignore[attr-defined]
    names = ("resume", "seed", "source_domains", "target_domains", "transforms", "backbone", "head")
    args = argparse.Namespace(
        **dict.fromkeys(names),
        root=str(world),
        trainer=method,
        output_dir=str(world / method),
        config_file=f"configs/trainers/{method}/{config}.yaml",
        dataset_config_file="configs/datasets/oxford_pets.yaml",
        opts=[*options, *COMMON, "MODEL.BACKBONE.NAME", str(world / "clip.pt")],
    )
    trainer = train.build_trainer(train.setup_cfg(args))
    print(json.dumps(measure(trainer)))


def main(folder: Path, methods: list[str]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as world:
        write_world(Path(world))
        for method in methods or METHODS:
            done = subprocess.run(
                [sys.executable, __file__, "--one", method, world],
                cwd=folder / METHODS[method][0],
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            row = [
                f"{own:.2f} s, {fast:.2f} s ({own / fast:.1f}x)" for own, fast in measured.values()
            ]
            rows.append([method, *row])
            print(tabulate([rows[-1]], tablefmt="plain"), flush=True)
    print(tabulate(rows, headers=["own, fast", *COLUMNS], tablefmt="github"))


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        run_one(sys.argv[2], Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]).resolve(), sys.argv[2:])
