"""mix:N: names of mixtures, their tokens, and a training with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from first_step import start
from tiny_host import BASE, tiny_clip, tokenizer
from torch import Tensor

from sar.classes.mixtures import Mixture, mixtures, parted
from sar.classes.novel_names import load_novel
from sar.errors import ConfigError
from sar.mixing import mixing
from sar.reference import FrozenText

LIKE = torch.zeros(1, 77, dtype=torch.long).index_fill_(1, torch.tensor([0]), 49406)
LIKE[0, 1] = 49407


def test_names_are_of_the_base_classes_and_the_seed_alone() -> None:
    found = load_novel("mix:40", "any", BASE, seed=3).names
    assert found == load_novel("mix:40", "another", BASE, seed=3).names
    assert found != mixtures(BASE, 40, seed=4)
    assert len(set(found)) == 40
    known = {name.replace("_", " ") for name in BASE}
    for name in found:
        before, mixture, after = parted(name)
        assert before == after == ""
        assert isinstance(mixture, Mixture)
        assert {mixture.one, mixture.other} <= known
        assert mixture.one != mixture.other
        assert 0.3 <= mixture.share <= 0.7


def test_a_mixture_is_drawn_once_whichever_name_comes_first() -> None:
    """Of 41 mixtures of two names; and a name that two classes have is one."""
    pairs = {
        min((mixture.one, mixture.share), (mixture.other, round(1 - mixture.share, 2)))
        for name in mixtures(["a", "b", "b"], 20)
        for mixture in parted(name)
        if isinstance(mixture, Mixture)
    }
    assert len(pairs) == 20
    assert {name for name, _ in pairs} == {"a"}


def test_more_than_there_are_is_an_error() -> None:
    assert len(mixtures(["a", "b"], 20)) == 20
    with pytest.raises(ConfigError, match="'mix:21', but 2 base classes give 20 mixtures"):
        mixtures(["a", "b"], 21)
    with pytest.raises(ConfigError, match="give 0"):
        mixtures(["a", "<b|"], 1)


def embed(table: Any, text: str, words: Any = tokenizer) -> Tensor:
    with torch.no_grad():
        return table(torch.tensor(words.encode(text)))


def test_tokens_lie_between_those_of_the_two_names() -> None:
    clip = tiny_clip().float()
    words, mixed = mixing(tokenizer, clip)
    text = "a photo of a <red fox|pig|0.40>, a type of pet."
    ids = words.encode(text)
    start, end = tokenizer.encode("a photo of a"), tokenizer.encode(", a type of pet.")
    assert ids[: len(start)] == start
    assert ids[-len(end) :] == end
    own = ids[len(start) : -len(end)]
    assert len(own) == len(tokenizer.encode("red fox")) == 2
    assert max(own) < 0
    assert words.encode(text) == ids
    fox, pig = embed(clip.token_embedding, "red fox"), embed(clip.token_embedding, "pig")
    torch.testing.assert_close(mixed.token_embedding(torch.tensor(own)), 0.4 * fox + 0.6 * pig)
    plain = torch.tensor([tokenizer.encode("some other text")])
    assert torch.equal(mixed.token_embedding(plain), clip.token_embedding(plain))
    assert words.decode(ids) == tokenizer.decode(start + end)
    assert isinstance(clip.token_embedding, torch.nn.Embedding)  # the host's own is left alone


def test_the_shorter_name_is_stretched() -> None:
    """Two positions to four: the two in between are thirds of each."""
    clip = tiny_clip().float()
    words, mixed = mixing(tokenizer, clip)
    long, short = embed(clip.token_embedding, "a b c d"), embed(clip.token_embedding, "a b")
    found = embed(mixed.token_embedding, "<a b c d|a b|0.50>", words)
    stretched = torch.stack([short[0].lerp(short[1], i / 3) for i in range(4)])
    torch.testing.assert_close(found, (long + stretched) / 2)


class Marked:
    """A tokenizer with other ids for what stands behind other words, as some vocabularies have."""

    decode = tokenizer.decode
    encode = staticmethod(tokenizer.encode)

    def behind(self, text: str) -> list[int]:
        return [id_ + 1 for id_ in tokenizer.encode(text)]


def test_what_stands_behind_a_mixture_is_encoded_so() -> None:
    words, _ = mixing(Marked(), tiny_clip().float())
    (front,), (back,) = tokenizer.encode("a"), tokenizer.encode("pet")
    start, mixture, end = words.encode("a <pig|cow|0.50> pet")
    assert (start, end) == (front, back + 1)
    assert mixture < 0
    assert words.behind("a <pig|cow|0.50> pet") == [front + 1, mixture, end]
    assert words.encode("<pig|cow|0.50> pet") == [mixture, end]


def test_its_reference_is_that_of_its_embeddings() -> None:
    """A mixture of a name with itself is that name; and those of other mixtures are others."""
    words, clip = mixing(tokenizer, tiny_clip().float())
    names = ["<pig|pig|0.30>", "<pig|cow|0.30>", "<pig|cow|0.60>"]
    text = FrozenText(clip, words.encode, LIKE)
    found = text.embeddings(names, ["a photo of a {}."])
    plain = text.embeddings(["pig"], ["a photo of a {}."])
    torch.testing.assert_close(found[:1], plain, rtol=1e-4, atol=1e-5)
    assert (found[1] - found[2]).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize("method", ["SAR_CoOp", "SAR_CoCoOp"])
def test_a_training_step(tmp_path: Path, method: str) -> None:
    trainer = start(tmp_path, method, NOVEL="mix:9")
    alignment = trainer._injection.alignment
    assert len(alignment.view) == len(BASE) + 9
    batch = next(iter(trainer.train_loader_x))
    assert trainer.forward_backward(batch)["loss_sar"] > 0
    assert trainer.forward_backward(batch)["loss_sar"] > 0
