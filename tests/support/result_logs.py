"""Output folders as training and test runs leave them, made of logs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sar.results.folders import RunKey
from sar.results.protocol import ProtocolRecord, record_protocol

CFG = "vit_b16_ctxv1"
VARIANTS = {
    "weight_4": ["TRAINER.SAR.WEIGHT", "4"],
    "weight_0.25": ["TRAINER.SAR.WEIGHT", "0.25"],
    "novel_none_sample_size_0": ["TRAINER.SAR.NOVEL", "none", "TRAINER.SAR.SAMPLE_SIZE", "0"],
}
STUDIES = {
    "components": {"base only": "novel_none_sample_size_0", "all (default)": "weight_4"},
    "weight": {"0.25": "weight_0.25", "4 (default)": "weight_4"},
}


def result_block(correct: int, total: int, decimals: int = 1) -> str:
    accuracy = 100 * correct / total
    return (
        f"=> result\n* total: {total:,}\n* correct: {correct:,}\n"
        f"* accuracy: {accuracy:.{decimals}f}%\n* error: {100 - accuracy:.{decimals}f}%\n"
        f"* macro_f1: {accuracy - 0.3:.{decimals}f}%\n"
    )


def stated(said: Mapping[str, object]) -> str:
    """Lines of a log's head: dataset_config_file, trainer, seed, NUM_SHOTS, ..."""
    return "".join(f"{key}: {value}\n" for key, value in said.items())


def training_log(
    correct: int = 810,
    total: int = 1000,
    *,
    subset: str = "base",
    decimals: int = 1,
    end: str = "Finish training",
    loss: str = "0.71",
    resumed: bool = False,
    epochs: int = 2,
    **said: Any,
) -> str:
    """`said`: more keys of the sections Arguments and Config, as `seed=1`."""
    return (
        f"***************\n** Arguments **\neval_only: False\nload_epoch: None\n{stated(said)}"
        f"** Config **\nDATASET:\n  SUBSAMPLE_CLASSES: {subset}\nOPTIM:\n  MAX_EPOCH: {epochs}\n"
        + "Found checkpoint at somewhere (will resume training)\n"
        * resumed
        + "epoch [1/2] batch [5/5] time 0.1 (0.1) loss 1.20 (1.31) acc 60.0 (55.1)\n"
        f"epoch [2/2] batch [5/5] time 0.1 (0.1) loss {loss} ({loss}) acc 81.0 (80.2)\n"
        f"{end}\nDeploy the last-epoch model\nEvaluate on the *test* set\n"
        + result_block(correct, total, decimals)
        + "Elapsed: 0:00:12\n"
    )


def eval_log(
    correct: int = 570,
    total: int = 1000,
    *,
    subset: str = "new",
    epoch: int = 2,
    model: Path | str = "",
    **said: Any,
) -> str:
    """`said`: more keys of the sections Arguments and Config, as `seed=1`."""
    return (
        f"eval_only: True\nload_epoch: {epoch}\nmodel_dir: {model}\n{stated(said)}"
        f"  SUBSAMPLE_CLASSES: {subset}\n"
        f'Loading weights to prompt_learner from "m/model.pth.tar-{epoch}" (epoch = {epoch})\n'
        "Evaluate on the *test* set\n" + result_block(correct, total)
    )


def put(folder: Path, text: str, name: str = "log.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def run_dir(
    root: Path,
    part: str,
    dataset: str,
    trainer: str,
    seed: int,
    cfg: str = "vit_b16",
    shots: str = "16",
) -> Path:
    return root / part / dataset / f"shots_{shots}" / trainer / cfg / f"seed{seed}"


def put_model(
    root: Path, dataset: str, trainer: str, seed: int, base: int, new: int, **place: str
) -> None:
    """A finished pair of runs, with `base` and `new` correct out of 1,000."""
    put(run_dir(root, "train_base", dataset, trainer, seed, **place), training_log(base, seed=seed))
    put(run_dir(root, "test_new", dataset, trainer, seed, **place), eval_log(new, seed=seed))


def filled(root: Path) -> Path:
    for seed, (coop, sar) in enumerate(
        [((730, 450), (700, 580)), ((740, 470), (690, 570)), ((750, 490), (710, 560))], start=1
    ):
        for dataset, shift in (("animals", 0), ("food", 20)):
            put_model(root, dataset, "CoOp", seed, coop[0] + shift, coop[1] - shift)
            put_model(root, dataset, "SAR_CoOp", seed, sar[0] + shift, sar[1] - shift)
    for dataset in ("animals", "food"):
        put(run_dir(root, "test_base", dataset, "ZeroshotCLIP", 1), eval_log(630, subset="base"))
        put(run_dir(root, "test_new", dataset, "ZeroshotCLIP", 1), eval_log(600))
    return root


def put_source(root: Path, key: RunKey, correct: int) -> Path:
    """A training on all classes, whose log ends with their test: few-shot, or a source."""
    return put(root / key.all_classes_folder(), training_log(correct, subset="all", seed=key.seed))


def put_evaluation(root: Path, key: RunKey, correct: int, model: Path | str = "") -> Path:
    """The test of a model that was trained on another dataset."""
    log = eval_log(correct, subset="all", model=model, seed=key.seed)
    return put(root / key.evaluation_folder(), log)


def put_variant(root: Path, key: RunKey, base: int, new: int) -> None:
    """Training and test of one variant of an ablation."""
    put(root / key.base_to_new_folder("train_base"), training_log(base, seed=key.seed))
    put(root / key.base_to_new_folder("test_new"), eval_log(new, seed=key.seed))


def put_transfer(
    root: Path, trainer: str, seed: int, source: int, targets: dict[str, int], **where: str
) -> None:
    """A model trained on ImageNet, and its tests on `targets` (correct out of 1,000)."""
    key = RunKey("imagenet", trainer, where.get("cfg", CFG), 16, seed)
    model = put_source(root, key, source)
    for target, correct in targets.items():
        put_evaluation(root, replace(key, dataset=target), correct, model)


def put_ablation(root: Path, skip: tuple[str, str] = ("", "")) -> Path:
    """A whole ablation over two datasets and seeds, but for one (dataset, variant)."""
    plan = ProtocolRecord(
        "ablation", ["food", "pets"], ["SAR_CoOp"], [1, 2], [16], "", VARIANTS, STUDIES
    )
    record_protocol(root, plan)
    for dataset, shift in (("food", 0), ("pets", 100)):
        for seed in (1, 2):
            put_variant(
                root, RunKey(dataset, "CoOp", "pocket", 16, seed, "baseline"), 800, 500 + shift
            )
            for i, variant in enumerate(VARIANTS):
                if (dataset, variant) != skip:
                    key = RunKey(dataset, "SAR_CoOp", "pocket", 16, seed, variant)
                    put_variant(root, key, 780 + i, 600 + shift + 10 * seed)
    return root
