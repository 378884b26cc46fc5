"""CIDEr-D (Vedantam et al., CVPR 2015): how much a caption has in common with those of others.

Captions are vectors of n-grams, each counted and weighted by log(N / images that it occurs in). For
n = 1 to 4 the mean is taken of the cosines with each reference, in which a caption gets no more for
an n-gram than the reference has of it, times a penalty for another length; times 10, as is usual.

The published scorer splits texts with a tokenizer of Stanford's in Java; here words are what lies
between blanks and punctuation. Scores of the same words are the same, as
`tests/test_caption_scores.py` has it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

ORDERS = 4
SIGMA = 6.0  # of the length, in words

_WORD = re.compile(r"\w+(?:['-]\w+)*")
_Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return _WORD.findall(text.lower())


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The score of each image's caption, 0 to 10; their mean is the score of a model.

    Args:
        candidates: one caption for each of N images.
        references: those of others for each image, at least one; how rare an n-gram is is counted
            over all of them, so that a single image has score 0.
    """
    told = [[_grams(text) for text in of_one] for of_one in references]
    images_with = Counter(gram for of_one in told for gram in set().union(*of_one))
    everywhere = math.log(len(told)) if told else 0.0

    def weighed(grams: _Grams) -> list[dict[tuple[str, ...], float]]:
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
        for gram, count in grams.items():
            rarity = everywhere - math.log(max(1, images_with[gram]))
            vectors[len(gram) - 1][gram] = count * rarity
        return vectors

    found = []
    for candidate, of_one in zip(candidates, told, strict=True):
        grams = _grams(candidate)
        ours = weighed(grams)
        total = 0.0
        for reference in of_one:
            theirs = weighed(reference)
            difference = _bigrams(grams) - _bigrams(reference)
            penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
            total += penalty * sum(map(_cosine, ours, theirs)) / ORDERS
        found.append(10 * total / len(of_one))
    return found


def _grams(text: str) -> _Grams:
    said = words(text)
    return Counter(
        tuple(said[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(said) - n + 1)
    )


def _bigrams(grams: _Grams) -> int:
    """The length as the published scorer has it: one less than there are words."""
    return sum(count for gram, count in grams.items() if len(gram) == 2)


def _cosine(ours: dict[tuple[str, ...], float], theirs: dict[tuple[str, ...], float]) -> float:
    """Of two vectors, the first clipped at the second in the product but not in its norm."""
    product = sum(min(w, theirs[gram]) * theirs[gram] for gram, w in ours.items() if gram in theirs)
    norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
    return product / norm if norm else 0.0
