"""Where a training step at ViT-B/16 spends its time, with and without kept features.

CoOp, the same again, and SAR_CoOp, with their published settings: 50 base classes and 200 novel
ones, a random ViT-B/16, batches of 32 JPEG files of 500 x 375 pixels. The first training reads and
encodes its pictures; the others find their features (`sar/toolbox/training_features.py`). A
training is one epoch of a few steps. Seconds of a step are those of the process; what a part calls
of another part counts for that one alone.

Usage: python benchmarks/spent.py [--steps 3] [--threads 1] [--quick]
"""

import argparse
import contextlib
import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from device.runs import write_pictures
from measuring import NAMES, now, spread
from step import Variant, build, configuration, write_world
from tabulate import tabulate
from torch import Tensor

from sar.encoding import encode_prompts
from sar.host import register
from sar.toolbox.data import DATASET_REGISTRY, DatasetBase, Datum
from sar.toolbox.registered import register_builtin
from sar.toolbox.training_features import TrainingFeatures

BATCH = 32
PARTS = ("pictures", "image encoder", "features", "text encoder", "optimizer", "the rest")
TRAININGS = ("CoOp", "CoOp, again", "SAR_CoOp, after it")


@DATASET_REGISTRY.register()
class Photographs(DatasetBase):
    """The JPEG files of DATASET.ROOT, shown as the classes of base.txt there in turn."""

    def __init__(self, cfg: Any) -> None:
        root = Path(cfg.DATASET.ROOT)
        names = (root / "base.txt").read_text(encoding="utf-8").splitlines()
        files = sorted((root / "pictures").glob("*.jpg"))
        items = [
            Datum(str(file), n % len(names), 0, names[n % len(names)])
            for n, file in enumerate(files)
        ]
        super().__init__(train_x=items, test=items)


class Spent:
    """Seconds by part: a part's own, without those of the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ["the rest"]
        self._since = now(torch.device("cpu"))

    def enter(self, part: str) -> None:
        self._count()
        self._open.append(part)

    def leave(self) -> None:
        self._count()
        self._open.pop()

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        self.enter(part)
        try:
            yield
        finally:
            self.leave()

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            with self.inside(part):
                return function(*args, **options)

        return timed

    def encode(self, encoder: Any, prompts: Tensor, eot: Tensor, **options: Any) -> Tensor:
        """`encode_prompts`; its backward pass counts, too."""
        features: Tensor = self.around("text encoder", encode_prompts)(
            encoder, prompts, eot, **options
        )
        if features.requires_grad:
            features.register_hook(lambda gradient: self.enter("text encoder"))
            prompts.register_hook(lambda gradient: self.leave())
        return features

    def _count(self) -> None:
        moment = now(torch.device("cpu"))
        self.seconds[self._open[-1]] += moment - self._since
        self._since = moment


def spent_by(trainer: Any) -> dict[str, float]:
    """Seconds of the parts in an epoch."""
    spent = Spent()
    data = type(trainer.train_loader_x.dataset)
    encoder, optimizer = trainer.model.image_encoder, trainer.optim
    # Called inside of SAR's own hooks, which are for all optimizers.
    optimizer.register_step_pre_hook(lambda *_: spent.enter("optimizer"))
    optimizer.register_step_post_hook(lambda *_: spent.leave())
    with (
        patch.object(data, "__getitem__", spent.around("pictures", data.__getitem__)),
        patch.object(encoder, "forward", spent.around("image encoder", encoder.forward)),
        patch.object(TrainingFeatures, "_kept", spent.around("features", TrainingFeatures._kept)),
        Variant("", encode_prompts).computing(trainer, spent.encode),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        trainer.run_epoch()
        spent.enter("")  # counts what is left
    return spent.seconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP: tries the script only")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    register_builtin()
    register()
    names = spread(NAMES, 50)
    options = ("DATASET.NAME", "Photographs", "DATALOADER.TRAIN_X.BATCH_SIZE", str(BATCH))
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_world(folder, names, [name for name in NAMES if name not in names], args.quick)
        write_pictures(folder / "pictures", BATCH * args.steps)
        with patch.dict(os.environ, {"SAR_CACHE": str(folder / "cache")}):
            for training in TRAININGS:
                name = training.partition(",")[0]
                spent = spent_by(build(configuration(name, folder, "fp32", *options)))
                times = [spent.get(part, 0.0) / args.steps for part in PARTS]
                rows.append([training, *times, sum(times)])
    print(tabulate(rows, ("seconds a step", *PARTS, "all"), "github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
