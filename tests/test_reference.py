"""Frozen reference embeddings: what they are, and that keeping them on disk changes nothing."""

import copy
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_host import BASE, NOVEL, encode, tiny_clip, tiny_trainer, tokenize
from torch import Tensor, nn

from sar import reference
from sar.classes.templates import imagenet_templates
from sar.reference import FrozenText
from sar.toolbox.trainers.promptsrc import teacher_embeddings

NAMES = [*BASE, *NOVEL]
ENSEMBLE = ["a photo of a {}.", "a drawing of the {}, in the rain.", "{}"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reference"


def embed(clip: Any, templates: list[str] = ENSEMBLE, names: list[str] = NAMES) -> Tensor:
    return FrozenText(clip, encode, tokenize(["a"])).embeddings(names, templates)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_of_one_template_they_are_clips_own() -> None:
    prompts = tokenize([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    expected = tiny_clip().float().encode_text(prompts)
    half = tiny_clip()
    found = embed(half, ENSEMBLE[:1])
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert half.transformer.resblocks[0].mlp[0].weight.dtype == torch.float16


def test_of_an_ensemble_they_are_the_mean() -> None:
    expected = torch.stack([embed(tiny_clip(), [template]) for template in ENSEMBLE]).mean(dim=0)
    assert torch.equal(embed(tiny_clip()), expected)
    teacher = teacher_embeddings(tiny_clip().float(), NAMES)
    assert torch.equal(embed(tiny_clip(), imagenet_templates()), teacher)


def test_kept_or_not_they_are_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_state = torch.get_rng_state()
    cold = embed(tiny_clip())
    assert len(entries(folder)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(reference, "_embeddings", None)  # cannot be called
        warm = embed(tiny_clip())
    monkeypatch.setenv("SAR_CACHE", "off")
    assert torch.equal(cold, warm)
    assert torch.equal(cold, embed(tiny_clip()))
    assert torch.equal(random_state, torch.get_rng_state())


def _parameters(clip: Any) -> dict[str, nn.Parameter]:
    """The parameters of the text tower."""
    parts = ("transformer.", "ln_final.", "positional_embedding", "text_projection", "token_")
    return {name: p for name, p in clip.named_parameters() if name.startswith(parts)}


def test_everything_that_decides_them_is_in_the_key(folder: Path) -> None:
    clip = tiny_clip().float()
    embed(clip)
    tried = 1
    used = tokenize(NAMES).unique()
    for name, parameter in _parameters(clip).items():
        row = int(used[-2]) if name.startswith("token_") else -1
        with torch.no_grad():
            before = parameter[row].clone()
            parameter[row] += 0.25
            embed(clip)
            parameter[row] = before
        tried += 1
        assert len(entries(folder)) == tried, name
    for templates, names in [
        (ENSEMBLE[:2], NAMES),
        (ENSEMBLE[::-1], NAMES),
        (ENSEMBLE, NAMES[::-1]),
        (ENSEMBLE, NAMES[:-1]),
    ]:
        embed(clip, templates, names)
        tried += 1
        assert len(entries(folder)) == tried
    embed(clip)
    assert len(entries(folder)) == tried


def test_what_does_not_decide_them_is_not_in_the_key(folder: Path) -> None:
    clip = tiny_clip().float()
    embed(clip)
    with torch.no_grad():
        clip.visual.proj += 1
        clip.logit_scale += 1
        clip.token_embedding.weight[int(tokenize(["zebra"])[0, 1])] += 1
    clip.transformer.resblocks[1].VPT_shallow = nn.Parameter(torch.randn(2, 64))  # as MaPLe's
    embed(clip)
    assert len(entries(folder)) == 1


def test_a_damaged_entry_is_computed_again(folder: Path) -> None:
    expected = embed(tiny_clip())
    (file,) = entries(folder)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(embed(tiny_clip()), expected)
    assert torch.equal(embed(tiny_clip()), expected)


def _in_a_process(clip: Any, start: Any, answers: Any) -> None:
    computed = []
    compute = reference._embeddings
    reference._embeddings = lambda *args: computed.append(1) or compute(*args)
    start.wait()
    answers.put((embed(clip).tolist(), len(computed)))


def test_processes_at_the_same_time_compute_once(folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, answers = fork.Barrier(4), fork.SimpleQueue()
    run = (tiny_clip(), start, answers)
    processes = [fork.Process(target=_in_a_process, args=run) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    found = [answers.get() for _ in processes]
    assert sum(computed for _, computed in found) == 1
    assert len(entries(folder)) == 1
    assert all(torch.equal(torch.tensor(bits), embed(tiny_clip())) for bits, _ in found)


def test_training_is_the_same_with_and_without(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> dict[str, Tensor]:
        trainer = tiny_trainer(tmp_path, TRAINER__SAR__TEMPLATE="imagenet", OPTIM__MAX_EPOCH=1)
        trainer.train()
        state = copy.deepcopy(trainer.model.state_dict())
        return {**state, "random state": torch.get_rng_state()}

    cold, warm = train(), train()
    assert len(entries(folder)) == 1
    monkeypatch.setenv("SAR_CACHE", "off")
    for other in (warm, train()):
        assert cold.keys() == other.keys()
        assert all(torch.equal(cold[name], other[name]) for name in cold)
