"""Commands whose packages are not installed: one line says which extra to install."""

import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from result_logs import filled

from sar import cli, doctor
from sar.command_line import extras
from sar.protocols import slurm

ROOT = Path(__file__).parents[1]
# Without `heic` no command fails: such pictures are passed over (tests/test_own_reading.py).
COMMANDS = {
    "novel": "novel generate --model m --dataset OxfordPets --output {0}/names.json",
    "hub": "data download oxford_pets --root {0}",
    "slurm": "protocol base2new --launcher slurm --output {0}/runs --datasets demo_food",
    "report": "report {0}",
    "app": "app {0}/run",
    "lm": "caption train demo --lm gpt2 --output {0}/captions",
    "onnx": "export {0}/run --to {0}/shop.onnx --onnx --pictures {0}",
    "openclip": "train --trainer ZeroshotCLIP --backbone {0} --output-dir {0}/run "
    "--dataset-config-file configs/datasets/demo_food.yaml",
}
PACKAGES = {"open_clip": "open-clip-torch"}  # where its name is not that of its module


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def test_extras_are_those_of_the_project(project: dict[str, Any]) -> None:
    for name, modules in extras.EXTRAS.items():
        declared = project["optional-dependencies"][name]
        named = [PACKAGES.get(module, module) for module in modules]
        assert [Requirement(entry).name for entry in declared] == named, name


def test_oldest_constraints_are_the_lower_bounds(project: dict[str, Any]) -> None:
    declared = [*project["dependencies"]]
    for name in extras.EXTRAS:
        declared += project["optional-dependencies"][name]
    bounds = {
        canonicalize_name(entry.name): next(
            s.version for s in entry.specifier if s.operator == ">="
        )
        for entry in map(Requirement, declared)
    }
    lines = (ROOT / "constraints" / "oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == bounds.keys()
    assert [name for name in bounds if Version(pinned[name]) != Version(bounds[name])] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_extra_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda program: "/usr/bin/sbatch")
    filled(tmp_path)
    package = extras.EXTRAS[name][0]
    monkeypatch.setitem(sys.modules, package, None)
    for module in (
        "asking.endpoint",
        "novel.generate",
        "classifier.onnx_file",
        "classifier.page",
        "tasks.pretrained",
    ):
        monkeypatch.delitem(sys.modules, f"sar.{module}", raising=False)
    for part in ("clip_folders", "architectures", "openclip"):
        monkeypatch.delitem(sys.modules, f"sar.toolbox.clip.{part}", raising=False)
        monkeypatch.delattr(f"sar.toolbox.clip.{part}", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main(COMMANDS[name].format(tmp_path).split())
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 1
    assert said[-1].startswith(f"error: {package} is not installed")
    assert said[-1].endswith(f"pip install 'sarclip[{name}]'")


def test_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "submitit" else 1)
    (finding,) = doctor._extras()
    assert finding.found == "novel, hub, report, heic, openclip, lm, onnx, app"
    assert "'sarclip[slurm]'" in finding.advice
    assert finding.verdict is doctor.Verdict.NOTE
