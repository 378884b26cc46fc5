"""``TRAINER.SAR.TEMPLATE descriptions``: the mean of each class's descriptions as the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_host import BASE, NOVEL, encode, started, tiny_clip, tiny_trainer, tokenize

from sar import encoding
from sar.classes.identity import prompt_name
from sar.config import add_sar_config, validate
from sar.errors import ConfigError, DataError
from sar.protocols.inputs import identify
from sar.reference import FrozenText, reference_of
from sar.toolbox.config import get_cfg_default

SENTENCES = {
    name: [f"{prompt_name(name)}, {'very ' * i}large." for i in range(1 + place % 3)]
    for place, name in enumerate([*BASE, *NOVEL])
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))


def described(folder: Path, classes: list[str], **more: Any) -> Path:
    file = folder / "described.json"
    content = {name: SENTENCES[name] for name in classes}
    file.write_text(json.dumps({"descriptions": content, **more} if more else content))
    return file


def test_it_is_the_mean_of_the_sentences_features(tmp_path, monkeypatch) -> None:
    file = described(tmp_path, [*BASE, *NOVEL])
    names = [NOVEL[3].upper(), *BASE]
    clip = tiny_clip().float()
    reference = reference_of(f"descriptions:{file}", "", encode)
    text = FrozenText(clip, encode, tokenize(["a"]))
    found = reference.embeddings(text, names)
    expected = [clip.encode_text(tokenize(SENTENCES[n])).mean(0) for n in (NOVEL[3], *BASE)]
    assert torch.allclose(found, torch.stack(expected), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(encoding, "_AT_ONCE", 3)
    monkeypatch.setenv("SAR_CACHE", "off")
    parts = reference.embeddings(text, names)
    assert torch.allclose(parts, found, rtol=1e-5, atol=1e-6)


def test_a_run_is_aligned_with_it_and_says_so(tmp_path, capsys) -> None:
    file = described(tmp_path, [*BASE, *NOVEL[:4]])
    trainer = started(tiny_trainer(tmp_path, TRAINER__SAR__TEMPLATE=f"descriptions:{file}"))
    printed = capsys.readouterr().out
    assert "SAR: 2 of 6 novel names have no description: left out" in printed
    assert "of 6 base and 4 novel ones" in printed
    assert f"reference: the mean of the descriptions of each class, {file}" in printed
    assert (
        len(trainer._injection.alignment.view) == len(trainer._injection.alignment.reference) == 10
    )
    assert trainer.forward_backward(next(iter(trainer.train_loader_x)))["loss_sar"] > 0


def test_a_file_with_novel_names_may_describe_them(tmp_path, capsys) -> None:
    base = described(tmp_path, BASE).rename(tmp_path / "base.json")
    novel = described(tmp_path, NOVEL, names=NOVEL)
    options = {
        "TRAINER__SAR__TEMPLATE": f"descriptions:{base}",
        "TRAINER__SAR__NOVEL": str(novel),
    }
    started(tiny_trainer(tmp_path, **options))
    assert "of 6 base and 6 novel ones" in capsys.readouterr().out


def test_without_any_description_of_novel_names_nothing_is_trained(tmp_path) -> None:
    source = f"descriptions:{described(tmp_path, BASE)}"
    with pytest.raises(DataError, match=r"describes none of the 6 novel names.*NOVEL none"):
        started(tiny_trainer(tmp_path, TRAINER__SAR__TEMPLATE=source))
    none = {"TRAINER__SAR__NOVEL": "none"}
    trainer = started(tiny_trainer(tmp_path, TRAINER__SAR__TEMPLATE=source, **none))
    assert len(trainer._injection.alignment.view) == len(BASE)


def test_a_base_class_without_description_is_named(tmp_path) -> None:
    source = f"descriptions:{described(tmp_path, [*BASE[1:], *NOVEL])}"
    with pytest.raises(DataError, match="without a description: 'abyssinian'"):
        started(tiny_trainer(tmp_path, TRAINER__SAR__TEMPLATE=source))


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("descriptions:nowhere.json", DataError, "nowhere.json"),
        ("descriptions:mine.yaml", ConfigError, "expected shipped, or a file"),
        ("description", ConfigError, '"descriptions", "descriptions:FILE"'),
    ],
)
def test_wrong_settings_are_found_before_anything_is_built(source, kind, message) -> None:
    cfg = get_cfg_default()
    add_sar_config(cfg)
    cfg.TRAINER.SAR.TEMPLATE = source
    with pytest.raises(kind, match=message):
        validate(cfg.TRAINER.SAR)


@pytest.mark.parametrize("key", ["TRAINER.SAR.TEMPLATE", "TRAINER.AAPE.DESCRIPTIONS"])
def test_a_file_that_was_changed_is_another_input(tmp_path, key) -> None:
    file = described(tmp_path, BASE)
    value = f"descriptions:{file}" if "SAR" in key else str(file)
    before = identify({key: value}, "", None)
    assert f"content of {key}" in before
    file.write_text(file.read_text().replace("large", "small"))
    assert identify({key: value}, "", None) != before
