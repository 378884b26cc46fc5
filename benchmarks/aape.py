"""What AAPE's class weights of each image cost in a test, beside CoOp's, which are computed once.

At the shapes of ViT-B/16 with random weights, fp32, on image features that are there already, as in
every test but the first. Text: the classes' prompts encoded once, which both need. Logits: of
all images, in batches of 100.

    CoOp           text features once, one matrix product
    feature, gate  AAPE's combinations in closed form
    written out    `feature` with class weights (images, classes, D)
    token          each class's prompt encoded for each image; of 2 images, multiplied

Usage: python benchmarks/aape.py [--images 1000] [--classes 50 250] [--repeats 3]
"""

import argparse
import contextlib
import io
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measuring import NAMES, now, spread
from step import VIT_B16
from tabulate import tabulate
from torch import Tensor

from sar.toolbox.clip import CLIP
from sar.toolbox.clip.prompted import hand_crafted_features, normalize
from sar.toolbox.config import get_cfg_default
from sar.toolbox.train import add_registered_keys, register_builtin
from sar.toolbox.trainers import aape, coop

BATCH = 100
CPU = torch.device("cpu")
Classify = Callable[[Tensor], Tensor]


def quietly(make: Callable[[], Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return make()


def settings(combine: str) -> Any:
    register_builtin()
    cfg = get_cfg_default()
    add_registered_keys(cfg)
    cfg.TRAINER.AAPE.COMBINE = combine
    cfg.TRAINER.COOP.CTX_INIT = "a photo of a"
    return cfg


def changed(model: aape.CustomCLIP) -> aape.CustomCLIP:
    """As after a training: no layer is zero."""
    for parameter in model.prompt_learner.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


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
    text = quietly(lambda: hand_crafted_features(clip, names, "a photo of a {}.", CPU))
    encoding = now(CPU) - start

    def model(combine: str) -> aape.CustomCLIP:
        made = quietly(lambda: aape.CustomCLIP(settings(combine), names, clip, text))
        return changed(made)

    plain = quietly(lambda: coop.CustomCLIP(settings("feature"), names, clip)).eval()
    feature, token = model("feature"), model("token")
    with plain.text_encoded_once():
        plain.classify(features[:1])
        ways: dict[str, tuple[Classify, Tensor]] = {
            "CoOp": (plain.classify, features),
            "AAPE feature": (feature.classify, features),
            "AAPE gate": (model("gate").classify, features),
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 250])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    shapes = (64, 32, 1, 64, 32, 77, 49408, 64, 1, 2)
    if not args.quick:
        shapes = VIT_B16
    clip = CLIP(*shapes).eval()
    rows = [row for n in args.classes for row in measure(clip, n, args.images, args.repeats)]
    headers = ("classes", "", "text (s)", f"logits of {args.images} images (s)", "both (s)", "")
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
