"""Train the pocket CLIP on the world that `build_data.py` renders and deals.

    python tools/pocket/train.py        # --device cuda; continues where it was interrupted

Three stages: the image encoder learns to tell the names apart, the text encoder learns to name
them, then both are tuned together.
1. image: the image encoder against a free table of vectors, one per name (cosine cross-entropy).
   It begins with the FIRST names that are drawn most; their number doubles every DOUBLING steps.
2. text: the text encoder against frozen image features (contrastive, and against the mean feature
   of each name), and against the categories in which the icon sets put a name. Names held out of
   pretraining have categories, but no picture.
3. joint: both encoders, contrastive over pictures and captions.
Only drawings whose role is `pretrain` are used. Every step draws its randomness from (seed, stage,
step), and the state is saved every --save-every steps: an interrupted run continues where it was.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from captions import caption
from export import export
from rendering import World, render
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sar.encoding import encode_prompts
from sar.toolbox.clip import tokenize
from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION, SHAPE, build_pocket

ROOT = Path(__file__).resolve().parents[2]
EMBEDDING_RANK = 48
CAPTION_TOKENS = 16
STRENGTH = 0.8  # of the random renderings
FIRST, DOUBLING = 1000, 300  # names at the start of the image stage, steps until twice as many
AVERAGE_EVERY = 4  # steps between updates of the averaged weights
WARMUP, DECAY = 100, 0.4  # steps; last part of a stage in which the rate falls to zero
CATEGORY_WEIGHT = 0.2


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
    """The model with what only training needs: table of names and scales."""

    def __init__(self, names: int) -> None:
        super().__init__()
        clip: Any = build_pocket(nn.BatchNorm2d)
        clip.visual.conv1.to(memory_format=torch.channels_last)
        clip.token_embedding = FactorizedEmbedding(
            SHAPE["vocab_size"], SHAPE["transformer_width"], EMBEDDING_RANK
        )
        self.clip: Any = clip
        self.table = nn.Parameter(torch.randn(names, SHAPE["embed_dim"]) * 0.1)
        self.table_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def image(self, pictures: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, torch.bfloat16):
            features = self.clip.encode_image(pictures)
        return F.normalize(features.float(), dim=-1)

    def text(self, tokens: Tensor) -> Tensor:
        eot = tokens.argmax(-1)
        embeddings = self.clip.token_embedding(tokens[:, : int(eot.max()) + 1])
        with torch.autocast(tokens.device.type, torch.bfloat16):
            features = encode_prompts(self.clip, embeddings, eot)
        return F.normalize(features.float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        return self.clip.logit_scale.exp().clamp(max=100)


def contrastive(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss (Radford et al. 2021) for pairs of different names."""
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@dataclass
class Run:
    """What the stages share."""

    world: World
    model: Trainee
    average: Trainee
    batch: int
    seed: int
    device: torch.device

    def draw(self, stage: int, step: int) -> tuple[random.Random, torch.Generator]:
        mixed = (self.seed * 10 + stage) * 1_000_000 + step
        return random.Random(mixed), torch.Generator().manual_seed(mixed)

    def rows(
        self, names: int, count: int, rng: random.Random, generator: torch.Generator
    ) -> Tensor:
        """One drawing each of `count` of the first names; more drawn ones are chosen more."""
        drawn = torch.tensor([len(rows) for rows in self.world.rows_of[:names]])
        chosen = torch.multinomial(drawn.float().sqrt(), count, generator=generator)
        return torch.tensor([rng.choice(self.world.rows_of[name]) for name in chosen.tolist()])

    def images(self, rows: Tensor, generator: torch.Generator, strength: float) -> Tensor:
        world = self.world
        images = render(world.pixels[rows], world.inks[rows], generator, RESOLUTION, strength)
        return images.contiguous(memory_format=torch.channels_last).to(self.device)

    def concepts(self, rows: Tensor) -> Tensor:
        return torch.tensor([self.world.concepts[row] for row in rows.tolist()])

    def captions(self, rows: Tensor, rng: random.Random) -> Tensor:
        world = self.world
        texts = [
            caption(world.names[name], world.aliases[name], world.categories[name], style, rng)
            for name, style in ((world.concepts[row], world.styles[row]) for row in rows.tolist())
        ]
        return self.tokens(texts)

    def tokens(self, texts: list[str]) -> Tensor:
        """(B, CAPTION_TOKENS) tokens; longer texts are cut."""
        tokens = tokenize(texts, truncate=True)
        eot = tokens.argmax(-1).clamp(max=CAPTION_TOKENS - 1)
        ends = tokens.max(-1).values
        tokens = tokens[:, :CAPTION_TOKENS]
        tokens[torch.arange(len(eot)), eot] = ends
        return tokens.to(self.device)


Loss = Callable[[int], Tensor]


