"""Train the tiny language model that `sarclip caption` and `sarclip vqa` use by default.

    python tools/pocket/language_model.py       # minutes on one core; --device cuda

It reads texts alone: the shipped descriptions of what the demo datasets show, and questions with
answers that are made from names, datasets and groups (`sar/tasks/asked.py`). A row is filled with
segments, each about one concept: some of its descriptions in any order, mostly a question and its
answer behind them. So what is said depends on what is in front, where an image will be put.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from sar.tasks.asked import KINDS, TYPES, prompt, question_on
from sar.tasks.drawings import Concept, concepts
from sar.tasks.tiny import END, LENGTH, TINY_FILE, TinyModel, Vocabulary
from sar.toolbox.clip.tokens import OPENAI

ASKED = 0.6  # share of the segments that have a question


def segment(concept: Concept, known: Sequence[Concept], draws: random.Random) -> str:
    """Descriptions of a concept, a question on it, or both."""
    asked = draws.random() < ASKED
    count = draws.randint(0 if asked else 1, min(3, len(concept.captions)))
    said = [f"{text}. " for text in draws.sample(concept.captions, count)]
    if not asked:
        return "".join(said).removesuffix(". ")
    question, answers = question_on(concept, draws.choice(TYPES), known, draws)
    return "".join(said) + prompt(question, draws.choice(answers))


def rows(
    known: Sequence[Concept], vocabulary: Vocabulary, count: int, draws: random.Random
) -> torch.Tensor:
    """(count, LENGTH + 1) ids."""
    found = []
    for _ in range(count):
        ids = [END]
        while len(ids) <= LENGTH:
            ids += [*vocabulary.encode(segment(draws.choice(known), known, draws)), END]
        found.append(ids[: LENGTH + 1])
    return torch.tensor(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny language model.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=TINY_FILE)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    draws = random.Random(args.seed)
    known = concepts()
    texts = [text for concept in known for text in (concept.name, *concept.captions)]
    texts += [segment(concept, known, draws) for concept in known for _ in range(4)]
    pieces = sorted({piece for text in (*texts, *KINDS.values()) for piece in OPENAI.encode(text)})
    vocabulary = Vocabulary(pieces)
    model = TinyModel(len(vocabulary))
    for table in (model.embedding.weight, model.positions):
        torch.nn.init.normal_(table, std=0.02)
    model.to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    for step in range(args.steps):
        rate = min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        ids = rows(known, vocabulary, args.batch, draws).to(args.device)
        logits = model(model.embedding(ids[:, :-1]))
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{args.steps}: loss {loss.item():.3f}", flush=True)
    state = {
        name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()
    }
    save_file(state | {"pieces": torch.tensor(pieces, dtype=torch.int32)}, args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
