"""Time and memory of the text side of one training step: forward and backward to the context.

At the shapes of ViT-B/16 (width 512, 12 layers, 8 heads) with random weights, for "X X X X name."
with 4 context vectors and the class names of Food-101, Flowers-102, Oxford Pets and EuroSAT:

    77 positions   what the existing toolboxes compute
    truncated      encode_prompts(shared=0): every class to its end-of-text token
    shared prefix  encode_prompts(shared=P): start token and context once for all classes

Usage: python benchmarks/text_encoder.py [--classes 50 250] [--repeats 3] [--threads N]
       [--dtype fp32|fp16|bf16|amp] [--device cpu]
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from measuring import MIB, NAMES, SavedForBackward, encode_77, now, spread
from tabulate import tabulate
from torch import Tensor, nn

from sar.encoding import encode_prompts, shared_prefix_length
from sar.toolbox.clip import CLIP, PRECISIONS, autocast, set_precision, tokenize

N_CTX = 4


@dataclass
class Step:
    """One way to compute the features, and what it cost in each repeat, in seconds."""

    name: str
    encode: Callable[[], Tensor]
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)

    def total(self) -> float:
        return statistics.median(map(sum, zip(self.forward, self.backward, strict=True)))


class Prompts(nn.Module):
    """Learned context in front of class names, as CoOp makes it: (C, 77, 512)."""

    def __init__(self, model: CLIP, names: list[str]) -> None:
        super().__init__()
        self.tokens = tokenize([f"{'X ' * N_CTX}{name}." for name in names])  # (C, 77)
        self.eot = self.tokens.argmax(dim=1)
        device = model.token_embedding.weight.device
        embedded = model.token_embedding(self.tokens.to(device)).to(model.dtype)
        self.prefix, self.suffix = embedded[:, :1], embedded[:, 1 + N_CTX :]
        self.context = nn.Parameter(embedded[0, 1 : 1 + N_CTX].clone())

    def forward(self) -> Tensor:
        context = self.context.expand(len(self.tokens), -1, -1)
        return torch.cat([self.prefix, context, self.suffix], dim=1)


def text_tower(dtype: str, device: str) -> CLIP:
    """CLIP with the text shapes of ViT-B/16, and next to no image encoder."""
    torch.manual_seed(0)
    model = CLIP(512, 32, 1, 64, 32, 77, 49408, 512, 8, 12).requires_grad_(False).to(device)
    set_precision(model, dtype)
    return model


def saved_bytes(encode: Callable[[], Tensor], model: CLIP) -> int:
    """Bytes kept for the backward pass of one encoding."""
    with SavedForBackward(model.parameters()) as saved:
        encode()
    return saved.total


def run(step: Step, direction: Tensor) -> None:
    """One forward and backward pass, timed."""
    device = direction.device
    times = [now(device)]
    features = step.encode()
    times.append(now(device))
    features.backward(direction.to(features.dtype))
    times.append(now(device))
    step.forward.append(times[1] - times[0])
    step.backward.append(times[2] - times[1])


def measure(model: CLIP, n: int, repeats: int, dtype: str, device: str) -> list[list[object]]:
    """Rows of the table for n classes."""
    prompts = Prompts(model, spread(NAMES, n))
    eot, shared = prompts.eot, shared_prefix_length(prompts.tokens, N_CTX)
    steps = [
        Step("77 positions", lambda: encode_77(model, prompts(), eot)),
        Step("truncated", lambda: encode_prompts(model, prompts(), eot)),
        Step("shared prefix", lambda: encode_prompts(model, prompts(), eot, shared=shared)),
    ]
    direction = torch.randn(n, 512, device=device)
    with autocast(dtype, torch.device(device)):
        memory = [saved_bytes(step.encode, model) for step in steps]  # warms up, too
        for _ in range(repeats):  # interleaved, so that a busy machine slows all of them
            for step in steps:
                run(step, direction)
    return [
        [
            n,
            step.name,
            statistics.median(step.forward),
            statistics.median(step.backward),
            step.total(),
            f"{steps[0].total() / step.total():.1f}x",
            used / MIB,
            f"{memory[0] / used:.1f}x",
        ]
        for step, used in zip(steps, memory, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 250], help="at most 250")
    parser.add_argument("--repeats", type=int, default=3, help="the median is shown")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", choices=PRECISIONS, default="fp32")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    model = text_tower(args.dtype, args.device)
    rows: list[list[object]] = []
    for n in args.classes:
        rows += measure(model, n, args.repeats, args.dtype, args.device)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.dtype}")
    times = ["forward s", "backward s", "total s"]
    headers = ["classes", "positions", *times, "faster", "saved MiB", "smaller"]
    print(tabulate(rows, headers, floatfmt=("", "", ".2f", ".2f", ".2f", "", ".0f", "")))


if __name__ == "__main__":
    main()
