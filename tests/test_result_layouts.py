"""Every run folder is counted or named: links, stray logs, and the layouts of published scripts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_logs import eval_log, put, put_model, run_dir, training_log

from sar.results import Results, collect, problems_text, to_text
from sar.results.presentations import make_plots, make_tables

CTX = "nctx16_cscFalse_ctpend"


def base(dataset: str = "food", **said: Any) -> str:
    return training_log(700, dataset_config_file=f"configs/datasets/{dataset}.yaml", **said)


def whole(**said: Any) -> str:
    return training_log(700, subset="all", **said)


def of_model(model: str, subset: str = "new", **said: Any) -> str:
    return eval_log(500, model=model, subset=subset, **said)


# What the scripts of the published repositories write, and what becomes of it:
# {folder: log} -> {(protocol, dataset, trainer, cfg, shots, seed): accuracies}, and the reasons
# why the other folders do not count.
Where = tuple[str, str, str, str, int, int]
LAYOUTS: dict[str, tuple[dict[str, str], dict[Where, set[str]], list[str]]] = {
    "CoOp, CoCoOp, MaPLe, PromptSRC, ProGrad, CoPrompt: base-to-new": (
        {
            "output/base2new/train_base/food/shots_16/CoCoOp/vit_b16_c4/seed1": base(),
            "output/base2new/test_new/food/shots_16/CoCoOp/vit_b16_c4/seed1": of_model(
                "output/base2new/train_base/food/shots_16/CoCoOp/vit_b16_c4/seed1"
            ),
        },
        {("base2new", "food", "CoCoOp", "vit_b16_c4", 16, 1): {"base", "new", "h"}},
        [],
    ),
    "MaPLe, PromptSRC: published weights tested on both halves": (
        {
            "output/base2new/test_base/food/shots_16/MaPLe/vit_b16_c2/seed1": of_model(
                "weights/base/seed1", "base"
            ),
            "output/base2new/test_new/food/shots_16/MaPLe/vit_b16_c2/seed1": of_model(
                "weights/base/seed1"
            ),
        },
        {("base2new", "food", "MaPLe", "vit_b16_c2", 16, 1): {"base", "new", "h"}},
        [],
    ),
    "KgCoOp: the weight behind the shots": (
        {
            "output/base2new/train_base/food/shots_16_8.0/KgCoOp/vit_b16/seed1": base(),
            "output/base2new/test_new/food/shots_16_8.0/KgCoOp/vit_b16/seed1": of_model(
                "output/base2new/train_base/food/shots_16_8.0/KgCoOp/vit_b16/seed1"
            ),
        },
        {("base2new", "food", "KgCoOp", "vit_b16_8.0", 16, 1): {"base", "new", "h"}},
        [],
    ),
    "KgCoOp: trainings for the tests on other datasets, in the folder of base classes": (
        {
            "output_1120_xd/base2new/train_base/food/shots_4_8.0/KgCoOp/vit_b16/seed1": whole(),
        },
        {},
        ["wrong classes: expected base, the log's config says SUBSAMPLE_CLASSES all"],
    ),
    "TCP: tests in an output folder of their own": (
        {
            "output_4/base2new/train_base/food/shots_16_1.0/TCP/vit_b16/seed1": base(
                output_dir="output_4/base2new/train_base/food/shots_16_1.0/TCP/vit_b16/seed1"
            ),
            "output_4_eval/base2new/test_new/food/shots_16_1.0/TCP/vit_b16/seed1": of_model(
                "output_4/base2new/train_base/food/shots_16_1.0/TCP/vit_b16/seed1",
                output_dir="output_4_eval/base2new/test_new/food/shots_16_1.0/TCP/vit_b16/seed1",
            ),
        },
        {("base2new", "food", "TCP", "vit_b16_1.0", 16, 1): {"base", "new", "h"}},
        [],
    ),
    "TCP: tests of the models in another output folder": (
        {
            "output_4/base2new/train_base/food/shots_16_1.0/TCP/vit_b16/seed1": base(),
            "output_8_eval/base2new/test_new/food/shots_16_1.0/TCP/vit_b16/seed1": of_model(
                "output_8/base2new/train_base/food/shots_16_1.0/TCP/vit_b16/seed1",
                output_dir="output_8_eval/base2new/test_new/food/shots_16_1.0/TCP/vit_b16/seed1",
            ),
        },
        {},
        ["incomplete: no new-class accuracy", "incomplete: no base-class accuracy"],
    ),
    "PromptKD: seed_1, and a training without labels on all classes": (
        {"output/base2new/train_base/food/shots_0/PromptKD/vit_b16_c2/seed_1": whole()},
        {},
        ["wrong classes: expected base, the log's config says SUBSAMPLE_CLASSES all"],
    ),
    "PromptKD: cross-dataset": (
        {"output/food/PromptKD/vit_b16_c2_0shots/seed1": whole(NUM_SHOTS=0)},
        {("few-shot", "food", "PromptKD", "vit_b16_c2", 0, 1): {"accuracy"}},
        [],
    ),
    "CoOp: few-shot, with the context in a folder": (
        {f"output/food/CoOp/rn50_4shots/{CTX}/seed2": whole()},
        {("few-shot", "food", "CoOp", f"rn50_{CTX}", 4, 2): {"accuracy"}},
        [],
    ),
    "PromptSRC: published few-shot weights": (
        {"output/few_shot/food/PromptSRC/vit_b16_4shots/seed1": of_model("weights/4shot/seed1")},
        {},
        ["the log is that of an evaluation, not of a training"],
    ),
    "PLOT: prompts in a folder above": (
        {f"output/OP_N4/food/PLOT/rn50_16shots/{CTX}/seed1": whole()},
        {("few-shot", "food", "PLOT", f"rn50_{CTX}", 16, 1): {"accuracy"}},
        [],
    ),
    "CoOp, MaPLe, PromptSRC: cross-dataset": (
        {
            "output/imagenet/MaPLe/vit_b16_16shots/seed1": whole(),
            "output/evaluation/MaPLe/vit_b16_16shots/dtd/seed1": of_model(
                "output/imagenet/MaPLe/vit_b16_16shots/seed1", "all"
            ),
        },
        {
            ("cross-dataset", "imagenet", "MaPLe", "vit_b16", 16, 1): {"accuracy"},
            ("cross-dataset", "dtd", "MaPLe", "vit_b16", 16, 1): {"accuracy"},
        },
        [],
    ),
    "CoOp, MaPLe, PromptSRC, PromptKD: zero-shot": (
        {"output/ZeroshotCLIP/vit_b16/food": eval_log(500, subset="all", seed=-1, NUM_SHOTS=-1)},
        {("few-shot", "food", "ZeroshotCLIP", "vit_b16", 0, 1): {"accuracy"}},
        [],
    ),
    "zero-shot on one half of the classes": (
        {"output/ZeroshotCLIP/vit_b16/food": eval_log(500, subset="new")},
        {},
        ["wrong classes: expected all, the log's config says SUBSAMPLE_CLASSES new"],
    ),
    "configs in folders of their own: few-shot": (
        {"output/food/CoOp/few_shot/vit_b16_16shots/seed1": whole(trainer="CoOp")},
        {("few-shot", "food", "CoOp", "few_shot/vit_b16", 16, 1): {"accuracy"}},
        [],
    ),
    "configs in folders of their own: cross-dataset": (
        {
            "output/imagenet/CoOp/xd/vit_b16_16shots/seed1": whole(trainer="CoOp"),
            "output/evaluation/CoOp/xd/vit_b16_16shots/dtd/seed1": of_model(
                "output/imagenet/CoOp/xd/vit_b16_16shots/seed1", "all", trainer="CoOp"
            ),
        },
        {
            ("cross-dataset", "imagenet", "CoOp", "xd/vit_b16", 16, 1): {"accuracy"},
            ("cross-dataset", "dtd", "CoOp", "xd/vit_b16", 16, 1): {"accuracy"},
        },
        [],
    ),
    "configs in folders of their own: base-to-new": (
        {
            "out/train_base/food/shots_16/CoOp/b2n/vit_b16/seed1": base(),
            "out/test_new/food/shots_16/CoOp/b2n/vit_b16/seed1": of_model(
                "out/train_base/food/shots_16/CoOp/b2n/vit_b16/seed1"
            ),
        },
        {("base2new", "food", "CoOp", "b2n/vit_b16", 16, 1): {"base", "new", "h"}},
        [],
    ),
    "DePT: base-to-new, below a log of its runner": (
        {
            "outputs/coop": "Run command\n",
            "outputs/coop/train_base/CoOp/food/shots16/vit_b16/seed1": base(),
            "outputs/coop/test_new/CoOp/food/shots16/vit_b16/seed1": of_model(
                "outputs/coop/train_base/CoOp/food/shots16/vit_b16/seed1"
            ),
        },
        {("base2new", "food", "CoOp", "vit_b16", 16, 1): {"base", "new", "h"}},
        ["the folder layout is not a known one"],
    ),
    "DePT: cross-dataset": (
        {
            "outputs/coop/CoOp/imagenet/shots16/vit_b16/seed1": whole(),
            "outputs/coop/CoOp/dtd/shots16/vit_b16/seed1": of_model(
                "outputs/coop/CoOp/imagenet/shots16/vit_b16/seed1", "all"
            ),
        },
        {
            ("cross-dataset", "imagenet", "CoOp", "vit_b16", 16, 1): {"accuracy"},
            ("cross-dataset", "dtd", "CoOp", "vit_b16", 16, 1): {"accuracy"},
        },
        [],
    ),
    "LASP: trainings with the names of all classes": (
        {"output/base2new/train_base_all/food/shots_16/LASP/vit_b16/seed1": base()},
        {},
        ["the folder layout is not a known one"],
    ),
    "LASP: published logs": (
        {
            "logs/food/vit_b16_c4/seed1": base(),
            "logs/food/vit_b16_c4/seed2": base(
                output_dir="output/base2new/train_base/food/shots_16/LASP/vit_b16_c4/seed2"
            ),
        },
        {},
        [
            "the folder layout is not a known one",
            "the folder layout is not a known one; output/base2new/train_base/food/shots_16/LASP/"
            "vit_b16_c4/seed2 was, at its time",
        ],
    ),
    "ATPrompt: base classes in a few-shot folder, the test in the run's own": (
        {
            "output/food/CoOp/vit_b16_16shots/CTX_4_epo_20/seed1": base(),
            "output/food/CoOp/vit_b16_16shots/CTX_4_epo_20/seed1/evaluation": of_model("x"),
        },
        {},
        [
            "wrong classes: expected all, the log's config says SUBSAMPLE_CLASSES base",
            "the folder layout is not a known one",
        ],
    ),
    "a tree of trainings on base classes alone": (
        {
            f"output/base2new/train_base/food/shots_16/CoOp/vit_b16/seed{seed}": base(seed=seed)
            for seed in (1, 2)
        },
        {("base2new", "food", "CoOp", "vit_b16", 16, seed): {"base"} for seed in (1, 2)},
        [],
    ),
    "a tree of tests on new classes alone": (
        {"out/test_new/food/shots_16/CoOp/vit_b16/seed1": of_model("x/weights")},
        {("base2new", "food", "CoOp", "vit_b16", 16, 1): {"new"}},
        [],
    ),
}


def reasons(results: Results) -> list[str]:
    return sorted(problem.reason for problem in results.problems)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_published_scripts(tmp_path: Path, name: str) -> None:
    logs, expected, rest = LAYOUTS[name]
    for folder, log in logs.items():
        put(tmp_path / folder, log)
    results = collect(tmp_path)
    found: dict[Where, set[str]] = {}
    for record in results.records:
        key = record.key
        where = (record.protocol, key.dataset, key.trainer, key.cfg, key.shots, key.seed)
        found[where] = set(record.values)
    assert found == expected, problems_text(results)
    assert reasons(results) == sorted(rest)
    if found:
        assert to_text(results)
        for table in make_tables(results):
            assert all(plot.image("svg") for plot in make_plots(table))


def test_base_classes_alone_say_so_in_the_table(tmp_path: Path) -> None:
    for trainer, correct in (("CoOp", 700), ("SAR_CoOp", 690)):
        for dataset in ("food", "pets"):
            put(run_dir(tmp_path, "train_base", dataset, trainer, 1), training_log(correct))
    text = to_text(collect(tmp_path))
    assert "Only the base classes were tested." in text
    assert "-1.00" in text


def test_a_test_on_base_classes_beside_the_training_is_named(tmp_path: Path) -> None:
    for seed, correct in ((1, 700), (2, 690), (3, 700)):
        put_model(tmp_path, "food", "CoOp", seed, 700, 500)
        log = eval_log(correct, subset="base", seed=seed)
        put(run_dir(tmp_path, "test_base", "food", "CoOp", seed), log)
    put(run_dir(tmp_path, "train_base", "food", "CoOp", 3), training_log(700, end="Killed"))
    results = collect(tmp_path)
    assert [(r.key.seed, r.values["base"]) for r in results.records] == [(1, 70.0), (2, 70.0)]
    assert [note.partition(": ")[2] for note in results.notes] == [
        "70.00 %, as in the training's own test"
    ]
    named = {
        p.directory.relative_to(tmp_path).parts[0] + p.directory.name: p.reason
        for p in results.problems
    }
    assert named["test_baseseed2"] == "69.00 %, but the training itself has 70.00 %"
    assert named["test_baseseed3"] == "70.00 %, but the training itself has no result"
    assert named.keys() == {"test_baseseed2", "test_baseseed3", "train_baseseed3", "test_newseed3"}


def test_both_folders_of_a_second_model_are_named(tmp_path: Path) -> None:
    for root in (tmp_path / "a", tmp_path / "b"):
        put_model(root, "food", "CoOp", 1, 700, 500)
    results = collect(tmp_path)
    assert len(results.records) == 1
    assert [p.directory for p in results.problems] == [
        run_dir(tmp_path / "b", part, "food", "CoOp", 1) for part in ("train_base", "test_new")
    ]


PARTS = ("train_base", "test_base", "test_new")
KINDS = ("", "whole", "cut", "other trainer", "other classes", "no model", "two results", "link")


def put_kind(root: Path, part: str, seed: int, kind: str) -> Path:
    """A run folder of one of KINDS; in a training's, a log of a training."""
    folder = run_dir(root, part, "food", "CoOp", seed)
    subset = "new" if (part == "test_new") != (kind == "other classes") else "base"
    trainer: dict[str, Any] = {"trainer": "SAR_CoOp" if kind == "other trainer" else "CoOp"}
    if part == "train_base":
        text = training_log(700, subset=subset, **trainer)
    else:
        text = eval_log(700, subset=subset, **trainer)
    if kind == "no model":
        text = text.replace("Loading weights", "Note that load_model() is skipped\nNo weights")
        text = text.replace("(epoch = 2)", "")
    if kind == "two results":
        other = text.replace("correct: 700", "correct: 710").replace("70.0%", "71.0%")
        put(folder, other, "log.txt-2024-01-31-09-00-00")
    if kind == "link":
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(root / "nowhere")
    else:
        put(folder, text[:-60] if kind == "cut" else text)
    return folder


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.tuples(st.sampled_from(PARTS), st.integers(1, 2)), st.sampled_from(KINDS))
)
def test_every_run_folder_is_counted_or_named(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[tuple[str, int], str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    folders = {where: put_kind(root, *where, kind) for where, kind in kinds.items() if kind}
    results = collect(root)
    named = {problem.directory for problem in results.problems}
    noted = {Path(note.partition(": ")[0]) for note in results.notes}
    counted = {folder for record in results.records for folder in record.folders.values()}
    assert counted | named | noted == set(folders.values())
    assert not counted & named
    assert all(
        kinds[where] in ("whole", "no model") for where, f in folders.items() if f in counted
    )


# --- which folders are runs ------------------------------------------------------------------


def seeds(results: Results) -> list[int]:
    return [record.key.seed for record in results.records]


def test_a_stray_log_hides_nothing_above_or_within_a_run(tmp_path: Path) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    seed = run_dir(tmp_path, "train_base", "food", "CoOp", 1)
    strays: Iterable[Path] = (tmp_path, seed.parents[3], seed.parent, seed / "again")
    for folder in strays:
        put(folder, training_log(100))
    put(tmp_path / "train_base", "no log at all", "log.txt.bak")
    results = collect(tmp_path)
    assert seeds(results) == [1]
    named = {p.directory for p in results.problems if "layout" in p.reason}
    assert named == {*strays, tmp_path / "train_base"}


def test_linked_runs_count_where_the_link_is(tmp_path: Path) -> None:
    """As on machines whose output lies on another disk."""
    disk, root = tmp_path / "disk", tmp_path / "output"
    put_model(disk / "one", "food", "CoOp", 1, 700, 500)
    put_model(disk / "two", "food", "CoOp", 2, 700, 500)
    put_model(disk / "three", "pets", "CoOp", 1, 700, 500)
    (root / "train_base").mkdir(parents=True)
    (root / "test_new").mkdir()
    for part in ("train_base", "test_new"):
        (root / part / "pets").symlink_to(disk / "three" / part / "pets")
        for seed, name in ((1, "one"), (2, "two")):
            link = run_dir(root, part, "food", "CoOp", seed)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(run_dir(disk / name, part, "food", "CoOp", seed))
    results = collect(root)
    assert [(r.key.dataset, r.key.seed) for r in results.records] == [
        ("food", 1),
        ("food", 2),
        ("pets", 1),
    ]
    assert not results.problems
    (tmp_path / "link").symlink_to(root)
    assert len(collect(tmp_path / "link").records) == 3


def test_a_folder_that_is_linked_twice_is_read_once_and_named(tmp_path: Path) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    for part in ("train_base", "test_new"):
        seed = run_dir(tmp_path, part, "food", "CoOp", 1)
        (seed.parent / "seed2").symlink_to(seed)  # no second seed
    (tmp_path / "latest").symlink_to(tmp_path / "train_base")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "up").symlink_to(tmp_path.parent)
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    results = collect(tmp_path)
    assert seeds(results) == [1]
    named = {str(p.directory.relative_to(tmp_path)): p.reason for p in results.problems}
    assert {name: reason.split("/")[0] for name, reason in named.items()} == {
        "train_base/food/shots_16/CoOp/vit_b16/seed2": "a link to ",
        "test_new/food/shots_16/CoOp/vit_b16/seed2": "a link to ",
        "latest": "a link to ",
        "loop": "a link to ",
        "up": "a link to ",
        "round": "a link to round, which is not there",
        "gone": "a link to ",
    }


def test_links_to_checkpoints_and_data_are_no_matter(tmp_path: Path) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    seed = run_dir(tmp_path, "train_base", "food", "CoOp", 1)
    (seed / "prompt_learner").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "more").symlink_to(tmp_path / "data")
    assert not collect(tmp_path).problems


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    put_model(tmp_path, "pets", "CoOp", 1, 700, 500)
    (tmp_path / "train_base" / "pets").chmod(0)
    results = collect(tmp_path)
    (tmp_path / "train_base" / "pets").chmod(0o700)
    assert any("cannot be read" in reason for reason in reasons(results))
    assert len(results.records) == 1
