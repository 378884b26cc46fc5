"""What a frozen language model says about images that a mapping puts in front of it."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from sar.tasks.asked import Asked, prompt
from sar.tasks.language import LanguageModel

CAPTION, ANSWER = 24, 8  # tokens at most


def captions_of(prefixes: Tensor, model: LanguageModel) -> list[str]:
    """A caption for each prefix (N, K, d); K is 0 for a model that sees no image."""
    start = _words(model, [model.start])
    return model.continued([torch.cat([start, p]) for p in prefixes.to(model.device)], CAPTION)


def answers_to(
    asked: Asked,
    prefixes: Tensor,
    model: LanguageModel,
    shots: int = 0,
    examples: tuple[Asked, Tensor] | None = None,
    seed: int = 1,
) -> list[str]:
    """An answer to each question, with `shots` examples in front of it.

    Args:
        prefixes: (N, K, d), of the questions' images; K is 0 for a model that sees no image.
        examples: what they are drawn from, with its images' prefixes; anew for each question, the
            same for every model, never about the same image. Each has the answer of most people.
    """
    start, behind = _words(model, [model.start]), _words(model, list(model.separator))
    draws = random.Random(seed)
    rows = []
    for number, question in enumerate(asked.questions):
        parts = [start]
        if examples and shots:
            pool, shown = examples
            others = [n for n, image in enumerate(pool.images) if image != asked.images[number]]
            for other in draws.sample(others, min(shots, len(others))):
                people = pool.answers[other]
                said = prompt(pool.questions[other], max(people, key=people.count))
                parts += [shown[other].to(model.device), _words(model, model.encode(said)), behind]
        parts += [prefixes[number].to(model.device), _words(model, model.encode(prompt(question)))]
        rows.append(torch.cat(parts))
    return model.continued(rows, ANSWER)


def _words(model: LanguageModel, ids: list[int]) -> Tensor:
    """(L, d)"""
    return model.embed(torch.tensor(ids, dtype=torch.long, device=model.device))
