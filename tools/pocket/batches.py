"""What each training step of the pocket CLIP sees: drawings, captions and categories."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from captions import caption
from rendering import World, draw
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from sar.toolbox.clip import tokenize

CAPTION_TOKENS = 16
STAGES = ("image", "text", "joint")
FIRST, DOUBLING = 1000, 300  # names at the start of the image stage, steps until twice as many


@dataclass
class Batches(Dataset[dict[str, Tensor]]):
    """What a step of a stage needs, drawn from (seed, stage, step) alone, on CPU.

    So workers can prepare it, and an interrupted run goes on with the same pictures and captions.
    """

    world: World
    stage: str
    seed: int
    batch: int
    steps: int
    first: int = 0

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        step = item + self.first
        mixed = (self.seed * 10 + STAGES.index(self.stage)) * 1_000_000 + step
        rng, generator = random.Random(mixed), torch.Generator().manual_seed(mixed)
        # Few names first: with all of them from the start the image stage stays near chance for
        # hundreds of steps.
        names = self.world.paired
        if self.stage == "image":
            names = min(names, int(FIRST * 2 ** (step / DOUBLING)))
        count = self.batch if self.stage == "image" else 2 * self.batch
        rows = self._rows(names, min(count, names), rng, generator)
        batch = {"step": torch.tensor(step), "names": torch.tensor(names), "rows": rows}
        batch["choices"] = draw(len(rows), generator)
        if self.stage != "image":
            batch["captions"] = self._captions(rows, rng)
            batch |= self._categories(rng)
        return batch

    def _rows(
        self, names: int, count: int, rng: random.Random, generator: torch.Generator
    ) -> Tensor:
        """One drawing each of `count` of the first names; more drawn ones are chosen more."""
        drawn = torch.tensor([len(rows) for rows in self.world.rows_of[:names]])
        chosen = torch.multinomial(drawn.float().sqrt(), count, generator=generator)
        return torch.tensor([rng.choice(self.world.rows_of[name]) for name in chosen.tolist()])

    def _captions(self, rows: Tensor, rng: random.Random) -> Tensor:
        world = self.world
        return tokens(
            [
                caption(world.names[n], world.aliases[n], world.categories[n], style, rng)
                for n, style in ((world.concepts[row], world.styles[row]) for row in rows.tolist())
            ]
        )

    def _categories(self, rng: random.Random) -> dict[str, Tensor]:
        """Names, paired with pictures or not, and the categories in which sets put them."""
        world = self.world
        with_category = [n for n, group in enumerate(world.categories) if group]
        chosen = rng.sample(with_category, min(self.batch, len(with_category)))
        kinds = sorted({c for n in chosen for c in world.categories[n]})
        place = {kind: number for number, kind in enumerate(kinds)}
        target = torch.zeros(len(chosen), len(kinds))
        for row, name in enumerate(chosen):
            target[row, [place[c] for c in world.categories[name]]] = 1
        named = tokens([f"a photo of a {world.names[n]}." for n in chosen])
        return {"named": named, "kinds": tokens(kinds), "target": F.normalize(target, p=1)}


def tokens(texts: list[str]) -> Tensor:
    """(B, CAPTION_TOKENS) tokens; longer texts are cut."""
    if not texts:
        return torch.zeros(0, CAPTION_TOKENS, dtype=torch.long)
    whole = tokenize(texts, truncate=True)
    eot = whole.argmax(-1).clamp(max=CAPTION_TOKENS - 1)
    cut = whole[:, :CAPTION_TOKENS].long()
    cut[torch.arange(len(eot)), eot] = whole.max(-1).values.long()
    return cut
