"""docs/add-a-protocol.md, followed; and protocols that are not known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, files_of, follow

from sar import cli
from sar.errors import ConfigError
from sar.protocols.cli import main
from sar.protocols.plan import PLANS
from sar.results import collect
from sar.results.presentations import PRESENTATIONS, make_plots, make_tables
from sar.results.protocol import PROTOCOL_FILE

PAGE = "add-a-protocol.md"
NAME = "base2new-shots"
STANDIN = "standin_train:main"


@pytest.fixture
def by_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file; what it registers is forgotten in the end."""
    monkeypatch.setattr("sar.protocols.local._PRELOAD", ("sar.protocols.local",))
    for known in (PLANS, PRESENTATIONS):
        monkeypatch.setitem(known, NAME, known.get(NAME))
        del known[NAME]
    monkeypatch.delitem(sys.modules, "by_shots", raising=False)
    file = tmp_path / "by_shots.py"
    file.write_text(files_of(PAGE)["by_shots.py"])
    return file


def test_jobs_table_and_figure(
    by_shots: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = ["--datasets", "demo_food", "--seeds", "1", "--trainers", "CoOp", "--shots", "1,4"]
    start = [NAME, "--import", str(by_shots), "--output", str(output), *words, "--jobs", "2"]
    main([*start, "OPTIM.MAX_EPOCH", "2"], STANDIN)
    said = capfd.readouterr().out
    assert said.count(f"sarclip train --import {by_shots} --seed 1 --trainer CoOp") == 4
    results = collect(output)
    assert not results.problems
    (table,) = make_tables(results)
    assert (table.protocol, list(table.columns)) == (NAME, ["1", "4"])
    assert [plot.name for plot in make_plots(table)]
    assert json.loads((output / PROTOCOL_FILE).read_text())["imports"] == [str(by_shots)]

    by_shots.write_text(by_shots.read_text() + "# edited\n")  # a table is no setting of a job
    main([*start, "OPTIM.MAX_EPOCH", "2"], STANDIN)
    assert capfd.readouterr().out.count("finished earlier, skipped") == 4

    with pytest.raises(ConfigError, match="there is no dataset 'x'"):
        main([NAME, "--import", str(by_shots), "--output", str(output), "--datasets", "x"], STANDIN)


def test_results_of_an_unknown_protocol_say_which_file_it_needs(
    by_shots: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--datasets", "demo_food", "--seeds", "1", "--trainers", "CoOp", "--shots", "1"]
    start = [NAME, f"--import={by_shots}", "--output", str(tmp_path / "out"), *words]
    main([*start, "OPTIM.MAX_EPOCH", "2"], STANDIN)
    done = subprocess.run(
        [sys.executable, "-m", "sar", "results", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert f"the protocol {NAME}, which is not known here; give --import FILE" in done.stderr
    assert str(by_shots) in done.stderr
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["results", str(tmp_path / "out"), "--import", str(by_shots)])
    assert not stopped.value.code
    assert re.search(r"demo_food +CoOp +\d", capfd.readouterr().out)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    text = files_of(PAGE)["by_shots.py"].replace('"base2new-shots"', '"few-shot"')
    (tmp_path / "twice.py").write_text(text)
    with pytest.raises(ConfigError, match="twice: there is a protocol few-shot already"):
        main(["few-shot", "--import", str(tmp_path / "twice.py"), "--dry-run"])


@pytest.mark.slow
def test_commands_of_the_page(tmp_path: Path) -> None:
    said = follow(PAGE, tmp_path, {"--seeds 1": "--seeds 1 --shots 1,2 OPTIM.MAX_EPOCH 1"})
    assert re.search(r"SAR_CoOp - CoOp +[+-]\d", said)
    assert list((tmp_path / "figures").glob("*.png"))
