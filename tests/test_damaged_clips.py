"""Folders with CLIPs of open_clip and transformers that are damaged: one line each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("open_clip")

from foreign_clips import open_clip_folder, transformers_folder

from sar.errors import SARError
from sar.toolbox.clip import catalogue, load_clip

OPEN_CLIP, CONFIG, PREPROCESSING = (
    "open_clip_config.json",
    "config.json",
    "preprocessor_config.json",
)
TOKENIZER = "tokenizer.json"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("open_clip", "clip", "siglip")}
    open_clip_folder(made["open_clip"])
    for kind in ("clip", "siglip"):
        transformers_folder(made[kind], kind)
        said = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
        (made[kind] / PREPROCESSING).write_text(json.dumps(said))
    return made


def problem(folder: Path) -> str:
    """What is said of the CLIP in a folder; empty: it can be used."""
    catalogue._foreign.cache_clear()
    try:
        load_clip(str(folder)).model.tokenizer.encode("a dog")
    except SARError as error:
        return str(error)
    return ""


def put(text: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(text)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def turned_into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def said(*place: str, value: Any) -> Callable[[Path], object]:
    """The same JSON with another value at a place."""

    def spoil(file: Path) -> None:
        tree = inner = json.loads(file.read_text())
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        file.write_text(json.dumps(tree))

    return spoil


MEANS: list[Any] = [[], "", {}, [0.5], ["a", "b", "c"], [1, 2, float("inf")], 0.5]
CASES: list[tuple[str, str, Callable[[Path], object]]] = [
    *((kind, file, spoil)
      for kind, file in (("open_clip", OPEN_CLIP), ("clip", CONFIG), ("siglip", CONFIG),
                         ("siglip", TOKENIZER), ("clip", PREPROCESSING), ("siglip", PREPROCESSING))
      for spoil in (pipe, turned_into_a_folder, put(""), put("[]"), put("null"), put("3"))),
    *(("open_clip", OPEN_CLIP, said(*place, value=value)) for place, value in (
        (("model_cfg",), {}), (("model_cfg", "text_cfg"), None), (("model_cfg", "embed_dim"), "x"),
        (("model_cfg", "vision_cfg", "width"), -1), (("model_cfg", "vision_cfg", "layers"), 0.5),
        (("model_cfg", "text_cfg", "heads"), 0), (("model_cfg", "vision_cfg", "image_size"), 0),
        (("preprocess_cfg",), []), (("preprocess_cfg", "mean"), []),
        (("preprocess_cfg", "mean"), [0.5, 0.5]), (("preprocess_cfg", "std"), [0.2, 0.2, 0]),
        (("preprocess_cfg", "std"), [0.2, 0.2, float("nan")]),
        (("preprocess_cfg", "mean"), "abc"))),
    *(("clip", CONFIG, said(*place, value=value)) for place, value in (
        (("text_config",), None), (("text_config", "hidden_act"), None), (("projection_dim",), -3),
        (("vision_config", "num_attention_heads"), 0), (("vision_config", "patch_size"), "x"),
        (("vision_config", "image_size"), [1]), (("model_type",), 3))),
    *(("siglip", PREPROCESSING, said("image_mean", value=mean)) for mean in MEANS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "file", "spoil"),
    CASES,
    ids=[f"{n} {kind} {file}" for n, (kind, file, _) in enumerate(CASES)],
)
def test_a_damaged_folder_is_one_line(
    folders: dict[str, Path], tmp_path: Path, kind: str, file: str, spoil: Callable[[Path], object]
) -> None:
    for path in folders[kind].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert not problem(tmp_path)
    spoil(tmp_path / file)
    found = problem(tmp_path)
    assert len(found) > 20
    assert "\n" not in found


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_place_that_is_no_file_is_one_line(tmp_path: Path, make: Callable[[str], None]) -> None:
    make(str(tmp_path / "clip.pt"))
    assert "clip.pt" in problem(tmp_path / "clip.pt")
