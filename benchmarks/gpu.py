"""What only a GPU can tell, in one run of minutes: does it compute the same, how fast, how large.

    python benchmarks/gpu.py [--limit 380] [--output gpu.json] [--parts parity step ...]

In the order of their value, each on its own; none begins after the limit, so that 8 minutes are
enough in all:

    parity       each method and SAR on it against the CPU: loss and gradient of the first step, in
                 fp32 and under autocast (fp16 with a GradScaler on CUDA)
    step         time and peak memory of training steps in fp16, the toolboxes' default, against 77
                 positions and naive SAR
    imagenet     SAR_CoOp's with ImageNet's 1000 classes and 200 novel ones in fp16
    buckets      the text side by BUCKET_COST_ACCELERATOR (`sar.encoding.layout`)
    evaluation   a test pass against the image encoder alone
    torchrun     a training run by torchrun, which brings in nccl, against one without
    protocol     jobs of `sarclip protocol`, two at a time on the card
    decoding     from JPEG files to batches
    step-fp32    as step, in fp32
    fp16         as parity, with weights in fp16, which the toolboxes train without a scaler

50 base and 200 novel classes (names of Food-101, Flowers-102, Oxford Pets and EuroSAT), a random
ViT-B/16, random images; no network. `--device cpu --tiny` tries the script.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from device.bench import Bench
from device.costs import buckets, evaluation, imagenet, steps
from device.parity import Parity
from device.runs import LONGEST, decoding, protocol, torchrun
from parts import Parts, Row
from step import METHODS

from sar.host import register
from sar.toolbox.registered import register_builtin

KINDS = (
    *("parity", "step", "imagenet", "buckets", "evaluation", "torchrun", "protocol"),
    *("decoding", "step-fp32", "fp16"),
)
LIMIT = 480 - LONGEST - 10  # 8 minutes, whichever part begins last


def parts(
    bench: Bench, methods: Sequence[str]
) -> Iterator[tuple[str, str, Callable[[], list[Row]]]]:
    """Kind, what of it, and how to measure it; the most valuable first."""
    parity = Parity(bench)
    for method in methods:
        yield "parity", method, partial(parity.fp32, method)
    for method in methods:
        yield "step", method, partial(steps, bench, method, "fp16")
    yield "imagenet", "", partial(imagenet, bench)
    for precision in ("fp16", "fp32"):
        yield "buckets", precision, partial(buckets, bench, precision)
    yield "evaluation", "", partial(evaluation, bench)
    yield "torchrun", "", partial(torchrun, bench)
    yield "protocol", "", partial(protocol, bench)
    yield "decoding", "", partial(decoding, bench)
    for method in methods:
        yield "step-fp32", method, partial(steps, bench, method, "fp32")
    for method in methods:
        yield "fp16", method, partial(parity.fp16, method)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds; then no part begins")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--parts", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes that only try the script")
    args = parser.parse_args(argv)
    cuda = args.device == "cuda"
    if cuda and not torch.cuda.is_available():
        sys.exit("error: no GPU here that PyTorch can use; --device cpu --tiny tries the script")
    os.environ["SAR_CACHE"] = "off"
    about = {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "tiny": args.tiny,
    }
    print(about, flush=True)
    register_builtin()
    register()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(cuda, args.tiny, Path(folder))
        bench.register_backbone()
        record = Parts(args.output, args.limit, about)
        for kind, of, measure in parts(bench, args.methods):
            if kind in args.parts:
                record.run(kind, of, measure)
                bench.free()
    record.print_tables()


if __name__ == "__main__":
    main()
