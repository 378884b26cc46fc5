"""`sarclip doctor`: names what is broken, and never breaks with it."""

import sys
from pathlib import Path

import pytest
from synthetic_checkout import ROOT, make_checkout, python

from sar import doctor
from sar.doctor import Finding, Verdict


def found(root: Path | None = None) -> dict[str, Finding]:
    return {finding.what: finding for finding in doctor.examine(root)}


def test_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found()
    monkeypatch.setattr(doctor, "examine", lambda root: findings.values())
    assert doctor.main()
    assert "Training can run." in capsys.readouterr().out
    for what in ("Python", "PyTorch", "torchvision", "packages", "trainers"):
        assert findings[what].verdict is Verdict.GOOD
    assert "SAR_PromptSRC" in findings["trainers"].found
    assert "DemoFood" in findings["novel classes"].found
    assert "none here" in findings["checkout"].found


def test_inside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_checkout(tmp_path))
    paths = list(sys.path)
    findings = found()
    assert findings["checkout"].found == f"{tmp_path} with CoOp"
    assert findings["its SAR trainers"].found == "SAR_CoOp"
    assert sys.path == paths


def test_datasets(tmp_path: Path) -> None:
    layouts = pytest.importorskip("sar.data.layouts").LAYOUTS
    assert found(tmp_path / "nowhere")["datasets"].verdict is Verdict.NOTE
    whole, part = layouts["OxfordPets"], layouts["EuroSAT"]
    for layout in (whole, part):
        for images in layout.images:
            (tmp_path / layout.folder / images).mkdir(parents=True)
    for file in whole.lists:
        (tmp_path / whole.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / whole.folder / file).touch()
    findings = found(tmp_path)
    assert findings["OxfordPets"] == Finding("OxfordPets", str(tmp_path / whole.folder))
    assert findings["EuroSAT"].verdict is Verdict.NOTE
    assert part.split in findings["EuroSAT"].found
    assert "Food101" in findings["datasets"].found
    assert "OxfordPets" not in findings["datasets"].found


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path / "ViT-B-16.pt")
    (tmp_path / "RN50.pt").touch()
    assert "also RN50.pt" in found()["CLIP weights"].found
    (tmp_path / "ViT-B-16.pt").write_text("half a download")
    assert "damaged" in found()["CLIP weights"].found
    digest = doctor.hashlib.sha256(b"half a download").hexdigest()
    monkeypatch.setattr(doctor, "WEIGHTS_SHA256", digest)
    assert found()["CLIP weights"].verdict is Verdict.GOOD


def test_broken_parts(tmp_path: Path) -> None:
    """torchvision of another PyTorch, no yacs, a Dassl of another kind: lines of the table."""
    broken = {
        "torchvision": "raise RuntimeError('operator torchvision::nms does not exist [1]')",
        "yacs": "raise ModuleNotFoundError(\"No module named 'yacs'\", name='yacs')",
        "dassl": "raise ValueError('no such thing')",
    }
    for name, text in broken.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    done = python(
        *(sys.executable, "-m", "sar", "doctor"),
        cwd=tmp_path,
        PYTHONPATH=f"{tmp_path}:{ROOT}",
        COLUMNS="200",
    )
    assert done.returncode == 1
    assert done.stderr == ""
    for text in (
        "operator torchvision::nms does not exist [1]",
        "--force-reinstall",
        "no such thing",
    ):
        assert text in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "Training cannot run before this is set right: torchvision, yacs, trainers."


def test_a_variable_that_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAR_FAST_TEXT", "perhaps")
    finding = found()["SAR_FAST_TEXT"]
    assert finding.verdict is Verdict.NOTE
    assert "perhaps" in finding.found
