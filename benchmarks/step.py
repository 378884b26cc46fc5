"""Time and memory of one training step: a method as the existing toolboxes compute it, with SAR
added the naive way, and ours; the text side apart from the whole.

For each method, real trainers with their published settings on a random ViT-B/16, 50 base classes
and 200 novel ones (names of Food-101, Flowers-102, Oxford Pets and EuroSAT), random images:

    X, 77 positions        the method as the existing toolboxes compute it
    X, shared prefix       the method in the embedded toolbox
    SAR_X, naive           77 positions for all base and novel classes
    SAR_X, all classes     ours, aligning all of them in every step
    SAR_X, default         ours, aligning SAMPLE_SIZE of them, drawn anew for every step

"text" is the text encoder from the prompts to the features and back, "step" all of
`forward_backward`. Memory is what autograd keeps for the backward pass, weights excluded; with CUDA
the table also has the peak of the allocator above what was allocated before the step.

With --imagenet: SAR_CoOp with ImageNet's 1000 classes and 200 novel ones in half precision, ours
alone.

Usage: python benchmarks/step.py [--methods CoOp KgCoOp] [--repeats 1] [--quick] [--imagenet]
       [--precision fp32] [--batch-size 4] [--threads N]
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import MIB, NAMES, SavedForBackward, encode_77, now, spread
from tabulate import tabulate
from torch import Tensor

from sar import views
from sar.classes.names import class_names
from sar.config import add_sar_config
from sar.encoding import encode_prompts
from sar.host import register
from sar.protocols.configs import config_path, default_cfg
from sar.toolbox.clip import CLIP, PRECISIONS, prompted
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import DATASET_REGISTRY, DatasetBase, Datum
from sar.toolbox.engine import TRAINER_REGISTRY, build_trainer
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg

METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC")
GOAL = 15  # times faster than naive SAR on the text side; CoCoOp's is not part of it
GOAL_MEMORY = 1907  # MiB (2 GB) of activations with ImageNet's classes in half precision
# D; pixels, layers, width and patch of the image encoder; positions, tokens, width, heads and
# layers of the text encoder.
VIT_B16 = (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12)
QUICK = (64, 224, 12, 64, 32, 77, 49408, 64, 1, 12)


@dataclass(frozen=True)
class Variant:
    """One way to compute a method's step."""

    name: str
    encode: Callable[..., Tensor]
    sample_size: int | None = None  # None: the method without SAR

    def trainer(self, method: str) -> str:
        return method if self.sample_size is None else f"SAR_{method}"

    @contextlib.contextmanager
    def computing(self, trainer: Any, encode: Callable[..., Tensor]) -> Iterator[None]:
        """Inside, `trainer` aligns as many classes as said, and `encode` is its text encoder."""
        if self.sample_size is not None:
            trainer.cfg.TRAINER.SAR.defrost()
            trainer.cfg.TRAINER.SAR.SAMPLE_SIZE = self.sample_size
        with (
            patch.object(prompted, "encode_prompts", encode),  # the baselines'
            patch.object(views, "encode_prompts", encode),  # SAR's classes
        ):
            yield


def ways_to_compute(default_size: int) -> tuple[Variant, ...]:
    """The rows of a method; `default_size` is SAMPLE_SIZE's default."""
    return (
        Variant("X, 77 positions", encode_77),
        Variant("X, shared prefix", encode_prompts),
        Variant("SAR_X, naive", encode_77, 0),
        Variant("SAR_X, all classes", encode_prompts, 0),
        Variant("SAR_X, default", encode_prompts, default_size),
    )


@dataclass
class Cost:
    """What a variant took in each repeat, in seconds, and what it kept in memory, in bytes."""

    text: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    saved_text: int = 0
    saved_step: int = 0
    peak: int = 0  # of CUDA's allocator

    def row(self, naive: "Cost", usual: "Cost") -> list[object]:
        text, step = statistics.median(self.text), statistics.median(self.step)
        return [
            text,
            f"{statistics.median(naive.text) / text:.1f}x",
            f"{statistics.median(usual.text) / text:.1f}x",
            step,
            f"{statistics.median(naive.step) / step:.1f}x",
            self.saved_text / MIB,
            self.saved_step / MIB,
            self.peak / MIB if self.peak else None,
        ]


