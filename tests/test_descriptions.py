"""Descriptions of classes: the files they are read from, and what is refused."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.classes.descriptions import (
    described_datasets,
    find,
    load_descriptions,
    of_every,
    read_descriptions,
    shipped_descriptions,
)
from sar.classes.identity import identity, prompt_name
from sar.classes.names import class_names, known_datasets
from sar.errors import ConfigError, DataError
from sar.toolbox.clip import tokenizer
from sar.toolbox.data.datasets import demo

ROOT = Path(__file__).parents[1]

CATS = {"persian cat": ["long white fur.", "a flat face."], "sphynx": ["a cat without fur."]}


def _written(folder: Path, text: str | bytes, suffix: str = ".json") -> Path:
    file = folder / f"described{suffix}"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def descriptions_of(names: list[str], *source: Any) -> list[list[str]]:
    return of_every(names, *load_descriptions(*source))


LAYOUTS = [
    (".json", json.dumps(CATS)),
    (".json", json.dumps({"dataset": "Cats", "made_by": "us", "descriptions": CATS})),
    (".txt", "# ours\npersian cat: long white fur.\n\nsphynx\ta cat without fur.\n"
             "Persian_Cat:  a flat\tface.\n".replace("flat\tface", "flat face")),
    (".csv", 'id,Class,Description\n1,persian cat,long white fur.\n2,sphynx,a cat without fur.\n'
             '3,persian cat,"a flat face."\n'),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "text"), LAYOUTS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_layouts(suffix: str, text: str, mark: str, tmp_path: Path) -> None:
    assert read_descriptions(_written(tmp_path, mark + text, suffix)) == CATS


def test_a_tab_parts_names_with_colons(tmp_path: Path) -> None:
    file = _written(tmp_path, "alien: the film\tteeth.\n", ".txt")
    assert read_descriptions(file) == {"alien: the film": ["teeth."]}


def test_blanks_and_repetitions_are_left_out(tmp_path: Path) -> None:
    file = _written(
        tmp_path, json.dumps({"owl": ["\n\nBig  eyes.", "Big eyes.", " ", "Feathers."]})
    )
    assert read_descriptions(file) == {"owl": ["Big eyes.", "Feathers."]}


_names = st.text(string.ascii_letters + " -_", min_size=1, max_size=20).filter(identity)
_sentences = st.lists(st.text(string.printable).filter(str.strip), min_size=1, max_size=4)


@given(
    st.lists(
        st.tuples(_names, _sentences), min_size=1, max_size=5, unique_by=lambda p: identity(p[0])
    )
)
def test_every_class_is_found_with_its_own_sentences(tmp_path_factory, described) -> None:
    file = _written(tmp_path_factory.mktemp("d"), json.dumps(dict(described)))
    for (name, sentences), found in zip(
        described, descriptions_of([n.upper() for n, _ in described], str(file), ""), strict=True
    ):
        assert set(found) == {" ".join(s.split()) for s in sentences}, name


BAD = [
    (".json", "[]", "no object"),
    (".json", "{", "Expecting property name"),
    (".json", "{}", "describes no class"),
    (".json", '{"descriptions": {}}', "describes no class"),
    (".json", '{"owl": "Big eyes."}', "'owl' is not a list of sentences"),
    (".json", '{"owl": [1]}', "'owl' is not a list of sentences"),
    (".json", '{"owl": {"a": "b"}}', "'owl' is not a list of sentences"),
    (".json", '{"owl": []}', "'owl' has 0 different descriptions"),
    (".json", '{"owl": [" "]}', "'owl' has 0 different descriptions"),
    (".json", json.dumps({"owl": [f"Owl {i}." for i in range(10_000)]}), "10,000 different"),
    (".json", json.dumps({"owl": ["hoo " * 300]}), "a description of 1,199 characters"),
    (".txt", "owl: it hoots.\n" + "x" * 1001 + "owl: big eyes.\n", "a name of 1,004 characters"),
    (".txt", "owl: it\0hoots.\n", "a control character"),
    (".json", json.dumps({"o\x1bwl": ["it hoots."]}), "a control character"),
    (".txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    (".json", '{"owl": ["a"], "owl": ["b"]}', "'owl' and 'owl' are one class"),
    (".json", '{"night-owl": ["a"], "Night owls": ["b"]}', "are one class, there twice"),
    (".json", '{" ": ["a"]}', "a class has no name"),
    (".json", '{"owl": ["\\ud800"]}', "surrogates not allowed"),
    (".json", "[" * 100_000, "maximum recursion depth"),
    (".json", '{"eagle owl": ["\u00e4hnlich"]}'.encode("latin-1"), "utf-8"),
    (".json", json.dumps(CATS).encode("utf-16"), "utf-8"),
    (".txt", "owl\n", "'owl' has neither a colon nor a tab"),
    (".txt", "owl:\n", "'owl' has 0 different descriptions"),
    (".txt", "# nothing\n", "describes no class"),
    (".csv", "class,label\nowl,x\n", "'class,label', in which none or several of caption"),
    (".csv", "", "none or several"),
    (".yaml", "owl: x", "another suffix"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "text", "said"), BAD)
def test_bad_files_get_one_clear_line(suffix, text, said, tmp_path: Path) -> None:
    file = _written(tmp_path, text, suffix)
    with pytest.raises(DataError) as caught:
        read_descriptions(file)
    message = str(caught.value)
    assert said in message
    assert str(file) in message
    assert "expected UTF-8" in message
    assert "\n" not in message
    assert len(message) < 700


def test_missing_classes_are_named(tmp_path: Path) -> None:
    file = _written(tmp_path, json.dumps(CATS))
    wanted = ["Sphynx", "persian-cat", *(f"breed {i}x" for i in range(12))]
    with pytest.raises(
        DataError, match=r"describes 2 of 14 classes.*'breed 0x', .*'breed 9x', \.\.\."
    ) as e:
        descriptions_of(wanted, str(file), "Cats")
    assert "breed 10x" not in str(e.value)


def test_sentences_too_long_for_clip_are_found(tmp_path: Path) -> None:
    file = _written(tmp_path, json.dumps({"owl": ["Big eyes.", "big " * 75]}))
    assert descriptions_of(["owl"], str(file), "")
    assert len(tokenizer.encode("big " * 75)) == 75
    assert descriptions_of(["owl"], str(file), "", tokenizer.encode)
    file = _written(tmp_path, json.dumps({"owl": ["Big eyes.", "big " * 76]}))
    with pytest.raises(DataError, match="'owl' in a sentence of 78 tokens"):
        descriptions_of(["owl"], str(file), "", tokenizer.encode)


@pytest.mark.parametrize("source", ["", "mine", "mine.yaml"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="expected shipped, or a file"):
        descriptions_of(["owl"], source, "")


def test_a_missing_file_and_a_dataset_without_any() -> None:
    with pytest.raises(DataError, match="No such file"):
        descriptions_of(["owl"], "nowhere.json", "")
    with pytest.raises(DataError, match="No descriptions are shipped for the dataset 'Owls'"):
        descriptions_of(["owl"], "shipped", "Owls")


def test_names_without_descriptions_are_left_empty() -> None:
    assert find(["SPHYNX", "manx"], CATS) == [CATS["sphynx"], []]


@pytest.mark.parametrize("dataset", described_datasets())
def test_shipped_ones_describe_every_class_and_novel_name(dataset: str) -> None:
    names = class_names(dataset) if dataset in known_datasets() else demo.class_names(dataset)
    shipped = json.loads((ROOT / f"sar/classes/novel/{dataset}.json").read_text("utf-8"))["names"]
    found = descriptions_of([*names, *shipped], "shipped", dataset, tokenizer.encode)
    assert min(map(len, found)) >= 5
    file = ROOT / "sar" / "classes" / "descriptions" / f"{dataset}.json"
    content = json.loads(file.read_text("utf-8"))
    assert content["dataset"] == dataset
    assert "large language model" in content["made_by"]
    assert "copy no published collection" in content["prompt"]
    assert list(content["descriptions"]) == sorted(content["descriptions"])
    written = {prompt_name(name): of_one for name, of_one in content["descriptions"].items()}
    assert written == shipped_descriptions(dataset)  # nothing blank or repeated


def test_what_is_shipped_serves_the_other_order_of_the_classes() -> None:
    assert shipped_descriptions("DemoFoodKin") == shipped_descriptions("DemoFood")


def test_a_record_may_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "cats.yaml"
    record.write_text("DATASET: {NAME: Cats}\nRECORD: {descriptions: cats.json}\n")
    (tmp_path / "cats.json").write_text(json.dumps(CATS))
    monkeypatch.setattr("sar.settings.dataset_records._used", [record])
    assert descriptions_of(["sphynx"], "shipped", "Cats") == [CATS["sphynx"]]
