"""The report: everything inside one page, and a browser that finds nothing to object to."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, browser
from result_logs import filled, put, put_ablation, put_transfer, run_dir, training_log

from sar.command_line.commands import call
from sar.errors import DataError, StorageError
from sar.results.cli import report
from sar.results.folders import locate
from sar.results.protocol import ProtocolRecord, record_protocol
from sar.results.provenance import read_provenance

CONFIG = """\
** Config **
************
DATASET:
  NAME: DemoFood
  SUBSAMPLE_CLASSES: base
MODEL:
  BACKBONE:
    NAME: pocket
OPTIM:
  LR: 0.1
TRAINER:
  NAME: SAR_CoOp
  SAR:
    NOVEL: shipped
    TEMPLATE: \n    WEIGHT: 1.0
"""
HEAD = f"""\
Setting fixed seed: 1
***************
** Arguments **
***************
config_file: configs/c.yaml
eval_only: False
model_dir: \nno_train: False
opts: ['DATASET.NUM_SHOTS', '16', 'X', "it's"]
root: /data/my sets
seed: 1
trainer: SAR_CoOp
************
{CONFIG}** System info **
Python: 3.11.7
PyTorch: 2.15.0

Loading trainer: SAR_CoOp
Loading preprocessed few-shot data from /data/split_fewshot/shot_16-seed_1.pkl
---------  --------
# classes  62
# train_x  1,984
# test     620
Pictures: 12 files passed over (12 .txt); sarclip data check /data/my sets says more
SAR: 118 novel names from /data/my sets/classes.yaml; overlap with the 62 new classes: 0 exact
SAR: weight 1.0, kl, temperature 0.1, 128 classes a step of 62 base and 118 novel ones
"""


def put_real(folder: Path, correct: int = 700) -> Path:
    """A run with the head of a real log."""
    return put(folder, HEAD + training_log(correct).partition("MAX_EPOCH: 2\n")[2])


def provenance(folder: Path) -> Any:
    place = locate(folder)
    assert place is not None
    return read_provenance(place)


def test_provenance_is_read_from_the_log(tmp_path):
    found = provenance(put_real(run_dir(tmp_path, "train_base", "food", "SAR_CoOp", 1)))
    assert found.config["MODEL.BACKBONE.NAME"] == "pocket"
    assert found.config["TRAINER.SAR.TEMPLATE"] == ""
    assert found.config["TRAINER.SAR.WEIGHT"] == "1.0"
    assert found.counts == {"classes": 62, "train_x": 1984, "test": 620}
    assert found.system == "Python: 3.11.7\nPyTorch: 2.15.0"
    assert found.facts["shots_file"] == "/data/split_fewshot/shot_16-seed_1.pkl"
    assert found.facts["elapsed"] == "0:00:12"
    assert found.facts["novel"] == "/data/my sets/classes.yaml"
    assert found.facts["alignment"].startswith("SAR: weight 1.0")
    assert found.command.startswith("python train.py --config-file configs/c.yaml --root '/data/my")
    put(found.place.directory, "sarclip train --seed 1\n", "command.txt")
    assert provenance(found.place.directory).command == "sarclip train --seed 1"


def test_class_names_come_from_the_checkpoint_without_running_it(tmp_path):
    import torch

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    folder = run_dir(tmp_path, "train_base", "food", "CoOp", 1) / "prompt_learner"
    folder.mkdir(parents=True)
    file = folder / "model.pth.tar-2"
    state = {"ctx": torch.nn.Parameter(torch.ones(2, 3))}
    torch.save({"state_dict": state, "classnames": ["pie", "cake"], "trap": Trap()}, file)
    assert provenance(folder.parent).classes == ["pie", "cake"]
    assert not (tmp_path / "sprung").exists()
    torch.save({"state_dict": state}, file)  # of another toolbox
    assert provenance(folder.parent).classes == []
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", b"damaged")
    assert provenance(folder.parent).classes == []


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with all protocols, published numbers, heatmaps and failures; its report."""
    root = tmp_path_factory.mktemp("output")
    filled(root / "base2new")
    trainers = ["CoOp", "SAR_CoOp", "KgCoOp"]
    plan = ProtocolRecord("base2new", ["animals", "food"], trainers, [1, 2, 3], [16])
    record_protocol(root / "base2new", plan)
    folder = put_real(run_dir(root / "base2new", "train_base", "food", "SAR_CoOp", 1))
    put(folder, "sarclip train --trainer SAR_CoOp <&>\n", "command.txt")
    put(folder, '{"overlap": "not shown beside the text"}', "novel_report.json")
    for other in (folder, folder.with_name("seed2")):
        put(other, "pie: equal to a new class", "novel_report.txt")
    put(folder, "5 sentences of each of 4 classes", "descriptions_report.txt")
    put(folder, "not read, there is an .svg", "inspect_new.png")
    measured = {"CoOp": {"correlation": 0.69}, "SAR_CoOp": {"correlation": 0.97}}
    content = {"dataset": "DemoFood", "classes": "new", "models": measured}
    for other in (folder, folder.with_name("seed2")):  # the same comparison, made twice
        put(other, json.dumps(content), "inspect_new.json")
        svg = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
        put(other, svg, "inspect_new.svg")
    put_ablation(root / "ablation")
    for trainer in ("CoOp", "SAR_CoOp"):
        put_transfer(root / "xd", trainer, 1, 710, {"dtd": 400, "eurosat": 500, "ucf101": 600})
    put(run_dir(root / "b", "train_base", "dtd", "CoOp", 1), training_log().split("epoch [2")[0])
    call(report, [str(root), "--title", "Mine & <yours>"])
    return root


