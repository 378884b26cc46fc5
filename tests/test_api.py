"""docs/api.md: it names what is public, and its examples run."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from result_logs import filled

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")


def test_every_public_name_is_there_and_no_other() -> None:
    rows = re.findall(r"^\| `(sar\.\w+)` \| (.*?) \|", PAGE, flags=re.MULTILINE)
    assert len(rows) == 5
    for module, names in rows:
        public = importlib.import_module(module).__all__
        assert sorted(re.findall(r"`(\w+)`", names)) == sorted(public), module


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path / "output" / "base2new")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "api_md"}
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(example, names)
    said = capsys.readouterr().out
    assert "animals CoOp 1 {'base': 73.0, 'new': 45.0" in said
    assert "| SAR_CoOp" in said
    assert 0 < names["loss"].item() < 1
    assert names["features"].shape[0] == 3
    assert names["context"].grad.norm() > 0
    assert issubclass(names["SAR_Mine"], names["CoOp"])
