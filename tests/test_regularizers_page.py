"""tools/regularizers.py writes what was run between the page's marks, and nothing else."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from ablation_run import names, put_everything, tables

from sar.protocols.ablation import BASELINE, Ablation
from sar.protocols.studies import COMPARISONS

ROOT = Path(__file__).parents[1]


def test_tables_are_those_of_the_comparing_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("control", "pairs")
    for part, studies in (("selection", asked), ("selection", ("weight",)), ("report", asked)):
        put_everything(Ablation(output=tmp_path / part, studies=studies, seeds=(1, 2)))
    page = tmp_path / "regularizers.md"
    shutil.copy(ROOT / "docs" / "regularizers.md", page)
    before, after = page.read_text().partition("\n## Tables\n")[0], "\nwritten by hand\n"
    page.write_text(page.read_text() + after)
    arguments = [str(tmp_path / "selection"), str(tmp_path / "report"), "--docs", str(tmp_path)]
    for _ in range(2):  # again, in place of what was there
        monkeypatch.setattr(sys, "argv", ["regularizers.py", *arguments])
        runpy.run_path(str(ROOT / "tools" / "regularizers.py"), run_name="__main__")
        text = page.read_text()
        assert text.startswith(before)
        assert text.endswith(after)
        assert (tmp_path / "regularizers.png").read_bytes().startswith(b"\x89PNG")
        expected = [(BASELINE, "ZeroshotCLIP"), (BASELINE, "CoOp")]
        expected += [(study, label) for study in asked for label in COMPARISONS[study]]
        written = tables(text.partition("<!-- tables: ")[2])
        assert [sorted(names(rows)) for rows in written] == [sorted(expected)] * 2
