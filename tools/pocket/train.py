"""Train the pocket CLIP on the world that `build_data.py` renders and deals.

    python tools/pocket/train.py        # --device cuda; continues where it was interrupted

Three stages: the image encoder learns to tell the names apart, the text encoder to name them, then
both are tuned together.
1. image: the image encoder against a free table of vectors, one per name (cosine cross-entropy).
   It begins with the FIRST names that are drawn most; their number doubles every DOUBLING steps.
2. text: contrastive, pictures and captions, with the image encoder locked (LiT, Zhai et al. 2022).
   For a few drawings per name this alone fits drawings rather than names. Therefore the text of a
   name is also drawn to what classifies its drawings best: a table fitted on their features.
3. joint: both encoders, contrastive over pictures and captions; short, for the same reason.
In 2 and 3 also: names against the categories in which the icon sets put them. Names held out of
pretraining have categories, but no picture.
Only drawings whose role is `pretrain` are used. Every step draws its randomness from (seed, stage,
step), and the state is saved every --save-every steps: an interrupted run continues where it was.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from batches import DOUBLING, Batches
from export import export
from recognition import pool_scale
from rendering import World, draw, render
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm
from trainee import Trainee

from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION

ROOT = Path(__file__).resolve().parents[2]
STRENGTH = 0.8  # of the random renderings
AVERAGE_EVERY = 4  # steps between updates of the averaged weights
WARMUP, DECAY = 100, 0.4  # steps; last part of a stage in which the rate falls to zero
FIT_STEPS = 600  # of the table that the text stage aims at
PAIRS, NEAR, CATEGORIES = 1.0, 5.0, 0.2  # weights of losses


def contrastive(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss (Radford et al. 2021) for pairs of different names."""
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Run:
    """What the stages share."""

    def __init__(self, world: World, args: argparse.Namespace) -> None:
        self.world = world
        self.args = args
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        self.model = Trainee(world.paired).to(self.device)
        self.average = copy.deepcopy(self.model)
        self.pixels, self.inks = world.pixels.to(self.device), world.inks.to(self.device)
        self.concepts = torch.tensor(world.concepts, device=self.device)

    def images(self, rows: Tensor, choices: Tensor, strength: float) -> Tensor:
        rows, choices = rows.to(self.device), choices.to(self.device)
        images = render(self.pixels[rows], self.inks[rows], choices, RESOLUTION, strength)
        return images.contiguous(memory_format=torch.channels_last)

    def batches(self, stage: str, steps: int, first: int) -> Iterator[dict[str, Tensor]]:
        batches = Batches(self.world, stage, self.args.seed, self.args.batch, steps, first)
        return iter(DataLoader(batches, batch_size=None, num_workers=self.args.workers))

    def save(self, stage: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "stage": stage,
            "step": step,
        }
        unfinished = self.state_file.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(self.state_file)

    def load(self) -> dict[str, Any]:
        if not self.state_file.exists():
            return {}
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        print(f"continuing in stage {STAGES[state['stage']].name} at step {state['step']}")
        return state

    @property
    def state_file(self) -> Path:
        return self.args.data / "state.pt"


Loss = Callable[[dict[str, Tensor]], Tensor]


def image_loss(run: Run) -> Loss:
    def loss(batch: dict[str, Tensor]) -> Tensor:
        # Nearly upright drawings first, for the same reason as few names first.
        strength = STRENGTH * min(1.0, 0.2 + 0.8 * int(batch["step"]) / (4 * DOUBLING))
        image = run.model.image(run.images(batch["rows"], batch["choices"], strength))
        table = F.normalize(run.model.table[: int(batch["names"])], dim=-1)
        logits = run.model.table_scale.exp().clamp(max=30) * image @ table.T
        target = run.concepts[batch["rows"].to(run.device)]
        return F.cross_entropy(logits, target, label_smoothing=0.05)

    return loss


@torch.no_grad()
def stored_features(run: Run, copies: int) -> Tensor:
    """(N, copies, D) features of randomly rendered drawings from the averaged model."""
    features = []
    run.average.eval()
    for copy_number in range(copies):
        generator = torch.Generator().manual_seed(copy_number)
        chunks = torch.arange(len(run.world.pixels)).split(500)
        parts = [run.images(c, draw(len(c), generator), STRENGTH) for c in chunks]
        features.append(torch.cat([run.average.image(part) for part in parts]))
    return torch.stack(features, 1)


