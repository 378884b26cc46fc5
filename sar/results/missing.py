"""What a protocol asked for and no output folder was made for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from sar.results.folders import RunKey, is_untrained
from sar.results.protocol import ProtocolRecord


def not_started(plan: ProtocolRecord, started: Collection[RunKey]) -> list[str]:
    """One line for each method, with the datasets and seeds that lack it."""
    gaps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for wanted in _wanted(plan):
        if not any(_serves(key, wanted) for key in started):
            method = " ".join(filter(None, (wanted.variant, wanted.trainer)))
            if not is_untrained(wanted.trainer):
                method += f", {wanted.shots} shots"
            gaps[method, wanted.dataset].append(wanted.seed)
    lines: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (method, dataset), seeds in gaps.items():
        lines[method, tuple(seeds)].append(dataset)
    return [
        f"not started: {method}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, "
        f"on {', '.join(datasets)}"
        for (method, seeds), datasets in lines.items()
    ]


def _wanted(plan: ProtocolRecord) -> Iterator[RunKey]:
    """Every model on every dataset; what is not trained once, with the first seed and shots."""
    datasets = dict.fromkeys([*filter(None, [plan.source]), *plan.datasets])
    methods = [(variant, trainer) for variant in plan.variants for trainer in plan.trainers]
    for variant, trainer in methods or [("", trainer) for trainer in plan.trainers]:
        once = is_untrained(trainer)
        for dataset in datasets:
            for shots in plan.shots[:1] if once else plan.shots:
                for seed in plan.seeds[:1] if once else plan.seeds:
                    yield RunKey(dataset, trainer, "", shots, seed, variant)


def _serves(key: RunKey, wanted: RunKey) -> bool:
    same = (key.variant, key.dataset, key.trainer) == (
        wanted.variant,
        wanted.dataset,
        wanted.trainer,
    )
    return same and (
        is_untrained(key.trainer) or (key.shots, key.seed) == (wanted.shots, wanted.seed)
    )
