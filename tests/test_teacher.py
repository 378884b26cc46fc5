"""Teachers other than the text encoder, and the controls."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from first_step import NAMES, start, texts
from safetensors.torch import save_file
from tiny_host import BASE, ON_CHECKOUT, tiny_clip
from torch import Tensor

from sar import teacher as teachers
from sar.classes.novel_names import novel_names, read_names, shipped_datasets
from sar.errors import DataError, HostError, WeightsError
from sar.teacher import SHIPPED_SENTENCES, read_embeddings, teacher_features


def reference(trainer: Any) -> Tensor:
    found: Tensor = trainer._injection.alignment.reference
    return found


def cosines(features: Tensor) -> Tensor:
    unit = F.normalize(features)
    return unit @ unit.T


def unused() -> Tensor:
    pytest.fail("text was encoded for a teacher with features of its own")


def test_shuffled_is_text_with_the_classes_exchanged(tmp_path: Path) -> None:
    """By the seed alone, and the same to any host and every step."""
    text = reference(start(tmp_path))
    found = [reference(start(tmp_path, TEACHER="shuffled")) for _ in range(2)]
    assert torch.equal(*found)
    order = [int((text - row).norm(dim=1).argmin()) for row in found[0]]
    assert sorted(order) == list(range(len(text)))
    assert all(i != place for i, place in enumerate(order))
    assert torch.equal(found[0], text[order])
    other = teacher_features("shuffled", lambda: text, NAMES, 2, None, None)
    assert not torch.equal(other, found[0])
    both = torch.stack([text, 2 * text])
    several = teacher_features("shuffled", lambda: both, NAMES, 1, None, None)
    assert torch.equal(several[1], 2 * found[0])


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_no_class_keeps_its_own_features_when_shuffled(n: int) -> None:
    text, orders = torch.arange(n)[:, None], set()
    for seed in range(40):
        order = teacher_features("shuffled", lambda: text, [""] * n, seed, None, None)[:, 0]
        assert sorted(order.tolist()) == list(range(n))
        assert (order != text[:, 0]).all()
        orders.add(tuple(order.tolist()))
    assert len(orders) >= {2: 1, 3: 2}.get(n, 20)


def test_constant_is_every_pair_at_the_mean_cosine_of_text(tmp_path: Path) -> None:
    text, n = texts("a photo of a {}."), len(NAMES)
    apart = ~torch.eye(n, dtype=torch.bool)
    mean = cosines(text)[apart].mean()
    found = cosines(reference(start(tmp_path, TEACHER="constant")))
    torch.testing.assert_close(found[apart], mean.expand(n * (n - 1)), rtol=1e-3, atol=1e-3)
    opposed = torch.tensor([[1.0, 0.0], [-1.0, 0.1]])
    negative = teacher_features("constant", lambda: opposed, NAMES[:2], 1, None, None)
    assert cosines(negative)[0, 1] == pytest.approx(0, abs=1e-6)


def test_images_are_the_means_of_each_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "_BATCH", 5)
    trainer = start(tmp_path, TEACHER="images", NOVEL="none")
    data = trainer.dm.train_loader_x.dataset
    visual = tiny_clip().float().visual
    sums: list[list[Tensor]] = [[] for _ in BASE]
    for i, item in enumerate(data.data_source):
        with torch.no_grad():
            sums[item.label].append(F.normalize(visual(data[i]["img"][None]))[0])
    expected = torch.stack([torch.stack(of_one).mean(dim=0) for of_one in sums])
    torch.testing.assert_close(reference(trainer), expected, rtol=1e-3, atol=1e-4)
    assert all(not p.requires_grad or p.grad is None for p in trainer._clip.visual.parameters())
    batch = next(iter(trainer.train_loader_x))
    assert trainer.forward_backward(batch)["loss_sar"] > 0


@pytest.mark.skipif(ON_CHECKOUT, reason="of the embedded trainers' image encoders")
def test_images_need_an_encoder_without_prompts(tmp_path: Path) -> None:
    trainer = start(tmp_path, TEACHER="images", NOVEL="none")
    for kind in ("takes prompts", "has prompts"):
        clip = tiny_clip().float()
        if kind == "has prompts":
            clip.visual.VPT = torch.nn.Parameter(torch.zeros(2, 64))
        else:
            clip.visual.forward = lambda image, prompt: image
        with pytest.raises(HostError, match="plain image encoder"):
            teacher_features("images", unused, BASE, 1, clip, trainer.dm)
    with pytest.raises(DataError, match=r"images of all 12 classes.*some of 6"):
        teacher_features("images", unused, NAMES, 1, tiny_clip(), trainer.dm)


def test_embeddings_of_a_file_are_found_by_name(tmp_path: Path) -> None:
    file, rows = tmp_path / "own.safetensors", torch.randint(-127, 128, (20, 5), dtype=torch.int8)
    spelled = [name.title().replace(" ", "_") for name in reversed(NAMES)] + [
        f"x{i}" for i in "abcdefgh"
    ]
    save_file({"embeddings": rows}, file, {"names": json.dumps(spelled)})
    found = reference(start(tmp_path, TEACHER=str(file)))
    assert torch.equal(found, rows[: len(NAMES)].flip(0).float())
    with pytest.raises(DataError, match="no embedding of 1 of 2 classes: 'yak'"):
        read_embeddings(file, [NAMES[0], "yak"])


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    damaged, pipe = tmp_path / "damaged.safetensors", tmp_path / "pipe.safetensors"
    damaged.write_bytes(b"no tensors")
    os.mkfifo(pipe)
    files = [damaged, pipe, tmp_path / "missing.safetensors"]
    for rows, said in (
        (torch.zeros(3, 2), {"names": '["one"]'}),
        (torch.zeros(2, 2), {"names": '["one", "One"]'}),
        (torch.zeros(1, 2), {"names": "[1]"}),
        (torch.zeros(1, 2), {"names": "["}),
        (torch.zeros(1, 2), {"other": "x"}),
        (torch.full((1, 2), float("nan")), {"names": '["one"]'}),
    ):
        files.append(tmp_path / f"{len(files)}.safetensors")
        save_file({"embeddings": rows}, files[-1], said)
    for file in files:
        with pytest.raises((DataError, WeightsError), match=rf"{file.name} (cannot be|is damaged)"):
            read_embeddings(file, ["one"])


def test_shipped_sentences_know_every_demo_name_and_mean_something() -> None:
    for dataset in (name for name in shipped_datasets() if name.startswith("Demo")):
        novel, base = read_names(SHIPPED_SENTENCES.parent / "novel" / f"{dataset}.json")
        names = base + novel + novel_names("words:400", dataset, base)
        assert read_embeddings(SHIPPED_SENTENCES, names).shape == (len(names), 384)
    near = cosines(read_embeddings(SHIPPED_SENTENCES, ["violin", "cello", "hammer"]))
    assert near[0, 1] > near[0, 2] + 0.2
