"""Wheel, editable install and source tree hold the same modules and data and behave alike."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from synthetic_checkout import make_checkout, make_environment, python

ROOT = Path(__file__).parent.parent
FOLDERS = {"sar": "sar", "trainers": "sar/trainers", "configs": "sar/configs"}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
BUILD = ["--no-deps", "--no-build-isolation", "--no-index"]

# What an installation contains, relative to where its parts lie, and what it answers.
INSPECT = """
import json, sys
from importlib import resources
from importlib.util import find_spec
{prepare}
import sar, sar.trainers.conditional, sar.host
from sar.config import add_sar_config

def files(folder, prefix=""):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from files(entry, prefix + entry.name + "/")
        elif not entry.name.endswith((".pyc", ".py")):
            yield prefix + entry.name

print(json.dumps({{
    "places": [sar.__file__, sar.trainers.conditional.__file__],
    "version": sar.__version__,
    "strays": [name for name in ("sar.sar", "sar.setup", "sar.tests") if find_spec(name)],
    "trainers": sar.host.register(),
    "modules": sorted(m for m in sys.modules if m.split(".")[0] == "sar"),
    "data": {{
        package: sorted(files(resources.files(package)))
        for package in ("sar.configs", "sar.classes", "sar.toolbox.clip", "sar.toolbox.data")
    }},
}}))
"""


def _expected_files() -> set[str]:
    """Every file of the three folders, at its place in the installed package."""
    return {
        f"{target}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def _inspect(cwd: Path, prepare: str = "", **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", INSPECT.format(prepare=prepare)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _without_places(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "places"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a fresh clone has it, so that builds leave nothing in the working tree."""
    pytest.importorskip("setuptools", reason="builds use the installed setuptools")
    target = tmp_path_factory.mktemp("copy") / "project"
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, target / file)
    return target


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", *BUILD, "--wheel-dir", str(folder), str(copy)], check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
def test_wheel_contains_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == _expected_files()


@pytest.mark.slow
def test_the_three_ways_to_install_behave_alike(copy: Path, wheel: Path, tmp_path: Path) -> None:
    site, prefix, elsewhere = tmp_path / "site", tmp_path / "prefix", tmp_path / "elsewhere"
    elsewhere.mkdir()

    subprocess.run([*PIP, "install", *BUILD, "--target", str(site), str(wheel)], check=True)
    installed = _inspect(elsewhere, PYTHONPATH=str(site))
    assert all(place.startswith(str(site)) for place in installed["places"])
    assert not installed["strays"]

    source = _inspect(elsewhere, PYTHONPATH=str(copy))
    assert all(place.startswith(str(copy)) for place in source["places"])
    assert _without_places(source) == _without_places(installed)

    command = [*PIP, "install", *BUILD, "--ignore-installed", "--prefix", str(prefix)]
    subprocess.run([*command, "--editable", str(copy)], check=True)
    (packages,) = prefix.glob("**/site-packages")
    # The project under test may itself be an editable install here; forget that one first.
    forget = (
        "import site, sys; name = '__editable__'; sys.path.insert(0, {0!r});"
        "sys.meta_path[:] = [f for f in sys.meta_path"
        " if not getattr(f, '__module__', '').startswith(name)];"
        "[sys.modules.pop(m) for m in list(sys.modules) if m.startswith(name)];"
        "site.addsitedir({0!r})"
    )
    editable = _inspect(elsewhere, prepare=forget.format(str(packages)))
    assert all(place.startswith(str(copy)) for place in editable["places"])
    assert _without_places(editable) == _without_places(installed)
    assert {"CoOp", "ZeroshotCLIP", "SAR_CoOp"} <= set(installed["trainers"])


def test_a_source_tree_offers_nothing_but_the_package(tmp_path: Path) -> None:
    answer = _inspect(tmp_path, PYTHONPATH=str(ROOT))
    assert not answer["strays"]
    assert answer["places"][1] == str(ROOT / "trainers" / "conditional.py")
    with resources.as_file(resources.files("sar.configs") / "trainers" / "CoOp") as folder:
        assert folder == ROOT / "configs" / "trainers" / "CoOp"


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_trainers_of_a_checkout_coexist(tmp_path: Path, first: str) -> None:
    """A checkout's regular `trainers` package is found wherever our folder of that name comes."""
    package = tmp_path / "trainers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "coop.py").write_text("WHOSE = 'checkout'")
    (package / "conditional.py").write_text("WHOSE = 'checkout'")
    paths = [str(ROOT), str(tmp_path)]
    code = (
        "import trainers.coop, importlib.util\n"
        "print(trainers.coop.WHOSE)\n"
        "print(importlib.util.find_spec('sar.trainers.conditional').origin)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(paths if first == "ours" else reversed(paths))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["checkout", str(ROOT / "trainers" / "conditional.py")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable", "source tree"])
def test_in_a_checkout(copy: Path, wheel: Path, tmp_path: Path, kind: str) -> None:
    """The checkout's `trainers`, `datasets` and `clip`, our tokenizer, from any working folder."""
    checkout = make_checkout(tmp_path / "checkout")
    interpreter = make_environment(tmp_path / "venv")
    pip = [*PIP, "--python", str(interpreter)]
    paths = {}
    if kind == "source tree":
        paths["PYTHONPATH"] = str(copy)
        sarclip = [str(interpreter), "-m", "sar"]
    else:
        what = [str(wheel)] if kind == "wheel" else ["--editable", str(copy)]
        subprocess.run([*pip, "install", *BUILD, "--ignore-installed", *what], check=True)
        sarclip = [str(interpreter.with_name("sarclip"))]

    def trained(*command: str, cwd: Path) -> dict[str, Any]:
        done = python(*command, "--trainer", "SAR_CoOp", cwd=cwd, **paths)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    script = str(checkout / "train.py")
    results = [
        trained(*sarclip, "run", "train.py", cwd=checkout),
        trained(*sarclip, "run", script, cwd=copy),  # beside our own folder `trainers`
    ]
    python(*sarclip, "host", "enable", cwd=tmp_path, **paths).check_returncode()
    paths.clear()
    results += [
        trained(str(interpreter), "train.py", cwd=checkout),
        trained(str(interpreter), script, cwd=tmp_path),
    ]
    for result in results:
        assert "trainers.coop.CoOp" in result["bases"]
        assert result["bases"][0] == "sar.trainer.SAR_CoOp"
        assert (result["clip"], result["tokens"], result["loaded"]) == ("checkout", 77, 10)

    if kind == "wheel":  # the others remain where they are
        subprocess.run([*pip, "uninstall", "--yes", "sarclip"], check=True)
        done = python(interpreter, "whose.py", cwd=checkout)
        assert done.stderr.count("Error") == 1  # as without this project
        assert "No module named 'dassl'" in done.stderr
