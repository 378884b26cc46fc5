"""Causal language models of transformers behind `sarclip caption` and `sarclip vqa`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import shop
import torch
import torch.nn.functional as F

from sar.errors import WeightsError
from sar.tasks.language import LanguageModel
from sar.tasks.language_models import load_language_model
from sar.tasks.mapping import Settings, prefixes, train

pytestmark = pytest.mark.slow  # importing transformers takes seconds
WORDS = ("<end>", "a", "red", "cat", "dog", "sits", "on", "the", "mat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of a few words with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<end>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("gpt2")
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>")
    wrapped.save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_language_model(str(folder))


def test_it_is_what_transformers_loads(folder: Path, model: LanguageModel) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[0, *model.encode("the red cat")]])
    assert ids.tolist() == [[0, 7, 2, 3]]
    assert (model.width, model.length, model.start, model.end) == (16, 32, 0, 0)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(model.logits(model.embed(ids)), theirs(ids).logits, atol=1e-6)
        assert torch.allclose(model.logits(model.embed(ids), 3)[:, 0], theirs(ids).logits[:, 3])


def test_kept_keys_and_values_change_nothing(model: LanguageModel) -> None:
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 4, 16, generator=draws)
    found = model._continued(rows, 6)
    plain = LanguageModel._continued(model, rows, 6)
    for ours, theirs in zip(found.tolist(), plain.tolist(), strict=True):
        until = [ids[: ids.index(0)] if 0 in ids else ids for ids in (ours, theirs)]
        assert until[0] == until[1]


def test_a_mapping_learns_in_front_of_it(model: LanguageModel) -> None:
    images = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    captions = [["a red cat"], ["the dog"], ["a mat"], ["the cat sits on the mat"]]
    losses: list[str] = []
    settings = Settings(tokens=2, epochs=30, batch=4, lr=0.05)
    mapping = train(images, captions, model, settings, tell=losses.append)
    assert float(losses[-1].split()[-1]) < float(losses[0].split()[-1]) - 0.3
    assert prefixes(mapping, images, model.width).shape == (4, 2, 16)


@pytest.mark.parametrize("content", [None, {}, {"model_type": "clip"}, {"model_type": "nothing"}])
def test_what_is_no_language_model_is_one_line(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(json.dumps(content))
    words = ("caption", "train", "demo", "--lm", tmp_path, "--output", tmp_path / "out")
    assert shop.sarclip(*words) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{tmp_path} is no causal language model that transformers can load" in said


def test_without_an_end_of_text(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": None}))
    with pytest.raises(WeightsError, match="has no end of text"):
        load_language_model(str(tmp_path))
