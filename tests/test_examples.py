"""The demonstration of a new product line, and the notebook about one's own pictures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from catalogue_holds import claims
from demo_shop import FOR_VALIDATION, write_shop
from pages import follow

from sar.data.own_pictures import in_folders
from sar.errors import ConfigError

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "own_pictures.ipynb"


def test_a_shop_has_pictures_of_its_catalogue_and_names_of_the_rest(tmp_path: Path) -> None:
    from sar.classes.class_list import read_class_list

    write_shop("DemoFood", tmp_path / "shop", every=8)
    today = in_folders(tmp_path / "shop" / "today")
    listed = read_class_list(tmp_path / "shop" / "today" / "classes.yaml")
    both = read_class_list(tmp_path / "shop" / "tomorrow.yaml")
    assert (listed.base, listed.new) == (both.base, [])
    assert listed.novel
    assert len(both.new) >= 2
    for part, found in today.pictures.items():
        assert sorted(found) == sorted(listed.base), part
    assert {len(found) for found in today.pictures["val"].values()} == {FOR_VALIDATION}
    shown = {place.name for place in (tmp_path / "shop" / "tomorrow").iterdir()}
    assert shown == {*both.names}
    with pytest.raises(ConfigError, match="demo_food is none of DemoFood"):
        write_shop("demo_food", tmp_path / "other")


def entries(**changed: float) -> list[dict[str, object]]:
    means = {"new": 60.0, "joint": 60.0, "joint_before": 35.0, "kept": 94.0, "rejected": 25.0}
    means |= {"auroc": 80.0, **changed}
    return [
        {
            "protocol": "evaluation",
            "table": "Evaluation" + " with unknown pictures" * before,
            "label": method,
            "kind": "measured",
            "column": column.removesuffix("_before"),
            "mean": mean,
        }
        for method in ("ZeroshotCLIP", "CoOp", "SAR_CoOp")
        for column, mean in means.items()
        for before in [column not in ("new", "joint")]
    ]


@pytest.mark.parametrize(
    "wrong", [{"new": 24.0}, {"joint_before": 59.0}, {"auroc": 50.0}, {"rejected": 8.0}]
)
def test_what_the_story_claims_can_fail(wrong: dict[str, float]) -> None:
    assert all(claims(entries()).values())
    assert sum(not holds for holds in claims(entries(**wrong)).values()) == 3


@pytest.mark.slow
def test_the_story_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    environment = {**os.environ, "OUTPUT": str(tmp_path), "SEEDS": "1"}
    words = ["bash", str(EXAMPLES / "catalogue.sh"), "OPTIM.MAX_EPOCH", "2"]
    first = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    measured = tmp_path / "evaluations" / "today" / "ZeroshotCLIP" / "scores.json"
    while first.poll() is None and not measured.exists():
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait() != 0
    done = [*(tmp_path / "runs" / "today").rglob("model.pth.tar-2"), measured]
    assert len(done) == 3
    times = [file.stat().st_mtime for file in done]
    told = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Not a bit differs" in told.stdout
    assert told.stdout.count("holds:  ") == len(claims(entries()))
    assert (tmp_path / "report.html").is_file()
    assert [file.stat().st_mtime for file in done] == times


@pytest.mark.slow
def test_commands_of_the_page(tmp_path: Path) -> None:
    write_shop("DemoFood", tmp_path / "shop", every=8)
    said = follow("catalogue.md", tmp_path, {"--seeds 1,2,3": "--seeds 1"})
    assert "Added by their names" in said
    assert "Exported SAR_CoOp" in said
    assert "wrote output/report.html" in said


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def test_the_notebook_is_stripped_and_its_links_lead_somewhere(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), text
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (EXAMPLES / link).is_file(), link


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, resources={"metadata": {"path": str(EXAMPLES)}}, timeout=600).execute()
    said = "".join(o.get("text", "") for c in book.cells for o in c.get("outputs", []))
    assert "No problems found" in said
    assert "before: " in said
    assert "joint: all pictures, all classes" in said
    assert "Known by name only (1): pizza." in said
    # A command in a cell that fails leaves a line behind, not an exception.
    assert not re.search(r"^error:", said, re.MULTILINE)
