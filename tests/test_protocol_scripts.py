"""The scripts in front of the protocols, and real runs of the embedded trainers behind them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sar.results import collect

ROOT = Path(__file__).resolve().parents[1]


def script(
    *arguments: str, cwd: Path, name: str = "base2new", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "sar" / f"{name}.sh"), *arguments],
        cwd=cwd,
        text=True,
        capture_output=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
    )


def test_script_from_any_folder(tmp_path):
    done = script(
        "demo_food",
        "2",
        "SAR_CoOp",
        "--dry-run",
        cwd=tmp_path,
        OUTPUT="here",
        SHOTS="4",
        DATA="/my data",
    )
    assert done.returncode == 0, done.stderr
    titles = done.stdout.splitlines()[0::2]
    assert titles == [
        "demo_food SAR_CoOp seed2: train base: to run",
        "demo_food SAR_CoOp seed2: test new: to run",
    ]
    assert "here/train_base/demo_food/shots_4/SAR_CoOp/pocket/seed2" in done.stdout
    assert "--root '/my data'" in done.stdout
    both = script("demo_food", "1", "", "--dry-run", cwd=tmp_path, TRAINERS="CoOp SAR_CoOp")
    assert both.stdout.count("  sarclip train ") == 4


def test_scripts_of_the_other_protocols(tmp_path):
    for name, environment, arguments, jobs, folder in (
        ("xd", {}, "imagenet|1 2|MaPLe", 22, "evaluation/MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross"),
        ("xd", {"TARGETS": "dtd"}, "food101|1|CoOp", 2, "food101/CoOp/"),
        ("dg", {}, "imagenet|1|CoOp", 5, "evaluation/CoOp/vit_b16_ep50_ctxv1_16shots/imagenet_a/"),
        ("fewshot", {"SHOTS": "2 8"}, "dtd|1|CoOp", 2, "dtd/CoOp/vit_b16_8shots/seed1"),
        ("ablation", {"STUDIES": "novel"}, "dtd|1", 4 + 3 * 2, "novel_words150/train_base/"),
    ):
        done = script(
            *(*arguments.split("|"), "--dry-run"),
            name=name,
            cwd=tmp_path,
            DATA="/data",
            OUTPUT="here",
            **environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("  sarclip train --root /data ") == jobs
        assert f"here/{folder}" in done.stdout


def test_script_errors_are_one_line(tmp_path):
    for arguments, expected in (
        (["demo_fod", "1"], "demo_food"),
        (["demo_food"], "SEED"),
        (["demo_food", "0"], "from 1 up"),
        (["demo_food", "1", "Coop"], "SAR_CoOp"),
    ):
        done = script(*arguments, cwd=tmp_path, OUTPUT=str(tmp_path / "out"))
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1
        assert expected in done.stderr


def test_real_trainers_on_demo_data_with_a_random_clip(tmp_path):
    import torch
    from toolbox_mini import PIXELS, random_clip

    torch.save(random_clip().state_dict(), tmp_path / "clip.pt")
    options = [
        "MODEL.BACKBONE.NAME",
        str(tmp_path / "clip.pt"),
        "INPUT.SIZE",
        f"({PIXELS},{PIXELS})",
        "OPTIM.MAX_EPOCH",
        "2",
    ]
    for expected in ("% (", "finished earlier, skipped"):
        done = script(
            "demo_food",
            "1",
            "",
            *options,
            cwd=tmp_path,
            OUTPUT="out",
            SHOTS="1",
            TRAINERS="ZeroshotCLIP SAR_CoOp",
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(expected) == 4
    results = collect(tmp_path / "out")
    assert [record.key.trainer for record in results.records] == ["SAR_CoOp", "ZeroshotCLIP"]
    assert not results.problems
    assert not results.notes  # the tested checkpoint is the last epoch's


def test_real_models_meet_another_style(tmp_path):
    import torch
    from toolbox_mini import PIXELS, random_clip

    torch.save(random_clip().state_dict(), tmp_path / "clip.pt")
    done = script(
        *("demo_food", "1", "SAR_CoOp"),
        *("MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt"), "INPUT.SIZE", f"({PIXELS},{PIXELS})"),
        *("OPTIM.MAX_EPOCH", "1"),
        name="dg",
        cwd=tmp_path,
        OUTPUT="out",
        SHOTS="1",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = collect(tmp_path / "out")
    assert not results.problems
    assert sorted((r.key.dataset, r.key.trainer) for r in results.records) == [
        ("demo_food", "SAR_CoOp"),
        *((f"demo_food_{style}", "SAR_CoOp") for style in ("colour", "duotone", "filled", "line")),
    ]
    (folder,) = tmp_path.glob("out/evaluation/SAR_CoOp/*/demo_food_line/seed1")
    assert re.search("total: [1-9]", (folder / "log.txt").read_text())


# of the 49 classes that this style draws
