"""Train the pocket CLIP on the pictures rendered by `build_data.py`.

    python tools/pocket/train.py        # half an hour on 2 cores; --device cuda

Three stages: the image encoder learns to tell the concepts apart, the text encoder learns to name
them, then both are tuned together.
1. image: the image encoder against a free table of concept vectors (cosine cross-entropy);
2. text: the text encoder against frozen image features (contrastive, and against the mean feature
   of each concept);
3. joint: both encoders, contrastive over captions and cross-entropy over all concept names.
Only pictures whose role is `pretrain` are used. Every step draws its randomness from (seed, stage,
step), and the state is saved every --save-every steps: an interrupted run continues where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from captions import caption
from export import export
from rendering import Pictures, render
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sar.encoding import encode_prompts
from sar.toolbox.clip import tokenize
from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION, SHAPE, build_pocket

ROOT = Path(__file__).resolve().parents[2]
EMBEDDING_RANK = 32
CAPTION_TOKENS = 16
STRENGTH = 0.8  # of the random renderings


class FactorizedEmbedding(nn.Module):
    """A (V, d) token embedding as (V, r) times (r, d)."""

    def __init__(self, vocabulary: int, width: int, rank: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(vocabulary, rank)
        self.columns = nn.Parameter(torch.randn(rank, width) * 0.02)
        nn.init.normal_(self.rows.weight, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rows(tokens) @ self.columns


class Trainee(nn.Module):
    """The model with what only training needs: concept table and scales."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.clip: Any = build_pocket(nn.BatchNorm2d)
        self.clip.token_embedding = FactorizedEmbedding(
            SHAPE["vocab_size"], SHAPE["transformer_width"], EMBEDDING_RANK
        )
        self.table = nn.Parameter(torch.randn(concepts, SHAPE["embed_dim"]) * 0.1)
        self.table_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def image(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.clip.encode_image(pictures), dim=-1)

    def text(self, tokens: Tensor) -> Tensor:
        eot = tokens.argmax(-1)
        embeddings = self.clip.token_embedding(tokens[:, : int(eot.max()) + 1])
        return F.normalize(encode_prompts(self.clip, embeddings, eot), dim=-1)

    @property
    def scale(self) -> Tensor:
        return self.clip.logit_scale.exp().clamp(max=100)