def image_stage(run: Run, steps: int) -> Loss:
    paired = run.world.paired

    def loss(step: int) -> Tensor:
        # Few names and nearly upright drawings first: with all names or strong renderings from
        # the start the loss stays near chance for hundreds of steps.
        names = min(paired, int(FIRST * 2 ** (step / DOUBLING)))
        strength = STRENGTH * min(1.0, 0.2 + 0.8 * step / (4 * DOUBLING))
        rng, generator = run.draw(1, step)
        rows = run.rows(names, min(run.batch, names), rng, generator)
        image = run.model.image(run.images(rows, generator, strength))
        table = F.normalize(run.model.table[:names], dim=-1)
        logits = run.model.table_scale.exp().clamp(max=30) * image @ table.T
        return F.cross_entropy(logits, run.concepts(rows).to(run.device), label_smoothing=0.05)

    return loss


@torch.no_grad()
def stored_features(run: Run, copies: int) -> Tensor:
    """(N, copies, D) features of randomly rendered drawings from the averaged model."""
    features = []
    run.average.eval()
    for repeat in range(copies):
        _, generator = run.draw(9, repeat)
        chunks = torch.arange(len(run.world.pixels)).split(500)
        features.append(
            torch.cat([run.average.image(run.images(c, generator, STRENGTH)) for c in chunks])
        )
    return torch.stack(features, 1)


def category_loss(run: Run) -> Callable[[random.Random], Tensor]:
    """Names against the categories in which sets put them; pictures play no part."""
    world = run.world
    categories = sorted({c for group in world.categories for c in group})
    place = {category: number for number, category in enumerate(categories)}
    with_category = [n for n, group in enumerate(world.categories) if group]

    def loss(rng: random.Random) -> Tensor:
        if not categories:
            return torch.zeros((), device=run.device)
        chosen = rng.sample(with_category, min(run.batch, len(with_category)))
        target = torch.zeros(len(chosen), len(categories), device=run.device)
        for row, name in enumerate(chosen):
            target[row, [place[c] for c in world.categories[name]]] = 1
        names = run.model.text(run.tokens([f"a photo of a {world.names[n]}." for n in chosen]))
        kinds = run.model.text(run.tokens(categories))
        logits = 10 * names @ kinds.T
        return F.cross_entropy(logits, target / target.sum(1, keepdim=True))

    return loss


def text_stage(run: Run, steps: int) -> Loss:
    features = stored_features(run, copies=2)
    concept_of = torch.tensor(run.world.concepts, device=run.device)
    sums = torch.zeros(run.world.paired, features.shape[-1], device=run.device)
    means = F.normalize(sums.index_add(0, concept_of, features.sum(1)), dim=-1)
    of_categories = category_loss(run)

    def loss(step: int) -> Tensor:
        rng, generator = run.draw(2, step)
        rows = run.rows(run.world.paired, min(2 * run.batch, run.world.paired), rng, generator)
        copy_of = torch.tensor([rng.randrange(features.shape[1]) for _ in rows])
        text = run.model.text(run.captions(rows, rng))
        concepts = run.concepts(rows).to(run.device)
        to_means = F.cross_entropy(run.model.scale * text @ means.T, concepts)
        pairs = contrastive(features[rows, copy_of], text, run.model.scale)
        return pairs + to_means + CATEGORY_WEIGHT * of_categories(rng)

    return loss


def joint_stage(run: Run, steps: int) -> Loss:
    of_categories = category_loss(run)

    def loss(step: int) -> Tensor:
        rng, generator = run.draw(3, step)
        rows = run.rows(run.world.paired, min(2 * run.batch, run.world.paired), rng, generator)
        image = run.model.image(run.images(rows, generator, STRENGTH))
        text = run.model.text(run.captions(rows, rng))
        return contrastive(image, text, run.model.scale) + CATEGORY_WEIGHT * of_categories(rng)

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
    Stage("text", text_stage, 2e-3, TEXT),
    Stage("joint", joint_stage, 6e-4, ("clip",)),
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
    bar = tqdm(range(first, steps), desc=stage.name, initial=first, total=steps, mininterval=30)
    for step in bar:
        rate = min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % AVERAGE_EVERY == 0 or step + 1 == steps:
            decay = min(0.998, (step + 1) / (step + 20)) ** AVERAGE_EVERY
            average_into(run.average, run.model, decay)
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket CLIP.")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=POCKET_FILE)
    parser.add_argument("--steps", type=int, nargs=3, default=(6000, 3000, 3000))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = World.load(args.data)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    model = Trainee(world.paired).to(device)
    run = Run(world, model, copy.deepcopy(model), args.batch, args.seed, device)
    state_file = args.data / "state.pt"
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
            export(run.average.clip, args.output)


if __name__ == "__main__":
    main()