@DATASET_REGISTRY.register()
class Names(DatasetBase):
    """The classes of DATASET.ROOT/base.txt, with that file for a picture that nobody opens."""

    def __init__(self, cfg: Any) -> None:
        file = Path(cfg.DATASET.ROOT, "base.txt")
        names = file.read_text(encoding="utf-8").splitlines()
        items = [Datum(str(file), label, 0, name) for label, name in enumerate(names)]
        super().__init__(train_x=items, test=items)


class TextSide:
    """Stands in for `encode_prompts`, by another encoder, and measures it forward and backward.

    Backward it counts from the arrival of the features' gradient to the departure of the prompts'.
    Autograd runs the later of two independent parts first and to its end, so that nothing of the
    image encoder falls in between.
    """

    def __init__(
        self, encode: Callable[..., Tensor], saved: SavedForBackward, device: torch.device
    ) -> None:
        self.encode, self.saved, self.device = encode, saved, device
        self.seconds = 0.0
        self._open = False

    def __call__(self, encoder: Any, prompts: Tensor, eot: Tensor, **options: Any) -> Tensor:
        start = now(self.device)
        with self.saved.part():
            features = self.encode(encoder, prompts, eot, **options)
        self.seconds += now(self.device) - start
        if features.requires_grad:  # else it is SAR's check, in the first step alone
            features.register_hook(self._enter)
            prompts.register_hook(self._leave)
        return features

    def _enter(self, gradient: Tensor) -> None:
        assert not self._open, "the backward passes of two text encodings overlap"
        self._open = True
        self.seconds -= now(self.device)

    def _leave(self, gradient: Tensor) -> None:
        self._open = False
        self.seconds += now(self.device)


def run(trainer: Any, variant: Variant, batch: dict[str, Tensor]) -> Cost:
    """One step."""
    device = trainer.device
    cost = Cost()
    allocated = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
    with SavedForBackward(trainer.model.parameters()) as saved:
        text = TextSide(variant.encode, saved, device)
        with variant.computing(trainer, text):
            start = now(device)
            trainer.forward_backward(batch)
            cost.step.append(now(device) - start)
    cost.text.append(text.seconds)
    cost.saved_text, cost.saved_step = saved.partial, saved.total
    if device.type == "cuda":
        cost.peak = torch.cuda.max_memory_allocated(device) - allocated
    return cost


def configuration(name: str, folder: Path, precision: str, *options: str) -> Any:
    """The published settings of a trainer, and `options`, on what `write_world` has written."""
    method = name.removeprefix("SAR_")
    node = TRAINER_REGISTRY.get(method).node
    arguments = ["--trainer", name, "--root", str(folder), "--output-dir", str(folder / name)]
    arguments += ["--seed", "1", "--backbone", f"ViT-B/16:{folder}/clip.pt", "--config-file"]
    arguments += [str(config_path("trainers", method, default_cfg(method, "food101")))]
    arguments += ["DATASET.NAME", "Names", "TRAINER.SAR.NOVEL", str(folder / "novel.txt")]
    arguments += [f"TRAINER.{node}.PREC", precision, "DATALOADER.NUM_WORKERS", "0", *options]
    return setup_cfg(parse_arguments(arguments), add_sar_config)


def build(cfg: Any) -> Any:
    """A trainer at the beginning of its first step."""
    with contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(1)
        trainer = build_trainer(cfg)
        trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 1000
    return trainer


def write_world(folder: Path, base: Sequence[str], novel: Sequence[str], quick: bool) -> None:
    """A random CLIP and the class names."""
    torch.manual_seed(0)
    state = CLIP(*(QUICK if quick else VIT_B16)).state_dict()
    torch.save({name: tensor.half() for name, tensor in state.items()}, folder / "clip.pt")
    write_names(folder, base, novel)


def write_names(folder: Path, base: Sequence[str], novel: Sequence[str]) -> None:
    (folder / "base.txt").write_text("\n".join(base), encoding="utf-8")
    (folder / "novel.txt").write_text("\n".join(novel), encoding="utf-8")


