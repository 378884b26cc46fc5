"""Captions and answers of the tiny language model with images and AAPE: docs/captions.md.

    python benchmarks/captioning.py --work build/captions

Trains, on the training pool of the demo drawings, AAPE with and without its sentences and then a
mapping for each of three seeds, and measures on test drawings. It continues where it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sar.tasks import adapter
from sar.tasks.answering import answers_to, captions_of
from sar.tasks.asked import examples_for, read_asked
from sar.tasks.caption_scores import caption_scores, reference_features
from sar.tasks.captioned import Captioned, read_captioned
from sar.tasks.cider import words
from sar.tasks.encoder import Encoder
from sar.tasks.language_models import load_language_model
from sar.tasks.mapping import Mapping, Settings, prefixes, train
from sar.tasks.vqa_accuracy import by_type
from sar.toolbox.aggregation import PromptGenerator

SEEDS = (1, 2, 3)
SHOTS = (0, 1, 4)
MODELS = ("no image", "image", "image and AAPE", "image and AAPE without sentences")


class Bench:
    """What all figures are measured with; `source`: of drawings."""

    def __init__(self, work: Path, source: str) -> None:
        self.work, self.source = work, source
        self.encoder = Encoder("pocket")
        self.model = load_language_model("tiny")

    def generator(self, data: Captioned, weight: float, seed: int) -> PromptGenerator:
        settings = adapter.Settings(distill_weight=weight, reward_weight=weight, seed=seed)
        features = self.encoder.features(data)
        found = adapter.train(features, settings, self.encoder.scale, lambda line: None)
        return found.generator

    def mapping(self, name: str, seed: int) -> Mapping | None:
        if name == MODELS[0]:
            return None
        data = read_captioned(self.source, "train")
        generator = None
        if name != MODELS[1]:
            generator = self.generator(data, float(name == MODELS[2]), seed)
        images = self.encoder.images(data.images)
        settings = Settings(seed=seed)
        return train(images, data.captions, self.model, settings, generator, lambda line: None)

    def captions(self, mapping: Mapping | None) -> dict[str, float]:
        data = read_captioned(self.source, "test")
        images = self.encoder.images(data.images)
        said = captions_of(prefixes(mapping, images, self.model.width), self.model)
        references = reference_features(data, self.encoder)
        scores = caption_scores(said, data, images, references, self.encoder)["all"]
        right = [
            any(words(text) == words(one) for one in told)
            for text, told in zip(said, data.captions, strict=True)
        ]
        return scores | {"one of the five": 100 * statistics.mean(right)}

    def answers(self, mapping: Mapping | None, seed: int) -> dict[str, dict[str, float]]:
        asked = read_asked(self.source, "test")
        pool = examples_for(self.source, "test", None, None, None)
        seen, shown = (
            prefixes(mapping, self.encoder.images(one.images), self.model.width)
            for one in (asked, pool)
        )
        found = {}
        for shots in SHOTS:
            said = answers_to(asked, seen, self.model, shots, (pool, shown), seed)
            found[str(shots)] = by_type(said, asked.answers, asked.types)
        return found

    def measured(self, name: str, seed: int) -> dict[str, Any]:
        """Table -> column -> number; from a file once it is there."""
        file = self.work / f"{name.replace(' ', '-')}-{seed}.json"
        if not file.is_file():
            mapping = self.mapping(name, seed)
            tables = {"captions": self.captions(mapping)}
            tables |= {f"{n} shots": of_n for n, of_n in self.answers(mapping, seed).items()}
            file.write_text(json.dumps(tables))
        content: dict[str, Any] = json.loads(file.read_text())
        return content


def shown(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len({*values}) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("build/captions"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME")
    parser.add_argument("--source", default="demo:food")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.work, args.source)
    found: dict[str, list[Any]] = {name: [] for name in args.models}
    for seed in args.seeds:
        for name in args.models:
            found[name].append(bench.measured(name, seed))
    for table in found[args.models[0]][0]:
        headers = [*found[args.models[0]][0][table]]
        print(f"\n{table}\n| | {' | '.join(headers)} |\n|---|{'---|' * len(headers)}")
        for name, runs in found.items():
            cells = [shown([run[table][header] for run in runs]) for header in headers]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