def contrastive(image: Tensor, text: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss (Radford et al. 2021); pairs of one concept count as positives."""
    logits = scale * image @ text.T
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@dataclass
class Run:
    """What the stages share."""

    data: Pictures
    model: Trainee
    average: Trainee
    batch: int
    seed: int
    device: torch.device

    def draw(self, stage: int, step: int) -> tuple[random.Random, torch.Generator]:
        mixed = (self.seed * 10 + stage) * 1_000_000 + step
        return random.Random(mixed), torch.Generator().manual_seed(mixed)

    def pictures(
        self, stage: int, step: int, strength: float
    ) -> tuple[Tensor, Tensor, random.Random]:
        """A batch of rendered pictures (B, 3, 40, 40) of distinct concepts (B,)."""
        rng, generator = self.draw(stage, step)
        concepts = rng.sample(range(len(self.data.names)), self.batch)
        rows = torch.tensor([self.row(concept, rng) for concept in concepts])
        images = render(self.data.pixels[rows], generator, RESOLUTION, strength)
        return images.to(self.device), torch.tensor(concepts, device=self.device), rng

    def row(self, concept: int, rng: random.Random) -> int:
        """One picture of the concept; silhouettes are drawn less often than coloured drawings."""
        rows = self.data.rows_of[concept]
        return rng.choices(rows, [self.data.weights[row] for row in rows])[0]

    def captions(self, concepts: Tensor, rng: random.Random) -> Tensor:
        texts = [
            caption(self.data.names[int(c)], self.data.keywords[int(c)], rng) for c in concepts
        ]
        tokens = tokenize(texts, truncate=True)
        eot = tokens.argmax(-1).clamp(max=CAPTION_TOKENS - 1)
        ends = tokens.max(-1).values
        tokens = tokens[:, :CAPTION_TOKENS]
        tokens[torch.arange(len(eot)), eot] = ends
        return tokens.to(self.device)

    def names(self) -> Tensor:
        """Tokens (concepts, 77) of the zero-shot prompts."""
        return tokenize([f"a photo of a {name}." for name in self.data.names]).to(self.device)


Loss = Callable[[int], Tensor]


def image_stage(run: Run, steps: int) -> Loss:
    def loss(step: int) -> Tensor:
        # From nearly upright pictures to strong renderings over the first half of the stage; with
        # strong ones from the start the loss stays near chance for hundreds of steps.
        strength = STRENGTH * min(1.0, 0.3 + 0.7 * step / (0.5 * steps))
        images, concepts, _ = run.pictures(1, step, strength)
        table = F.normalize(run.model.table, dim=-1)
        logits = run.model.table_scale.exp().clamp(max=30) * run.model.image(images) @ table.T
        return F.cross_entropy(logits, concepts, label_smoothing=0.05)

    return loss


@torch.no_grad()
def stored_features(run: Run, copies: int) -> Tensor:
    """(N, copies, D) features of augmented pretraining pictures from the averaged model."""
    features = []
    run.average.eval()
    for repeat in range(copies):
        _, generator = run.draw(9, repeat)
        chunks = torch.arange(len(run.data.pixels)).split(256)
        images = (render(run.data.pixels[rows], generator, RESOLUTION, STRENGTH) for rows in chunks)
        features.append(torch.cat([run.average.image(batch.to(run.device)) for batch in images]))
    return torch.stack(features, 1)


def text_stage(run: Run, steps: int) -> Loss:
    features = stored_features(run, copies=4)
    concept_of = torch.tensor(run.data.concepts, device=run.device)
    sums = torch.zeros(len(run.data.names), features.shape[-1], device=run.device)
    means = F.normalize(sums.index_add(0, concept_of, features.sum(1)), dim=-1)

    def loss(step: int) -> Tensor:
        rng, _ = run.draw(2, step)
        concepts = torch.tensor(rng.sample(range(len(run.data.names)), 2 * run.batch))
        rows = torch.tensor([run.row(int(c), rng) for c in concepts])
        copy_of = torch.tensor([rng.randrange(features.shape[1]) for _ in concepts])
        text = run.model.text(run.captions(concepts, rng))
        same = torch.eye(len(concepts), device=run.device)
        to_means = F.cross_entropy(run.model.scale * text @ means.T, concepts.to(run.device))
        return contrastive(features[rows, copy_of], text, run.model.scale, same) + to_means

    return loss


def joint_stage(run: Run, steps: int) -> Loss:
    names = run.names()

    def loss(step: int) -> Tensor:
        images, concepts, rng = run.pictures(3, step, STRENGTH)
        image, text = run.model.image(images), run.model.text(run.captions(concepts, rng))
        same = torch.eye(len(concepts), device=run.device)
        table = F.normalize(run.model.table, dim=-1)
        to_table = run.model.table_scale.exp().clamp(max=30) * image @ table.T
        classifier = run.model.text(names)
        to_names = run.model.scale * image @ classifier.T
        return (
            contrastive(image, text, run.model.scale, same)
            + F.cross_entropy(to_names, concepts)
            + 0.5 * F.cross_entropy(to_table, concepts, label_smoothing=0.05)
        )

    return loss


@dataclass(frozen=True)
class Stage:
    name: str
    make: Callable[[Run, int], Loss]
    learning_rate: float
    trained: tuple[str, ...]  # beginnings of parameter names


TEXT = (
    "clip.transformer",
    "clip.token_embedding",
    "clip.positional_embedding",
    "clip.ln_final",
    "clip.text_projection",
    "clip.logit_scale",
)
STAGES = (
    Stage("image", image_stage, 2e-3, ("clip.visual", "table")),
    Stage("text", text_stage, 1.5e-3, TEXT),
    Stage("joint", joint_stage, 6e-4, ("clip", "table")),
)


def parameter_groups(model: nn.Module, trained: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """AdamW groups: matrices with weight decay; embeddings, biases, norms and scales without."""
    named = [(n, p) for n, p in model.named_parameters() if n.startswith(trained)]
    decayed = [p for n, p in named if p.ndim > 1 and "embedding" not in n and "table" not in n]
    ids = {id(p) for p in decayed}
    yield {"params": decayed, "weight_decay": 0.1}
    yield {"params": [p for _, p in named if id(p) not in ids], "weight_decay": 0.0}


def average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and norm statistics."""
    with torch.no_grad():
        for kept, new in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def train_stage(
    run: Run, number: int, steps: int, state_file: Path, state: dict, save_every: int
) -> None:
    stage = STAGES[number]
    run.model.train()
    for name, parameter in run.model.named_parameters():
        parameter.requires_grad_(name.startswith(stage.trained))
    if not any("clip.visual".startswith(t) or t == "clip" for t in stage.trained):
        run.model.clip.visual.eval()
    optimizer = torch.optim.AdamW(
        list(parameter_groups(run.model, stage.trained)), lr=stage.learning_rate, betas=(0.9, 0.98)
    )
    first = 0
    if state.get("stage") == number:
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    loss_of = stage.make(run, steps)
    bar = tqdm(range(first, steps), desc=stage.name, initial=first, total=steps, mininterval=5)
    for step in bar:
        rate = min(1.0, (step + 1) / 150) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        optimizer.step()
        average_into(run.average, run.model, min(0.998, (step + 1) / (step + 20)))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{run.model.scale.item():.1f}")
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(run, state_file, number, step + 1, optimizer)


def save(run: Run, file: Path, stage: int, step: int, optimizer: torch.optim.Optimizer) -> None:
    state = {
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "stage": stage,
        "step": step,
    }
    torch.save(state, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)


@torch.no_grad()
def zero_shot(run: Run, model: Trainee) -> dict[str, dict[str, float]]:
    """Accuracy in percent per group and style: one upright picture per class on white."""
    model.eval()
    classifier = model.text(run.names())
    table: dict[str, dict[str, float]] = {}
    for style, (pixels, concepts) in run.data.styles.items():
        images = render(pixels, None, RESOLUTION).to(run.device)
        image = torch.cat([model.image(batch) for batch in images.split(256)])
        for group in sorted(set(run.data.groups)):
            members = torch.tensor([i for i, g in enumerate(run.data.groups) if g == group])
            inside = torch.isin(concepts, members)
            if inside.any():
                scores = image[inside.to(image.device)] @ classifier[members.to(image.device)].T
                right = members[scores.argmax(1).cpu()] == concepts[inside]
                table.setdefault(group, {})[style] = 100 * right.float().mean().item()
    return table


def print_zero_shot(table: dict[str, dict[str, float]]) -> None:
    styles = list(next(iter(table.values())))
    print(f"{'zero-shot, %':16}" + "".join(f"{style[:12]:>13}" for style in styles))
    for group, row in table.items():
        print(f"{group:16}" + "".join(f"{row.get(style, math.nan):13.1f}" for style in styles))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket CLIP.")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket" / "pretrain.npz")
    parser.add_argument("--output", type=Path, default=POCKET_FILE)
    parser.add_argument("--steps", type=int, nargs=3, default=(2300, 1500, 600))
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    described = json.loads(args.data.with_suffix(".json").read_text())
    data = Pictures.load(args.data, described)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    model = Trainee(len(data.names)).to(device)
    run = Run(data, model, copy.deepcopy(model), args.batch, args.seed, device)
    state_file = args.data.with_name("state.pt")
    state: dict = {}
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        run.model.load_state_dict(state["model"])
        run.average.load_state_dict(state["average"])
        print(f"continuing in stage {STAGES[state['stage']].name} at step {state['step']}")
    for number in range(state.get("stage", 0), len(STAGES)):
        train_stage(run, number, args.steps[number], state_file, state, args.save_every)
        # The next stage starts from the averaged weights.
        run.model.load_state_dict(run.average.state_dict())
        if number > 0:
            print_zero_shot(zero_shot(run, run.average))
    export(run.average.clip, args.output)


if __name__ == "__main__":
    main()