def random_batch(trainer: Any, size: int) -> dict[str, Tensor]:
    """Images and labels, as many as the method's settings say, at most `size`."""
    size = min(size, trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
    torch.manual_seed(2)
    labels = torch.randint(trainer.num_classes, (size,))
    return {"img": torch.randn(size, 3, *trainer.cfg.INPUT.SIZE), "label": labels}


def measure(
    method: str, variants: Sequence[Variant], folder: Path, args: argparse.Namespace
) -> list[Cost]:
    """What each variant costs; repeats are interleaved, so that a busy machine slows all."""
    names = dict.fromkeys(variant.trainer(method) for variant in variants)
    trainers = {name: build(configuration(name, folder, args.precision)) for name in names}
    costs = [Cost() for _ in variants]
    for repeat in range(-1, args.repeats):
        for variant, cost in zip(variants, costs, strict=True):
            trainer = trainers[variant.trainer(method)]
            cuda = trainer.device.type == "cuda"
            if repeat < 0 and not cuda and variant.encode is encode_77:
                continue  # a warm-up matters little to a step of many seconds
            found = run(trainer, variant, random_batch(trainer, args.batch_size))
            if repeat >= 0:
                cost.text += found.text
                cost.step += found.step
            cost.saved_text, cost.saved_step = found.saved_text, found.saved_step
            cost.peak = found.peak
            print(
                f"{method} {variant.name}: text {found.text[0]:.2f} s, step {found.step[0]:.2f} s, "
                f"saved {found.saved_text / MIB:.0f} and {found.saved_step / MIB:.0f} MiB",
                file=sys.stderr,
                flush=True,
            )
    return costs


def compare(args: argparse.Namespace, default_size: int) -> None:
    """The table of all methods, and whether the goals are met."""
    ways = ways_to_compute(default_size)
    base_names = spread(NAMES, 50)
    novel = [name for name in NAMES if name not in base_names]
    rows: list[list[object]] = []
    goals: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        write_world(Path(name), base_names, novel, args.quick)
        for method in args.methods:
            usual, plain, naive, ours, default = measure(method, ways, Path(name), args)
            for variant, cost in zip(ways, (usual, plain, naive, ours, default), strict=True):
                title = variant.name.replace("X", method)
                rows.append([title, *cost.row(naive, usual)])
            faster = statistics.median(naive.text) / statistics.median(ours.text)
            if method != "CoCoOp":
                goals.append(
                    f"SAR_{method}: text {faster:.1f}x faster than naive ({GOAL}x is the goal)"
                )
            if method == "CoOp":
                share = statistics.median(ours.text) / statistics.median(usual.text)
                goals.append(f"SAR_CoOp's text takes {share:.2f} of CoOp's with 77 positions")
    headers = ["trainer", "text s", "to naive", "to usual", "step s", "to naive"]
    headers += ["text MiB", "step MiB", "peak MiB"]
    if not torch.cuda.is_available():
        headers.pop()
        rows = [row[:-1] for row in rows]
    formats = ("", ".2f", "", "", ".2f", "", ".0f", ".0f", ".0f")
    print(tabulate(rows, headers, tablefmt="github", floatfmt=formats), *goals, sep="\n")


def imagenet(args: argparse.Namespace, default_size: int) -> None:
    """Memory of SAR_CoOp's step with ImageNet's classes."""
    ways = (
        Variant("all classes", encode_prompts, 0),
        Variant("default", encode_prompts, default_size),
    )
    args.batch_size = 1  # the images' share is that of CoOp itself
    novel = spread(NAMES, 200)
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as name:
        write_world(Path(name), class_names("ImageNet"), novel, args.quick)
        for precision in ("fp16", "bf16", "amp"):
            args.precision = precision
            costs = measure("CoOp", ways, Path(name), args)
            rows += [
                [
                    precision,
                    variant.name,
                    cost.text[0],
                    cost.saved_text / MIB,
                    cost.saved_step / MIB,
                ]
                for variant, cost in zip(ways, costs, strict=True)
            ]
    headers = ["precision", "aligned", "text s", "text MiB", "step MiB"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", "", ".2f", ".0f", ".0f")))
    worst = max(row[3] for row in rows)  # type: ignore[type-var]
    print(f"at most {worst:.0f} MiB of the text side ({GOAL_MEMORY} is the goal)")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--repeats", type=int, default=1, help="the median is shown")
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP: tries the script only")
    parser.add_argument("--imagenet", action="store_true", help="1000 + 200 classes, memory")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=128,
        help="at most so many images a step (default: as published); their cost is the same in all",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    register_builtin()
    register()
    defaults = get_cfg_default()
    add_sar_config(defaults)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"torch {torch.__version__}, {device}, {args.threads} threads, {args.repeats} repeats")
    (imagenet if args.imagenet else compare)(args, defaults.TRAINER.SAR.SAMPLE_SIZE)


if __name__ == "__main__":
    main()
