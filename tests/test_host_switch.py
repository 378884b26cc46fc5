"""`sarclip host`: Python knows SAR in checkouts when it is on, and is as before when it is off."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from synthetic_checkout import ROOT, make_checkout, make_environment, python

from sar.errors import HostError
from sar.host import switch

LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


def sarclip(interpreter: Path, *arguments: str) -> str:
    done = python(interpreter, "-m", "sar", *arguments, cwd=Path("/"), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def enabled(environment: Path):
    sarclip(environment, "host", "enable")
    yield environment
    sarclip(environment, "host", "disable")


def packages(interpreter: Path) -> Path:
    (folder,) = interpreter.parents[1].glob("lib/python*/site-packages")
    return folder


def test_on_and_off(environment: Path, checkout: Path) -> None:
    before = sorted(packages(environment).rglob("*"))
    assert sarclip(environment, "host", "status") == "disabled\n"
    assert "No module named 'dassl'" in python(environment, "whose.py", cwd=checkout).stderr
    for _ in range(2):  # twice is once
        assert str(packages(environment)) in sarclip(environment, "host", "enable")
    assert sarclip(environment, "host", "status").startswith("enabled (")
    assert python(environment, "whose.py", cwd=checkout).stdout == "sar.toolbox\n"
    assert "sarclip_host.pth" in sarclip(environment, "host", "disable")
    assert "No module named 'dassl'" in python(environment, "whose.py", cwd=checkout).stderr
    assert sarclip(environment, "host", "disable") == "It was not enabled.\n"
    assert sorted(p for p in packages(environment).rglob("*") if p.name != "__pycache__") == before


def test_every_way_to_start_a_script(enabled: Path, checkout: Path) -> None:
    for arguments in (
        [checkout / "whose.py"],
        ["-m", "whose"],
        ["-c", "import whose"],
        ["tools/deep.py"],
        ["-I", "whose.py"],
        ["-W", "error", "whose.py"],
    ):
        cwd = Path("/") if arguments[0] == checkout / "whose.py" else checkout
        done = python(enabled, *arguments, cwd=cwd)
        assert (done.stdout, done.stderr) == ("sar.toolbox\n", ""), arguments


def test_nothing_happens_outside_a_checkout(enabled: Path, tmp_path: Path) -> None:
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "other.py").touch()
    (tmp_path / "whose.py").write_text(
        "import sys\ntry:\n    import dassl\nexcept ImportError as error:\n    print(error)\n"
        "print([name for name in sys.modules if name.startswith('sar')])"
    )
    done = python(enabled, "whose.py", cwd=tmp_path)
    assert done.stdout == "No module named 'dassl'\n[]\n"
    assert done.stderr == ""


def test_python_starts_with_one_small_module_more(environment: Path, tmp_path: Path) -> None:
    def loaded() -> set[str]:
        return set(json.loads(python(environment, "-c", LOADED, cwd=tmp_path).stdout))

    before = loaded()
    sarclip(environment, "host", "enable")
    assert loaded() - before == {switch.MODULE}
    sarclip(environment, "host", "disable")


def test_silent_when_this_project_is_gone(
    environment: Path, checkout: Path, tmp_path: Path
) -> None:
    sarclip(environment, "host", "enable")
    pth, module = (packages(environment) / name for name in (switch.PTH, f"{switch.MODULE}.py"))
    pth.write_text(pth.read_text().replace(str(ROOT), str(tmp_path / "gone")))
    assert sarclip(environment, "host", "status").startswith("enabled by another")
    done = python(environment, "whose.py", cwd=checkout)
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'dassl'\n")
    assert done.stderr.count("Error") == 1
    for damage in (b"raise RuntimeError", b"raise SystemExit(3)", b"half of a", b"\xff\x00", b""):
        module.write_bytes(damage)
        done = python(environment, "-c", "print(1)", cwd=tmp_path)
        assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0), damage
    assert sarclip(environment, "host", "status").startswith("enabled by another")
    module.unlink()
    assert python(environment, "-c", "", cwd=tmp_path).stderr == ""
    assert sarclip(environment, "host", "status").startswith("not enabled, because one of its")
    assert "sarclip_host.pth" in sarclip(environment, "host", "disable")


@pytest.mark.parametrize("damage", ["missing", "half", "empty"])
def test_a_damaged_installation_is_said_and_python_goes_on(
    environment: Path, checkout: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(ROOT / "sar", tmp_path / "sar")
    host = tmp_path / "sar" / "host"
    if damage == "missing":
        (host / "dassl.py").unlink()
    else:
        whole = (host / "checkout.py").read_bytes()
        (host / "checkout.py").write_bytes(whole[:1000] if damage == "half" else b"")
    sarclip(environment, "host", "enable")
    pth, module = (packages(environment) / name for name in (switch.PTH, f"{switch.MODULE}.py"))
    pth.write_text(pth.read_text().replace(str(ROOT), str(tmp_path)))
    *said, last = python(environment, "whose.py", cwd=checkout).stderr.splitlines()
    sarclip(environment, "host", "disable")
    assert last == "ModuleNotFoundError: No module named 'dassl'"  # the checkout's own affair
    (line,) = [line for line in said if line.startswith("sarclip: ")]
    assert line.endswith(f"Install it again, or remove {module}")
    assert sum("Traceback" in line for line in said) == 1


def test_any_folder_name_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = str(tmp_path / 'it\'s "é" \\n {x}')
    monkeypatch.setattr(switch, "package_root", lambda: odd)
    monkeypatch.setattr(switch, "_folders", lambda: [tmp_path])
    switch.enable()
    assert switch.status() == (switch.Status.ENABLED, tmp_path)
    text = (tmp_path / switch.PTH).read_text("utf-8")
    assert text.count("\n") == 1
    show = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); exec(open({switch.PTH!r}).read())"
    show += f"; print(sys.modules[{switch.MODULE!r}] and sys.meta_path[0].root)"
    assert python(sys.executable, "-c", show, cwd=tmp_path).stdout == f"{odd}\n"
    assert {file.name for file in switch.disable()} == {switch.PTH, f"{switch.MODULE}.py"}


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    places = [tmp_path / "file" / "site-packages"]
    monkeypatch.setattr(switch, "_folders", lambda: places)
    with pytest.raises(HostError, match=r"sarclip run train\.py"):
        switch.enable()
    places.append(tmp_path / "user")  # the user's own comes second
    assert switch.enable() == tmp_path / "user"
