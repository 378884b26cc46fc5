"""Time and memory of training steps and of evaluation."""

import contextlib
import io
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from measuring import MIB, NAMES, encode_77, spread
from parts import Row
from step import GOAL_MEMORY, QUICK, VIT_B16, Variant, ways_to_compute
from text_encoder import N_CTX, Prompts
from torch import Tensor

from sar.classes.names import class_names
from sar.encoding import encode_prompts, layout, shared_prefix_length
from sar.toolbox.clip import CLIP, set_precision

from .bench import Bench, default_sample_size

BUCKET_COSTS = (0, 100, 300, 1000, 3000, 10000, 30000)
GOAL_EVALUATION = 1.05  # times the image encoder


def steps(bench: Bench, method: str, precision: str) -> list[Row]:
    """Each way to compute a method's step, with batches as published."""
    base = spread(NAMES, bench.size(50, 6))
    novel = [name for name in NAMES if name not in base][: bench.size(200, 6)]
    ways = ways_to_compute(default_sample_size())
    trainers = {
        name: bench.trainer(name, precision, base, novel)
        for name in dict.fromkeys(way.trainer(method) for way in ways)
    }
    times, rows = [], []
    for way in ways:
        trainer = trainers[way.trainer(method)]
        batch = bench.batch(trainer, bench.size(128, 2))
        with way.computing(trainer, way.encode):
            step = partial(trainer.forward_backward, batch)
            step()  # the first one checks SAR's view
            times.append(bench.seconds(step))
            peak = bench.peak(step)
        row = {"trainer": way.name.replace("X", method), "images": len(batch["label"])}
        rows.append(row | {"step ms": 1e3 * times[-1], "peak MiB": peak})
        bench.free()
    usual, _, naive, *_ = times
    return [
        row | {"to 77 positions": usual / taken, "to naive": naive / taken}
        for row, taken in zip(rows, times, strict=True)
    ]


def imagenet(bench: Bench) -> list[Row]:
    """SAR_CoOp with ImageNet's classes and novel ones, in fp16."""
    base = class_names("ImageNet")[: bench.size(1000, 8)]
    trainer = bench.trainer("SAR_CoOp", "fp16", base, spread(NAMES, bench.size(200, 4)))
    ways = (
        Variant("all classes", encode_prompts, 0),
        Variant("default", encode_prompts, default_sample_size()),
        Variant("naive", encode_77, 0),
    )
    rows = []
    for way in ways:
        for images in (1, bench.size(32, 2)):
            batch = bench.batch(trainer, images)
            with way.computing(trainer, way.encode):
                step = partial(trainer.forward_backward, batch)
                taken = bench.seconds(step, enough=0.5)
                peak = bench.peak(step)
            row: Row = {"SAR_CoOp": way.name, "images": images, "step ms": 1e3 * taken}
            row["peak MiB"] = peak
            if peak is not None:
                row["with weights"] = torch.cuda.max_memory_allocated() / MIB
                row["ok"] = way.encode is encode_77 or peak <= GOAL_MEMORY
            rows.append(row)
            bench.free()
    return rows


def buckets(bench: Bench, precision: str) -> list[Row]:
    """Milliseconds of the text side, forward and backward, by what a bucket is said to cost."""
    constant = f"BUCKET_COST_{'ACCELERATOR' if bench.cuda else 'CPU'}"
    dim, *_ = shapes = QUICK if bench.tiny else VIT_B16
    torch.manual_seed(0)
    model = CLIP(dim, 32, 1, 64, 32, *shapes[5:])  # next to no image encoder
    set_precision(model.requires_grad_(False).to(bench.device), precision)
    lists = [spread(NAMES, n) for n in ((6,) if bench.tiny else (50, 128, 250))]
    if not bench.tiny:
        lists.append([*class_names("ImageNet"), *spread(NAMES, 200)])
    rows = []
    for names in lists:
        row: Row = {"precision": precision, "classes": len(names)}
        step = partial(_text_step, model, Prompts(model, names))
        for cost in BUCKET_COSTS:
            with patch.object(layout, constant, cost):
                row[f"cost {cost}"] = 1e3 * bench.seconds(step, enough=0.3)
        rows.append(row)
        bench.free()
    return rows


def _text_step(model: Any, prompts: Prompts) -> None:
    shared = shared_prefix_length(prompts.tokens, N_CTX)
    encode_prompts(model, prompts(), prompts.eot, shared=shared).float().sum().backward()


def evaluation(bench: Bench) -> list[Row]:
    """A test pass over images on the device, against their way through the image encoder."""
    names = spread(NAMES, bench.size(50, 6))
    batches, size = (bench.size(20, 2), 100) if bench.cuda else (1, 50)
    half = "fp16" if bench.cuda else "fp32"
    rows: list[Row] = []
    for name, precision in dict.fromkeys((("CoOp", half), ("CoOp", "fp32"), ("MaPLe", half))):
        trainer = bench.trainer(name, precision, names, ())
        images = torch.randn(bench.size(size, 2), 3, 224, 224, device=bench.device)
        labels = torch.randint(len(names), (len(images),), device=bench.device)
        with torch.no_grad():
            prompts: tuple[Any, ...] = ()
            if name == "MaPLe":
                _, visual, _, deep = trainer.model.prompt_learner()
                prompts = (visual, deep)
            encode = partial(_encode, trainer.model, images, prompts, batches)
            alone = bench.seconds(encode, most=5)
            whole = bench.seconds(partial(_test, trainer, images, labels, batches), most=5)
        count = len(images) * batches
        row: Row = {"trainer": name, "precision": precision, "encoder, images/s": count / alone}
        row |= {"evaluation, images/s": count / whole, "times the encoder": whole / alone}
        rows.append(row | {"ok": whole / alone <= GOAL_EVALUATION})
        bench.free()
    return rows


def _encode(model: Any, images: Tensor, prompts: tuple[Any, ...], batches: int) -> None:
    for _ in range(batches):
        model.image_encoder(images.type(model.dtype), *prompts)


def _test(trainer: Any, images: Tensor, labels: Tensor, batches: int) -> None:
    def predictions(loader: Any, desc: str) -> Any:
        return ((trainer.model_inference(images), labels) for _ in range(batches))

    with (
        patch.object(trainer, "predictions", predictions),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        trainer.test()