def text_features(run: Run, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features of the captions, and the loss of names against the categories of their sets.

    All texts are encoded at once: many small kernels are what a step takes its time for.
    """
    texts = [batch["captions"], batch["named"], batch["kinds"]]
    captions, named, kinds = run.model.text(torch.cat(texts)).split([len(t) for t in texts])
    if not len(kinds):
        return captions, torch.zeros((), device=run.device)
    loss = F.cross_entropy(10 * named @ kinds.T, batch["target"].to(run.device))
    return captions, CATEGORIES * loss


def fitted_table(run: Run, features: Tensor) -> Tensor:
    """(names, D) directions that classify the stored features (N, copies, D) by name.

    Few drawings of a name have a poor mean, and the table of the image stage was fitted while its
    features still moved: on drawings of the sets in which shots are drawn, 35 % instead of 20 and
    31 % are nearest to their name.
    """
    generator = torch.Generator().manual_seed(run.args.seed)
    sums = torch.zeros(run.world.paired, features.shape[-1], device=run.device)
    table = F.normalize(sums.index_add(0, run.concepts, features.sum(1)), dim=-1).requires_grad_()
    scale = torch.tensor(math.log(20.0), device=run.device, requires_grad=True)
    optimizer = torch.optim.AdamW([table, scale], weight_decay=0.0)
    for step in range(FIT_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (FIT_STEPS - step) / (0.5 * FIT_STEPS))
        rows = torch.randint(0, len(features), (4 * run.args.batch,), generator=generator)
        noise = 0.03 * torch.randn(len(rows), features.shape[-1], generator=generator)
        rows = rows.to(run.device)
        image = F.normalize(features[rows, step % features.shape[1]] + noise.to(run.device), dim=-1)
        logits = scale.exp().clamp(max=30) * image @ F.normalize(table, dim=-1).T
        loss = F.cross_entropy(logits, run.concepts[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.normalize(table.detach(), dim=-1)


def text_loss(run: Run) -> Loss:
    features = stored_features(run, copies=2)
    table = fitted_table(run, features)

    def loss(batch: dict[str, Tensor]) -> Tensor:
        rows = batch["rows"].to(run.device)
        text, of_categories = text_features(run, batch)
        named = table[run.concepts[rows]]
        to_table = F.cross_entropy(run.model.scale * text @ table.T, run.concepts[rows])
        near = 1 - (text * named).sum(-1).mean()
        chosen = int(batch["step"]) % features.shape[1]
        pairs = contrastive(features[rows, chosen], text, run.model.scale)
        return PAIRS * pairs + to_table + NEAR * near + of_categories

    return loss


def joint_loss(run: Run) -> Loss:
    def loss(batch: dict[str, Tensor]) -> Tensor:
        image = run.model.image(run.images(batch["rows"], batch["choices"], STRENGTH))
        text, of_categories = text_features(run, batch)
        return contrastive(image, text, run.model.scale) + of_categories

    return loss


@dataclass(frozen=True)
class Stage:
    name: str
    loss: Callable[[Run], Loss]
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
    Stage("image", image_loss, 2e-3, ("clip.visual", "table")),
    Stage("text", text_loss, 2e-3, TEXT),
    Stage("joint", joint_loss, 6e-4, ("clip",)),
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


def train_stage(run: Run, number: int, state: dict[str, Any]) -> None:
    stage, steps = STAGES[number], run.args.steps[number]
    run.model.train()
    for name, parameter in run.model.named_parameters():
        parameter.requires_grad_(name.startswith(stage.trained))
    if stage.name != "image":  # the statistics of the norms stay: they will be folded
        run.model.clip.visual.eval()
    optimizer = torch.optim.AdamW(
        list(parameter_groups(run.model, stage.trained)), lr=stage.learning_rate, betas=(0.9, 0.98)
    )
    first = 0
    if state.get("stage") == number:
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    loss_of = stage.loss(run)
    batches = run.batches(stage.name, steps, first)
    bar = tqdm(range(first, steps), desc=stage.name, initial=first, total=steps, mininterval=30)
    for step in bar:
        rate = min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        loss = loss_of(next(batches))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % AVERAGE_EVERY == 0 or step + 1 == steps:
            decay = min(0.998, (step + 1) / (step + 20)) ** AVERAGE_EVERY
            average_into(run.average, run.model, decay)
        if step % 100 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{run.model.scale.item():.1f}")
        if (step + 1) % run.args.save_every == 0 or step + 1 == steps:
            run.save(number, step + 1, optimizer)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket CLIP.")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=POCKET_FILE)
    parser.add_argument("--steps", type=int, nargs=3, default=(9000, 3000, 900))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = Run(World.load(args.data), args)
    state = run.load()
    for number in range(state.get("stage", 0), len(STAGES)):
        train_stage(run, number, state)
        # The next stage starts from the averaged weights.
        run.model.load_state_dict(run.average.state_dict())
    clip_model = run.average.eval().clip.cpu()
    scale = pool_scale(clip_model, args.data)  # what training pictures teach is overconfident
    with torch.no_grad():
        clip_model.logit_scale.fill_(math.log(scale))
    print(f"scale of the logits: {scale:.1f}")
    export(clip_model, args.output)


if __name__ == "__main__":
    main()