def test_page_holds_it_all(everything):
    text = (everything / "report.html").read_text(encoding="utf-8")
    assert "<h1>Mine &amp; &lt;yours&gt;</h1>" in text
    for expected in (
        "Base-to-new, 16 shots",
        "Cross-dataset",
        "Ablation, average of food, pets",
        "CoOp, published",
        "Similarities of DemoFood&#39;s new classes",
        "CoOp 0.69, SAR_CoOp 0.97",
        "128 classes a step of 62 base and 118 novel ones",
        "/data/split_fewshot/shot_16-seed_1.pkl",
        "food: 12 files passed over (12 .txt)",
        "seed1/novel_report.txt and 1 more",
        "pie: equal to a new class",
        "Descriptions that were trained on",
        "5 sentences of each of 4 classes",
        "PyTorch: 2.15.0",
        "sarclip train --trainer SAR_CoOp &lt;&amp;&gt;",
        "unfinished: training stopped at epoch 1/2",
        "not started: KgCoOp, 16 shots, seeds 1, 2, 3, on animals, food",
        "OPTIM.LR: 0.1",
    ):
        assert expected in text, expected
    assert "not shown beside the text" not in text
    assert text.count("inspect_new.svg") == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert not re.findall(r"url\(|@import|<script", text.partition("<body>")[0])
    assert all(len(alt) > 20 for alt in re.findall(r'alt="([^"]*)"', text))


def test_command_chooses_file_spread_and_runs(tmp_path, capsys):
    root, page = filled(tmp_path / "output"), tmp_path / "deep" / "r.html"
    call(report, [str(root), "--ci95", "--dataset", "food", "--output", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "95 % confidence interval" in text
    assert "animals" not in text
    assert str(page) in capsys.readouterr().out
    with pytest.raises(StorageError, match=r"cannot write .*r\.html"):
        call(report, [str(root), "--output", str(page / "r.html")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no complete result"):
        call(report, [str(tmp_path / "empty")])


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (Debian: apt-get install chromium)")
def test_browser_has_nothing_to_object_to(everything, tmp_path):
    url = (everything / "report.html").as_uri()
    with browser(tmp_path / "profile") as page:
        for width in (1200, 400):
            for unfold in ("false", "true"):
                page.open(url, width)
                page.evaluate(
                    f"document.querySelectorAll('details').forEach(d => d.open = {unfold})"
                )
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.images].every(i => i.alt && i.complete && i.naturalWidth)"
        )
        assert page.evaluate("document.images.length") > 8
        broken = (
            "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash))"
        )
        assert page.evaluate(f"{broken}.length") == 0
        assert {request.partition(":")[0] for request in page.requests()} <= {"file", "data"}
        assert {request for request in page.requests() if request.startswith("file")} == {url}
        assert page.complaints() == []
