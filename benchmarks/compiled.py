"""What channels_last and torch.compile do to a training step and to evaluation, on this machine.

A trainer with its published settings on a random ViT-B/16 (`benchmarks/step.py`), once for each
way; their steps take turns, so that a busy machine slows all. Time is that of the process;
"compiling": what the first step takes more than a later one, with the compilers that it starts.
"loss", "gradient" and "logits" are relative differences from the plain way; 0: the same bits.

Usage: python benchmarks/compiled.py [--trainer SAR_CoOp] [--images 4] [--steps 3] [--quick]
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import NAMES, spread
from step import build, configuration, random_batch, write_world
from tabulate import tabulate
from torch import Tensor

from sar.host import register
from sar.toolbox.registered import register_builtin


def _channels_last(model: Any) -> None:
    model.image_encoder.to(memory_format=torch.channels_last)


WAYS: dict[str, Callable[[Any], None]] = {
    "plain": lambda model: None,
    "channels_last": _channels_last,
    "compiled": lambda model: model.compile(),
}


def seconds() -> float:
    """Of this process, and of those that it has started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Way:
    """A trainer made another way, and what it has taken and given."""

    def __init__(self, name: str, trainer: Any, images: int) -> None:
        WAYS[name](trainer.model)
        self.trainer, self.batch = trainer, random_batch(trainer, images)
        if name == "channels_last":
            self.batch["img"] = self.batch["img"].contiguous(memory_format=torch.channels_last)
        self.steps: list[float] = []
        self.tests: list[float] = []
        self.given: dict[str, Tensor] = {}

    def step(self) -> None:
        """One training step; of the first, its loss and the context that it leaves are kept."""
        start = seconds()
        said = self.trainer.forward_backward(self.batch)
        self.steps.append(seconds() - start)
        if "loss" not in self.given:
            self.given["loss"] = torch.tensor(said["loss"])
            self.given["gradient"] = self.trainer.model.prompt_learner.ctx.grad.clone()

    @torch.no_grad()
    def test(self) -> None:
        """The logits of the images, the text being encoded already."""
        self.trainer.set_model_mode("eval")
        with self.trainer.model.text_encoded_once():
            self.trainer.model_inference(self.batch["img"][:1])
            start = seconds()
            self.given["logits"] = self.trainer.model_inference(self.batch["img"])
            self.tests.append(seconds() - start)
        self.trainer.set_model_mode("train")

    def row(self, plain: "Way") -> list[object]:
        step, test = (statistics.median(found[1:]) for found in (self.steps, self.tests))
        compiling = self.steps[0] - step + self.tests[0] - test
        usual = (statistics.median(found[1:]) for found in (plain.steps, plain.tests))
        ratios = (f"{b / a:.2f}x" for a, b in zip((step, test), usual, strict=True))
        differences = [_relative(self.given[name], plain.given[name]) for name in plain.given]
        return [step, test, *ratios, compiling, *differences]


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", default="SAR_CoOp")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="behind a first one; their median")
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP: tries the script only")
    args = parser.parse_args(argv)

    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # processes that are not waited for
    register_builtin()
    register()
    base = spread(NAMES, 50)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.images} images")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, base, [name for name in NAMES if name not in base], args.quick)
        ways = {
            way: Way(way, build(configuration(args.trainer, folder, "fp32")), args.images)
            for way in WAYS
        }
        for number in range(1 + args.steps):
            for title, way in ways.items():
                way.step()
                way.test()
                print(
                    f"{number} {title}: step {way.steps[-1]:.2f} s, test {way.tests[-1]:.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
    rows = [[title, *way.row(ways["plain"])] for title, way in ways.items()]
    headers = [
        "way",
        "step s",
        "test s",
        "step",
        "test",
        "compiling s",
        "loss",
        "gradient",
        "logits",
    ]
    formats = ("", ".2f", ".2f", "", "", ".0f", ".0e", ".0e", ".0e")
    print(tabulate(rows, headers, tablefmt="github", floatfmt=formats))


if __name__ == "__main__":
    main()
