"""What shared training features save: trainings that see the same pictures, with and without.

    sweep      CoOp and SAR_CoOp with several weights on a demo dataset, pocket CLIP, one seed
    vit_b16    on a random ViT-B/16 CoOp, CoOp again and SAR_CoOp, one epoch

Each training is a process of its own, one after the other: without features
(`SAR_TRAINING_FEATURES=0`), and with them, at first none. Nothing is tested. Seconds are those of
all processors together, which depend little on what else the machine does: of the training alone,
from the look for a checkpoint to the last one written, and of the whole process. Both ways must end
in the same weights.

Usage: python benchmarks/sweep.py [--dataset demo_objects] [--epochs N] [--weights 0.25 1 4 16]
       [--shots 16] [--parts sweep vit_b16]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import processor_seconds
from step import VIT_B16
from tabulate import tabulate

from sar.toolbox.clip import CLIP
from sar.toolbox.utils import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
BASE = ("DATASET.SUBSAMPLE_CLASSES", "base", "TEST.NO_TEST", "True")
ONE = "--one"
Seconds = tuple[float, float]
"""Of a training, and of its process."""


def one(argv: Sequence[str]) -> None:
    """A training in this process, which prints its processor time."""
    from sar import cli
    from sar.toolbox.engine import SimpleTrainer

    def used() -> float:
        both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    train = SimpleTrainer.train

    def timed(self: Any) -> None:
        before = used()
        train(self)
        print(f"Processor: {used() - before}")

    with patch.object(SimpleTrainer, "train", timed):
        cli.main(argv)


def seconds_of(argv: Sequence[str], output: Path, shared: bool, cache: Path) -> Seconds:
    environment = {
        **os.environ,
        "SAR_CACHE": str(cache),
        "SAR_TRAINING_FEATURES": str(int(shared)),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, __file__, ONE, "train", "--seed", "1", "--output-dir", str(output)]
    before = processor_seconds()
    done = subprocess.run(
        [*command, *argv], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("Processor: "))
    return float(said.split()[1]), processor_seconds() - before


def compared(trainings: Sequence[Sequence[str]], folder: Path) -> list[tuple[Seconds, Seconds]]:
    """Of each training: its time without shared features, and with them.

    Without them equal trainings take equal time, so that there is one of each.
    """
    pairs = [((False, trainings.index(argv)), (True, i)) for i, argv in enumerate(trainings)]
    seconds = {
        (shared, i): seconds_of(
            trainings[i], folder / f"{shared} {i}", shared, folder / f"cache {shared}"
        )
        for shared, i in sorted({run for pair in pairs for run in pair})
    }
    for pair in pairs:
        without, with_them = (
            load_checkpoint(next((folder / f"{shared} {i}").glob("*/model.pth.tar-*")))
            for shared, i in pair
        )
        for name, tensor in without["state_dict"].items():
            assert torch.equal(tensor, with_them["state_dict"][name]), (pair, name)
    return [(seconds[without], seconds[with_them]) for without, with_them in pairs]


def sweep(args: argparse.Namespace, folder: Path) -> list[list[object]]:
    common = ["--dataset-config-file", f"{ROOT}/configs/datasets/{args.dataset}.yaml"]
    common += ["--config-file", f"{ROOT}/configs/trainers/CoOp/pocket.yaml"]
    options = ["DATASET.NUM_SHOTS", str(args.shots), *BASE]
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
    options = ["DATASET.NUM_SHOTS", str(args.shots), *BASE, "OPTIM.MAX_EPOCH", "1"]
    options += ["MODEL.BACKBONE.NAME", f"ViT-B/16:{clip}", "TRAINER.COOP.PREC", "fp32"]
    options += ["DATALOADER.NUM_WORKERS", "0"]
    trainings = [["--trainer", name, *common, *options] for name in ("CoOp", "CoOp", "SAR_CoOp")]
    times = compared(trainings, folder)
    names = ["CoOp, the first", "CoOp again", "SAR_CoOp"]
    return [row(f"ViT-B/16: {name}", *both) for name, both in zip(names, times, strict=True)]


def row(what: str, without: Seconds, with_them: Seconds) -> list[object]:
    times = [f"{a:.1f} / {b:.1f} = {a / b:.1f}x" for a, b in zip(without, with_them, strict=True)]
    return [what, *times]


HEADERS = ("training", "training: s without / with", "process: s without / with")
PARTS = {"sweep": sweep, "vit_b16": vit_b16}


def main() -> None:
    if sys.argv[1:2] == [ONE]:
        one(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="Shared training features: what they save.")
    parser.add_argument("--dataset", default="demo_objects")
    parser.add_argument("--epochs", type=int, help="default: the configuration's")
    parser.add_argument("--shots", type=int, default=16, help="of a class")
    parser.add_argument("--weights", nargs="+", default=["0.25", "1", "4", "16"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    args = parser.parse_args()
    rows: list[list[object]] = []
    for part in args.parts:
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[part](args, Path(folder))
    print(tabulate(rows, HEADERS, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
