"""Stands in for `sarclip train` in the tests of the runner: same arguments, files and log.

It counts to OPTIM.MAX_EPOCH and appends every epoch and every test it did to epochs.txt, from which
it continues when started again: its checkpoint, and the proof of what ran how often.
TEST.EPOCH_SECONDS makes it slow; TEST.FAIL names a part of the output folder that makes it fail.
gpu.txt says which GPU it saw, and from when to when it ran.
"""

import argparse
import os
import sys
import time
from pathlib import Path


def epochs_in(folder: Path) -> int:
    return (folder / "epochs.txt").read_text().count("epoch")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--root", "--trainer", "--dataset-config-file", "--config-file", "--model-dir"):
        parser.add_argument(flag)
    parser.add_argument("--import", action="append")
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("options", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv[1:])
    options = dict(zip(args.options[::2], args.options[1::2], strict=True))
    if (fail := options.get("TEST.FAIL")) and fail in str(args.output_dir):
        print("something before the error", file=sys.stderr)
        raise ValueError("the images are made of cheese")

    began = time.monotonic()
    log_path = args.output_dir / "log.txt"
    if log_path.exists():
        log_path = args.output_dir / f"log.txt-{time.time_ns()}"
    epochs = int(options["OPTIM.MAX_EPOCH"])
    with log_path.open("w", buffering=1) as log, (args.output_dir / "epochs.txt").open("a") as did:
        print(f"eval_only: {args.eval_only}\n  MAX_EPOCH: {epochs}", file=log)
        print(f"  SUBSAMPLE_CLASSES: {options['DATASET.SUBSAMPLE_CLASSES']}", file=log)
        if args.model_dir:
            epoch = epochs_in(Path(args.model_dir))
            assert epoch == args.load_epoch, f"expected epoch {args.load_epoch}, found {epoch}"
        if not args.eval_only:
            for epoch in range(epochs_in(args.output_dir) + 1, epochs + 1):
                time.sleep(float(options.get("TEST.EPOCH_SECONDS", 0)))
                print(f"epoch [{epoch}/{epochs}] batch [1/1] loss 0.5 (0.5)", file=log)
                print(f"epoch {epoch}", file=did, flush=True)
            print("Finish training", file=log)
        print("test", file=did, flush=True)
        correct = 700 + 10 * args.seed - 200 * ("new" in str(args.output_dir))
        print(
            f"=> result\n* total: 1,000\n* correct: {correct}\n* accuracy: {correct / 10:.2f}%\n"
            f"* error: {100 - correct / 10:.2f}%\n* macro_f1: 50.00%",
            file=log,
        )
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "any")
    (args.output_dir / "gpu.txt").write_text(f"{gpu} {began} {time.monotonic()}")
