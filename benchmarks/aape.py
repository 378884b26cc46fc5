"""What AAPE costs, in a test and in a training, beside CoOp and CoCoOp.

    classes    class weights of each image, beside CoOp's, which are computed once: at the shapes of
               ViT-B/16 with random weights, fp32, on image features that are there already, as in
               every test but the first
    methods    of each method: what it learns; a training with the pocket CLIP and 16 shots, whose
               pictures are encoded in every step, and whose features an earlier one has kept;
               images per second in a test, image encoder included, with the pocket CLIP and with a
               random ViT-B/16

In `classes`, text: the classes' prompts encoded once, which both need. Logits: of all images, in
batches of 100.

    CoOp           text features once, one matrix product
    feature, gate  AAPE's combinations in closed form
    written out    `feature` with class weights (images, classes, D)
    token          each class's prompt encoded for each image; of 2 images, multiplied

Seconds are those of the process.

Usage: python benchmarks/aape.py [--parts classes methods] [--images 1000] [--classes 50 250]
       [--repeats 3] [--dataset demo_food] [--epochs N] [--frames 8]
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import NAMES, now, spread
from step import VIT_B16
from sweep import BASE, ROOT, seconds_of
from tabulate import tabulate
from torch import Tensor

from sar.errors import ConfigError
from sar.protocols.configs import config_path
from sar.toolbox.clip import CLIP, load_clip
from sar.toolbox.clip.prompted import PromptedCLIP, hand_crafted_features, normalize
from sar.toolbox.config import get_cfg_default
from sar.toolbox.registered import add_registered_keys, register_builtin
from sar.toolbox.trainers import aape, cocoop, coop

BATCH = 100
CPU = torch.device("cpu")
TEMPLATE = "a photo of a {}."
Classify = Callable[[Tensor], Tensor]
ENCODER = "image encoder alone"
METHODS: Mapping[str, Sequence[str]] = {
    "CoOp": ("CoOp",),
    "CoCoOp": ("CoCoOp",),
    "AAPE feature": ("AAPE",),
    "AAPE gate": ("AAPE", "TRAINER.AAPE.COMBINE", "gate"),
    "SAR_AAPE feature": ("SAR_AAPE",),
}
"""Trainer, and settings."""
HEADERS = (
    "",
    "learned",
    "left for a test",
    "training, pictures encoded (s)",
    "training, features kept (s)",
    "pocket CLIP, images/s",
    "ViT-B/16, images/s",
)


def quietly(make: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return make()


def settings(combine: str) -> Any:
    register_builtin()
    cfg = get_cfg_default()
    add_registered_keys(cfg)
    cfg.TRAINER.AAPE.COMBINE = combine
    cfg.TRAINER.COOP.CTX_INIT = cfg.TRAINER.COCOOP.CTX_INIT = "a photo of a"
    return cfg


def changed(model: PromptedCLIP) -> Any:
    """As after a training: no layer is zero."""
    for parameter in model.prompt_learner.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def made(method: str, names: Sequence[str], clip: Any, text: Tensor) -> Any:
    """The model of one of METHODS, or of AAPE token."""
    trainer, _, combine = method.rpartition(" ")
    if trainer:
        return changed(quietly(lambda: aape.CustomCLIP(settings(combine), names, clip, text)))
    module = {"CoOp": coop, "CoCoOp": cocoop}[method]
    return changed(quietly(lambda: module.CustomCLIP(settings("feature"), names, clip)))


def written_out(model: aape.CustomCLIP) -> Classify:
    def classify(features: Tensor) -> Tensor:
        weights = model.class_weights(model.prompt_learner(features))
        return model.logit_scale.exp() * torch.einsum("bd,bcd->bc", features, weights)

    return classify


def seconds(classify: Classify, images: Tensor) -> float:
    start = now(CPU)
    for batch in images.split(BATCH):
        classify(batch)
    return now(CPU) - start


@torch.no_grad()
def measure(clip: CLIP, classes: int, images: int, repeats: int) -> list[list[object]]:
    names = spread(NAMES, classes)
    features = normalize(torch.randn(images, clip.visual.output_dim))

    start = now(CPU)
    text = quietly(lambda: hand_crafted_features(clip, names, TEMPLATE, CPU))
    encoding = now(CPU) - start

    plain, feature, gate, token = (
        made(name, names, clip, text)
        for name in ("CoOp", "AAPE feature", "AAPE gate", "AAPE token")
    )
    with plain.text_encoded_once():
        plain.classify(features[:1])
        ways: dict[str, tuple[Classify, Tensor]] = {
            "CoOp": (plain.classify, features),
            "AAPE feature": (feature.classify, features),
            "AAPE gate": (gate.classify, features),
            "AAPE feature, written out": (written_out(feature), features),
            "AAPE token": (token.classify, features[:2]),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, (classify, some) in ways.items():
                taken[name].append(seconds(classify, some) * len(features) / len(some))
    logits = {name: statistics.median(times) for name, times in taken.items()}
    whole = {name: encoding + time for name, time in logits.items()}
    return [
        [classes, name, encoding, logits[name], whole[name], f"{whole[name] / whole['CoOp']:.2f}x"]
        for name in ways
    ]


def classes_part(args: argparse.Namespace) -> str:
    clip = vit_b16(args)
    rows = [row for n in args.classes for row in measure(clip, n, args.images, args.repeats)]
    headers = ("classes", "", "text (s)", f"logits of {args.images} images (s)", "both (s)", "")
    return tabulate(rows, headers, tablefmt="github", floatfmt=".3f")


def vit_b16(args: argparse.Namespace) -> CLIP:
    return CLIP(*((64, 32, 1, 64, 32, 77, 49408, 64, 1, 2) if args.quick else VIT_B16)).eval()


@torch.no_grad()
def frames(clip: Any, names: Sequence[str], images: int, repeats: int) -> dict[str, float]:
    """Images per second of each method, and of the image encoder alone; classes encoded before."""
    size = clip.visual.input_resolution
    pictures = torch.randn(images, 3, size, size)
    text = quietly(lambda: hand_crafted_features(clip, names, TEMPLATE, CPU))
    ways: dict[str, Classify] = {ENCODER: clip.visual}
    with contextlib.ExitStack() as stack:
        for method in METHODS:
            model = made(method, names, clip, text)
            stack.enter_context(model.text_encoded_once())
            model(pictures[:1])
            ways[method] = model
        taken = [
            {name: seconds(way, pictures) for name, way in ways.items()} for _ in range(repeats)
        ]
    return {name: images / statistics.median(one[name] for one in taken) for name in ways}


def training(method: str, args: argparse.Namespace, folder: Path) -> list[float]:
    """Seconds: pictures encoded in every step, and features kept by an earlier training."""
    trainer, *options = METHODS[method]
    plain, place = trainer.removeprefix("SAR_"), folder / method
    argv = [
        "--trainer",
        trainer,
        "--dataset-config-file",
        f"{ROOT}/configs/datasets/{args.dataset}.yaml",
    ]
    argv += ["--config-file", f"{ROOT}/configs/trainers/{plain}/pocket.yaml"]
    argv += ["DATASET.NUM_SHOTS", str(args.shots), *BASE, *options]
    if args.epochs:
        argv += ["OPTIM.MAX_EPOCH", str(args.epochs)]
    ways = {"encoded": False, "first": True, "kept": True}
    taken = {
        name: seconds_of(argv, place / name, shared, place / "cache")[0]
        for name, shared in ways.items()
    }
    return [taken["encoded"], taken["kept"]]


def learned(model: Any) -> tuple[int, int]:
    """Numbers that a method learns, and of these, left for a test."""
    learner = model.prompt_learner
    whole = sum(parameter.numel() for parameter in learner.parameters())
    aggregator = getattr(learner, "aggregator", torch.nn.Identity())
    return whole, whole - sum(parameter.numel() for parameter in aggregator.parameters())


def methods_part(args: argparse.Namespace) -> str:
    names, pocket = spread(NAMES, args.classes[0]), load_clip("pocket").model
    text = quietly(lambda: hand_crafted_features(pocket, names, TEMPLATE, CPU))
    small = frames(pocket, names, args.images, args.repeats)
    large = frames(vit_b16(args), names, args.frames, args.repeats)
    costs = {ENCODER: [""] * 4}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            numbers = learned(made(method, names, pocket, text))
            taken = training(method, args, Path(folder))
            costs[method] = [*(f"{n:,}" for n in numbers), *(f"{s:.1f}" for s in taken)]
    rows = [[way, *of, f"{small[way]:.0f}", f"{large[way]:.2f}"] for way, of in costs.items()]
    return tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)


PARTS = {"classes": classes_part, "methods": methods_part}


def positive(text: str) -> int:
    """Type of an option that takes a whole number from 1 up."""
    if not text.isdecimal() or not (number := int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, found {text!r}")
    return number


def dataset(text: str) -> str:
    """Type of an option that takes the name of a configured dataset."""
    try:
        return config_path("datasets", text).stem
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--images", type=positive, default=1000)
    parser.add_argument("--classes", type=positive, nargs="+", default=[50, 250])
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--dataset", type=dataset, default="demo_food", help="to train on")
    parser.add_argument("--shots", type=positive, default=16)
    parser.add_argument("--epochs", type=positive, help="default: the configuration's")
    parser.add_argument("--frames", type=positive, default=8, help="images through ViT-B/16")
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    for part in args.parts:
        print(f"\n{PARTS[part](args)}")


if __name__ == "__main__":
    main()
