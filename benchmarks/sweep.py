"""What shared training features save: trainings that see the same pictures, with and without.

    sweep      CoOp and SAR_CoOp with several weights on a demo dataset, pocket CLIP, one seed
    vit_b16    CoOp on a random ViT-B/16, twice, one epoch of a few pictures

Each training is a process of its own, one after the other: without features
(`SAR_TRAINING_FEATURES=0`), and with them, at first none. Nothing is tested. Seconds are those of
all processors together, which depend little on what else the machine does, less those of the same
command with `--no-train`. Both ways must end in the same weights.

Usage: python benchmarks/sweep.py [--dataset demo_objects] [--epochs N] [--weights 0.25 1 4 16]
       [--parts sweep vit_b16]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from measuring import processor_seconds
from step import VIT_B16
from tabulate import tabulate

from sar.toolbox.clip import CLIP
from sar.toolbox.utils import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
BASE = ("DATASET.SUBSAMPLE_CLASSES", "base", "TEST.NO_TEST", "True")


def seconds_of(argv: Sequence[str], output: Path, shared: bool, cache: Path, *flags: str) -> float:
    """One training's processor time."""
    environment = {
        **os.environ,
        "SAR_CACHE": str(cache),
        "SAR_TRAINING_FEATURES": str(int(shared)),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "sar", "train", "--seed", "1", "--output-dir", str(output)]
    before = processor_seconds()
    subprocess.run(
        [*command, *flags, *argv], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return processor_seconds() - before


def compared(trainings: Sequence[Sequence[str]], folder: Path) -> list[tuple[float, float]]:
    """Of each training: its time without shared features, and with them."""
    found: dict[bool, list[float]] = {}
    start = seconds_of(trainings[0], folder / "start", False, folder / "cache", "--no-train")
    for shared in (False, True):
        outputs = [folder / f"{shared}" / str(i) for i in range(len(trainings))]
        found[shared] = [
            seconds_of(argv, output, shared, folder / f"cache {shared}") - start
            for argv, output in zip(trainings, outputs, strict=True)
        ]
    for i in range(len(trainings)):
        without, with_them = (
            load_checkpoint(next((folder / f"{shared}" / str(i)).glob("*/model.pth.tar-*")))
            for shared in (False, True)
        )
        for name, tensor in without["state_dict"].items():
            assert torch.equal(tensor, with_them["state_dict"][name]), (i, name)
    return list(zip(found[False], found[True], strict=True))


def sweep(args: argparse.Namespace, folder: Path) -> list[list[object]]:
    common = ["--dataset-config-file", f"{ROOT}/configs/datasets/{args.dataset}.yaml"]
    common += ["--config-file", f"{ROOT}/configs/trainers/CoOp/pocket.yaml"]
    options = ["DATASET.NUM_SHOTS", "16", *BASE]
    if args.epochs:
        options += ["OPTIM.MAX_EPOCH", str(args.epochs)]
    trainings = [["--trainer", "CoOp", *common, *options]]
    for weight in args.weights:
        argv = ["--trainer", "SAR_CoOp", *common, *options, "TRAINER.SAR.WEIGHT", weight]
        trainings.append(argv)
    times = compared(trainings, folder)
    names = ["CoOp", *(f"SAR_CoOp, weight {weight}" for weight in args.weights)]
    return [row(f"{args.dataset}: {name}", *both) for name, both in zip(names, times, strict=True)]


def vit_b16(args: argparse.Namespace, folder: Path) -> list[list[object]]:
    torch.manual_seed(0)
    clip = folder / "clip.pt"
    torch.save(CLIP(*VIT_B16).state_dict(), clip)
    common = ["--dataset-config-file", f"{ROOT}/configs/datasets/{args.dataset}.yaml"]
    common += ["--config-file", f"{ROOT}/configs/trainers/CoOp/vit_b16_ctxv1.yaml"]
    options = ["DATASET.NUM_SHOTS", "4", *BASE, "OPTIM.MAX_EPOCH", "1"]
    options += ["MODEL.BACKBONE.NAME", f"ViT-B/16:{clip}", "TRAINER.COOP.PREC", "fp32"]
    training = ["--trainer", "CoOp", *common, *options]
    first, second = compared([training, training], folder)
    return [row("ViT-B/16: the first", *first), row("ViT-B/16: another", *second)]


def row(what: str, without: float, with_them: float) -> list[object]:
    return [what, f"{without:.1f}", f"{with_them:.1f}", f"{without / with_them:.1f}x"]


PARTS = {"sweep": sweep, "vit_b16": vit_b16}


def main() -> None:
    parser = argparse.ArgumentParser(description="Shared training features: what they save.")
    parser.add_argument("--dataset", default="demo_objects")
    parser.add_argument("--epochs", type=int, help="default: the configuration's")
    parser.add_argument("--weights", nargs="+", default=["0.25", "1", "4", "16"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    args = parser.parse_args()
    rows: list[list[object]] = []
    for part in args.parts:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[part](args, Path(folder))
    print(tabulate(rows, ["training", "s without", "s with", ""], "github", disable_numparse=True))


if __name__ == "__main__":
    main()
