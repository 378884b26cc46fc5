"""The list of mutations fits the program; whether tests notice them is tools/mutate.py's to say."""

import subprocess
import sys
from pathlib import Path

import mutate
import pytest
from marks import write_between

from sar.errors import DataError

ROOT = Path(__file__).parents[1]


def test_every_mutation_applies_in_one_place_and_is_still_python() -> None:
    found = mutate.mutations()
    assert len({one.what for one in found}) == len(found) >= 40
    for one in found:
        path, text = one.apply(ROOT)
        assert text != path.read_text(), one.what
        compile(text, str(path), "exec")
        assert Path(ROOT, one.tests[0].partition("::")[0]).is_file(), one.tests


def test_the_page_tells_of_the_mutations_that_there_are() -> None:
    text = mutate.table(mutate.mutations(), mutate.Found())
    assert f"{mutate.BEGIN}\n{text}{mutate.END}\n" in mutate.PAGE.read_text("utf-8"), (
        "python tools/mutate.py --go-on"
    )


def test_a_tree_is_tested_by_a_process_that_has_not_imported_another_one() -> None:
    asked = "import sys, mutate; print([name for name in sys.modules if name == 'sar'])"
    said = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[]\n"


def test_what_is_found_is_kept_and_shown_by_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "FOUND", tmp_path / "found.jsonl")
    monkeypatch.setattr(mutate, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(f"before\n{mutate.BEGIN}\nold\n{mutate.END}\nafter\n")
    every = [
        mutate.Mutation(area, f"{area} {i}", "a.py", ("x",), (), ("tests/test_a.py",))
        for area in ("loss", "data")
        for i in range(2)
    ]
    found = mutate.Found()
    for one, test in ((every[0], ""), (every[2], ""), (every[0], "tests/test_a.py::test_b")):
        found.add(one, test)
    again = mutate.Found()
    assert [again.of(one) for one in every] == ["tests/test_a.py::test_b", None, "", None]
    assert again.of(every[0]._replace(becomes=("y",))) is None
    mutate.write_page(every, again)
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == 2
    assert mutate.table(every, mutate.Found()) == mutate.table(every, again)
    assert (tmp_path / "page.md").read_text().splitlines() == [
        "before",
        mutate.BEGIN,
        "4 mutations, 2 tried, 1 caught.",
        "",
        "| area | mutations | tried | caught by |",
        "|---|---|---|---|",
        "| loss | 2 | 1 | `tests/test_a.py` |",
        "| data | 2 | 1 |  |",
        "",
        "- Not caught: data 0 (`a.py`)",
        mutate.END,
        "after",
    ]


def test_a_line_that_is_gone_or_not_alone_is_named(tmp_path: Path) -> None:
    one = mutate.Mutation("data", "a thing", "*.py", ("x = 1",), ("x = 2",), ())
    with pytest.raises(ValueError, match=r"'a thing' no longer applies: .* 0 places"):
        one.apply(tmp_path)
    (tmp_path / "a.py").write_text("if True:\n    x = 1\n")
    assert one.apply(tmp_path) == (tmp_path / "a.py", "if True:\n    x = 2\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="2 places"):
        one.apply(tmp_path)


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("nothing\n", "<b>\nhalf\n", "<e>\n<b>\nthe wrong way round\n"):
        page.write_text(text)
        with pytest.raises(DataError, match="lacks the marks <b> and <e>"):
            write_between(page, "<b>", "<e>", "new\n")
        assert page.read_text() == text
