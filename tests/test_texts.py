"""Files of text are read whole, or refused in one line that names them."""

import os
from pathlib import Path

import pytest
import yaml

from sar.errors import ConfigError, DataError
from sar.storage.texts import parse_yaml, read_json, read_text, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize("text", ["a: 1\n", "\ufeffa: 1\r\n", "a: &x [1, 2]\nb: *x\n", ""])
def test_what_is_yaml_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml") == yaml.safe_load(text.removeprefix("\ufeff"))


def test_a_pointer_of_git_lfs_is_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("version https://git-lfs.github.com/spec/v1\nsize 12\n")
    with pytest.raises(DataError, match=r"names.txt is a pointer of Git LFS.*git lfs pull"):
        read_text(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is there twice"),
        ("x: {a: 1, a: 1}\n", "'a' is there twice"),
        ("a: [", "flow"),
        ("a: 2001-99-99", "month"),
        ("a: !!int b", "invalid literal"),
        ("? {a: 1}\n: 2\n", "unhashable"),
        ("a: &x [*x]\n", "anchors"),
        (LAUGHS, "anchors"),
        ("[" * 100_000, "nesting"),
        ("a: !!python/object/apply:os.system [true]", "python/object"),
        ("a\0b", "special characters|control characters"),
    ],
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"^cannot read {file}: [^\n]*({said})[^\n]*; a tree$"):
        read_yaml(file, "a tree", ConfigError)
    with pytest.raises(DataError, match=rf"^cannot read it: [^\n]*({said})"):
        parse_yaml(text, "it")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000, ""])
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DataError, match=rf"^cannot read {file}: [^\n]+$"):
        read_json(file)


def test_what_is_no_text_or_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "latin": "utf-8",
        "folder": "directory",
        "pipe": "pipe",
        "none": "No such file",
    }.items():
        with pytest.raises(DataError, match=f"cannot read .*{name}: .*{said}"):
            read_text(tmp_path / name)
