"""`sarclip retrieval`: recall as it is counted elsewhere, caption files, the demo set, AAPE."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shop
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from sar import cli
from sar.classifier.recipe import read_run
from sar.errors import ConfigError, DataError, WeightsError
from sar.tasks import adapter, recall
from sar.tasks.adapter import (
    RECORD,
    WEIGHTS,
    Adapter,
    Settings,
    _contrast,
    load_adapter,
    save_adapter,
    train,
)
from sar.tasks.captioned import demo_set, read_captioned
from sar.tasks.encoder import Encoder, Features
from sar.tasks.recall import KS, recalls
from sar.toolbox.clip.tokens import OPENAI
from sar.toolbox.data.datasets import demo

# --- recall --------------------------------------------------------------------------------------


def brute_force(images: Tensor, captions: Tensor, owner: Tensor, k: int) -> tuple[float, float]:
    """The definitions in words, with sorting."""
    found = []
    for i, image in enumerate(images):
        order = sorted(range(len(captions)), key=lambda j: -float(image @ captions[j]))
        found.append(any(owner[j] == i for j in order[:k]))
    mine = []
    for j, caption in enumerate(captions):
        order = sorted(range(len(images)), key=lambda i: -float(images[i] @ caption))
        mine.append(int(owner[j]) in order[:k])
    return 100 * sum(found) / len(found), 100 * sum(mine) / len(mine)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=15), st.integers(0, 10**6))
def test_recall_is_what_a_brute_force_count_gives(counts: list[int], seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    owner = owner[torch.randperm(len(owner), generator=draws)]
    images, captions = (
        torch.randn(n, 4, generator=draws).double() for n in (len(counts), len(owner))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall, "_AT_ONCE", 4)
        found = recalls(images, captions, owner)
    expected = [brute_force(images, captions, owner, k) for k in KS]
    assert found.image_to_text == pytest.approx([one for one, _ in expected])
    assert found.text_to_image == pytest.approx([one for _, one in expected])
    assert found.rsum == pytest.approx(sum(map(sum, expected)))


def test_recall_by_hand() -> None:
    images = torch.eye(2)
    captions = torch.tensor([[1.0, 0.0], [0.1, 0.9], [0.6, 0.5]])
    # Image 0 finds caption 0 first; image 1 finds caption 1, which is image 0's.
    found = recalls(images, captions, torch.tensor([0, 0, 1]))
    assert found.image_to_text == (50, 100, 100)
    assert found.text_to_image[0] == pytest.approx(100 / 3)


def test_equal_scores_count_against_a_hit() -> None:
    same = torch.ones(20, 3)
    found = recalls(same, same, torch.arange(20))
    assert found.rsum == 0


# --- files ---------------------------------------------------------------------------------------

COCO = {
    "dataset": "coco",
    "images": [
        {"filepath": "val2014", "filename": "a.png", "split": "test", "cocoid": 1, "sentences": [
            {"raw": "A dog.\n", "tokens": ["a", "dog"]}, {"raw": "A red  thing.", "tokens": []}]},
        {"filepath": "train2014", "filename": "b.png", "split": "train", "cocoid": 2, "sentences": [
            {"raw": "A cat.", "tokens": []}]},
        {"filepath": "val2014", "filename": "c.png", "split": "restval", "cocoid": 3, "sentences": [
            {"raw": "A hat.", "tokens": []}]},
    ],
}  # fmt: skip
FLICKR = {
    "dataset": "flickr30k",
    "images": [{"filename": "a.png", "split": "test", "imgid": 0, "sentids": [0], "sentences": [
        {"raw": "Two men.", "imgid": 0, "sentid": 0, "tokens": ["two", "men"]}]}],
}  # fmt: skip
CAPTIONS = {
    "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "none.png"}],
    "annotations": [{"image_id": 7, "id": 1, "caption": "A dog."}, {"image_id": 7, "id": 2,
                                                                  "caption": "A red thing."}],
}  # fmt: skip


def written(folder: Path, content: Any, *images: str) -> Path:
    for number, name in enumerate(images):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (200, 60 * number, 30)).save(folder / name)
    file = folder / "captions.json"
    file.write_text(json.dumps(content))
    return file


def test_karpathys_coco(tmp_path: Path) -> None:
    names = ["val2014/a.png", "train2014/b.png", "val2014/c.png"]
    file = written(tmp_path, COCO, *names)
    data = read_captioned(str(file), "test")
    assert data.images == [tmp_path / names[0]]
    assert data.captions == [["A dog.", "A red thing."]]
    both = read_captioned(str(file), "train+restval")
    assert both.images == [tmp_path / name for name in names[1:]]
    assert list(both.concepts) == [0, 1]
    with pytest.raises(ConfigError, match="no split 'val'; expected one of restval, test, train"):
        read_captioned(str(file), "val")


def test_karpathys_flickr30k_and_cocos_own(tmp_path: Path) -> None:
    file = written(tmp_path, FLICKR, "flickr30k-images/a.png")
    folder = tmp_path / "flickr30k-images"
    assert read_captioned(str(file), "test", folder).captions == [["Two men."]]
    with pytest.raises(DataError, match=r"1 of 1 images .* are not there.*give .* --images"):
        read_captioned(str(file), "test")
    file = written(tmp_path, CAPTIONS)
    data = read_captioned(str(file), "val2014", folder)
    assert (data.images, data.captions) == ([folder / "a.png"], [["A dog.", "A red thing."]])


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"pictures": []},
        {"images": [{"filename": "a.png"}]},
        {"images": [{"filename": "a.png", "split": "test", "sentences": [{"text": "x"}]}]},
        {"images": [{"filename": "a.png", "split": "test", "sentences": []}]},
        {"images": [{"filename": "a.png", "split": "test", "sentences": [{"raw": " "}]}]},
        {"images": [{"filename": "a.png", "split": "test", "sentences": [{"raw": 5}]}]},
        {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "x"}]},
        {"images": [], "annotations": []},
        {
            "images": [{"id": 1, "file_name": 5}],
            "annotations": [{"image_id": 1, "caption": "x"}],
        },
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"image_id": i, "caption": "x"} for i in (1, 2)],
        },
        {
            "images": [
                {"filename": "a.png", "split": s, "sentences": [{"raw": "x"}]}
                for s in ("test", True)
            ]
        },
        None,
        "images",
    ],
)
def test_other_files_get_one_line(tmp_path: Path, content: Any) -> None:
    file = written(tmp_path, content, "a.png")
    with pytest.raises(DataError) as caught:
        read_captioned(str(file), "test")
    assert "\n" not in str(caught.value)


def test_long_captions_are_cut_behind_a_word() -> None:
    encoder: Any = SimpleNamespace(tokenizer=OPENAI)
    long = "big " * 74 + "red-hot dog"
    assert len(OPENAI.encode(long)) == 78
    assert Encoder._cut(encoder, long) == "big " * 73 + "big"
    assert Encoder._cut(encoder, "a  red dog") == "a red dog"
    assert 0 < len(OPENAI.encode(Encoder._cut(encoder, "x" * 5000))) <= 75


# --- the demo set --------------------------------------------------------------------------------


def test_the_demo_set_is_split_by_concept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DATASETS", ("DemoFood", "DemoNature"))
    trained, tested = (demo_set("duotone", split, tmp_path) for split in ("train", "test"))
    assert not {*trained.concepts} & {*tested.concepts}
    assert len({*tested.concepts}) == len(tested.images)
    assert len({*trained.concepts}) <= len(trained.images)
    assert {len(captions) for captions in (*trained.captions, *tested.captions)} == {5}
    assert all(image.is_file() for image in (*trained.images, *tested.images))
    with pytest.raises(ConfigError, match=r"demo set 'flat', .* line, filled, duotone, colour"):
        demo_set("flat", "test")


# --- AAPE ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features() -> Features:
    """Captions are images turned by a fixed rotation, so that there is something to learn."""
    draws = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(40, 32, generator=draws), dim=1)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=draws))[0]
    counts = torch.tensor([3, 2] * 20)
    captions = (images @ turn).repeat_interleave(counts, dim=0)
    captions = F.normalize(captions + 0.05 * torch.randn(captions.shape, generator=draws), dim=1)
    return Features(images, captions, counts, torch.arange(40))


@pytest.mark.parametrize("combine", ["add", "replace"])
def test_an_untrained_one_is_clip(features: Features, combine: str) -> None:
    found = Adapter(32, combine)(features.images)
    assert torch.allclose(found, features.images, atol=1e-6)


@pytest.mark.parametrize("aggregator", ["attention", "mlp", "mean", "random"])
def test_it_learns_what_captions_say(features: Features, aggregator: str) -> None:
    before = recalls(features.images, features.captions, features.owner).rsum
    state = torch.get_rng_state()
    settings = Settings(combine="replace", aggregator=aggregator, epochs=15, batch=16, lr=0.01)
    losses: list[str] = []
    trained = train(features, settings, 20.0, losses.append)
    again = train(features, settings, 20.0, losses.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[:15] == losses[15:]
    with torch.no_grad():
        found = trained(features.images)
        assert torch.equal(found, again(features.images))
    assert recalls(found, features.captions, features.owner).rsum > before + 50


@pytest.mark.parametrize(("reward", "distill"), [(0.0, 0.0), (2.0, 0.5)])
def test_the_loss_of_the_first_epoch_is_that_of_the_formula(reward: float, distill: float) -> None:
    """Of one batch, before a step: p is f, and the summary of one caption is that caption."""
    draws = torch.Generator().manual_seed(0)
    images, captions = (F.normalize(torch.randn(6, 16, generator=draws), dim=1) for _ in "ab")
    features = Features(images, captions, torch.ones(6, dtype=torch.long), torch.arange(6))
    weights: Any = {"reward_weight": reward, "distill_weight": distill, "distance": "l2"}
    lines: list[str] = []
    train(features, Settings("replace", "mean", epochs=1, **weights), 5.0, lines.append)
    logits, own = 5.0 * images @ captions.t(), torch.arange(6)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2
    expected += reward * (1 - (images * captions).sum(dim=1)).mean()
    expected += distill * (images - captions).norm(dim=1).mean()
    assert lines == [f"epoch 1/1: loss {expected:.4f}"]


def test_any_caption_of_an_image_is_drawn(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[int] = set()

    def contrast(images: Tensor, captions: Tensor, *given: Any) -> Tensor:
        drawn.update((captions @ features.captions.t()).argmax(dim=1).tolist())
        return _contrast(images, captions, *given)

    monkeypatch.setattr(adapter, "_contrast", contrast)
    train(features, Settings(epochs=20, batch=40, aggregator="mean"), 20.0, lambda line: None)
    assert drawn == {*range(len(features.captions))}


def test_captions_of_the_same_concept_are_no_mistake() -> None:
    images = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    same = torch.zeros(4, dtype=torch.long)
    assert _contrast(images, images, same, 10.0) == 0
    assert _contrast(images, images, torch.arange(4), 10.0) > 0


def test_it_is_kept_and_fits_its_own_clip_alone(tmp_path: Path, features: Features) -> None:
    settings = Settings(combine="replace", epochs=1)
    adapter = train(features, settings, 20.0, lambda line: None)
    encoder: Any = SimpleNamespace(name="tiny", content="abc", dim=features.images.shape[1])
    save_adapter(adapter, tmp_path, encoder, settings, "mine")
    found = load_adapter(tmp_path, encoder)
    with torch.no_grad():
        assert torch.equal(found(features.images), adapter(features.images))
    other: Any = SimpleNamespace(name="ViT-B/16", content="abd")
    with pytest.raises(WeightsError, match="trained on another CLIP than ViT-B/16"):
        load_adapter(tmp_path, other)
    record = json.loads((tmp_path / RECORD).read_text())
    record["settings"]["combine"] = "add"
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"adapter\.json was changed after"):
        load_adapter(tmp_path, encoder)
    state = load_file(tmp_path / WEIGHTS)
    save_file(state, tmp_path / WEIGHTS)  # without hashes, as earlier versions wrote it
    for text, message in (
        ("{}", "describes no adapter"),
        (json.dumps({**record, "settings": {"combine": "none"}}), "combine is 'none', expected"),
    ):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(DataError, match=message):
            load_adapter(tmp_path, encoder)
    (tmp_path / RECORD).write_text(json.dumps(record))
    for name, value, message in (
        ("generator.linear1.bias", torch.zeros(3), r"has shape \(3,\)"),
        ("generator.linear1.bias", torch.full((8,), float("nan")), "is NaN or infinite"),
        ("generator.linear1.bias", torch.zeros(8).bool(), "holds no weights"),
        ("more", torch.zeros(1), "more is unexpected"),
    ):
        save_file({**state, name: value}, tmp_path / WEIGHTS)
        with pytest.raises(WeightsError, match=message):
            load_adapter(tmp_path, encoder)


def test_the_commands(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))
    file = written(tmp_path, COCO, "val2014/a.png", "train2014/b.png", "val2014/c.png")
    options = ["--split", "test+train+restval"]
    steps = [
        ["train", str(file), *options, "--output", str(tmp_path / "aape"), "--epochs", "1"],
        ["evaluate", str(file), *options, "--aape", str(tmp_path / "aape"),
         "--output", str(tmp_path / "recall.json")],
    ]  # fmt: skip
    for step in steps:
        with pytest.raises(SystemExit) as done:
            cli.main(["retrieval", *step])
        assert done.value.code == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "3 images, 4 captions" in printed
    content = json.loads((tmp_path / "recall.json").read_text())
    assert list(content["recall"]) == ["CLIP", f"AAPE {tmp_path / 'aape'}"]
    figures = content["recall"]["CLIP"]
    assert figures["image_to_text"][1:] == [100, 100]  # fewer than five candidates
    assert figures["rsum"] == sum(figures["image_to_text"]) + sum(figures["text_to_image"])


def test_the_generator_of_a_classifier(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))
    root = shop.write_pictures(tmp_path / "shop")
    file = written(tmp_path, COCO, "val2014/a.png", "train2014/b.png", "val2014/c.png")
    run, other = (shop.train(root, tmp_path / name, name) for name in ("AAPE", "CoOp"))
    assert shop.sarclip("retrieval", "evaluate", file, "--aape", run) == 0
    assert f"| AAPE {run} |" in capsys.readouterr().out
    learned = read_run(run)[0].learned["prompt_learner.generator.linear1.weight"]
    found = load_adapter(run, Encoder("pocket"), "replace")
    assert torch.equal(found.generator.linear1.weight, learned)
    assert shop.sarclip("retrieval", "evaluate", file, "--aape", other) == 1
    assert "CoOp, which generates no prompt embeddings" in capsys.readouterr().err
