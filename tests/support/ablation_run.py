"""What an ablation leaves, and what a page's tables say about it."""

from itertools import pairwise

from result_logs import eval_log, put, put_variant

from sar.protocols.ablation import BASELINE, Ablation
from sar.results.folders import RunKey
from sar.results.protocol import record_protocol


def put_everything(plan: Ablation) -> None:
    """An output folder as a finished ablation leaves it."""
    record_protocol(plan.output, plan.record())
    for dataset in plan.datasets:
        zero_shot = RunKey(dataset, "ZeroshotCLIP", "pocket", 16, 1, BASELINE)
        put(plan.output / zero_shot.base_to_new_folder("test_base"), eval_log(690, subset="base"))
        put(plan.output / zero_shot.base_to_new_folder("test_new"), eval_log(680))
        for seed in plan.seeds:
            coop = RunKey(dataset, "CoOp", "pocket", 16, seed, BASELINE)
            put_variant(plan.output, coop, 750 + seed, 570)
            for i, variant in enumerate(plan.variants()):
                sar = RunKey(dataset, "SAR_CoOp", "pocket", 16, seed, variant)
                put_variant(plan.output, sar, 700 + seed, 600 + i)


def tables(page: str) -> list[list[list[str]]]:
    """Every table's rows below its head, as cells; an empty first cell is the one above."""
    found = []
    for block in page.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
        for above, row in pairwise(rows):
            row[0] = row[0] or above[0]
        found += [rows] if rows else []
    return found


def names(rows: list[list[str]]) -> list[tuple[str, str]]:
    return [(study, setting) for study, setting, *_ in rows]
