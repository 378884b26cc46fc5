"""SAR_FAST_TEXT: the same features and gradients by the shorter way, and texts encoded once."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plain_encoder import all_positions, build
from torch import Tensor, nn

from sar.errors import ConfigError, HostError
from sar.host import fast_text
from sar.toolbox.clip import CLIP, tokenize

NAMES = ("abyssinian", "american bulldog", "forget-me-not", "Boeing 737-800", "crêpe")
N_CTX = 4


class Learner(nn.Module):
    """CoOp's structure, with the name at the end or in front of the context."""

    def __init__(self, clip: CLIP, specific: bool, position: str) -> None:
        super().__init__()
        self.tokenized_prompts = tokenize([f"X X X X {name}." for name in NAMES])
        embedding = clip.token_embedding(self.tokenized_prompts)
        width = embedding.shape[-1]
        shape = (len(NAMES), N_CTX, width) if specific else (N_CTX, width)
        self.ctx = nn.Parameter(torch.randn(shape) * 0.05)
        self.prefix, self.suffix = embedding[:, :1], embedding[:, 1 + N_CTX :]
        self.n_ctx, self.class_token_position = N_CTX, position

    def forward(self) -> Tensor:
        context = self.ctx.expand(len(NAMES), -1, -1)
        if self.class_token_position == "end":
            return torch.cat([self.prefix, context, self.suffix], dim=1)
        name, rest = self.suffix[:, :2], self.suffix[:, 2:]
        return torch.cat([self.prefix, name, context, rest], dim=1)


class HostEncoder(nn.Module):
    """All 77 positions, as checkouts compute them."""

    def __init__(self, clip: CLIP, wrong: float) -> None:
        super().__init__()
        self.transformer, self.ln_final = clip.transformer, clip.ln_final
        self.positional_embedding = clip.positional_embedding
        self.text_projection = clip.text_projection
        self.dtype, self.wrong, self.calls = clip.dtype, wrong, 0
        self.given = 0  # MaPLe's deep prompts are an argument, and it has no default

    def forward(self, prompts: Tensor, tokens: Tensor, *given: Any) -> Tensor:
        self.calls += 1
        assert len(given) == self.given
        deep = given[0] if given else ()
        blocks = self.transformer.resblocks
        deep = [*deep, *(b.VPT_shallow for b in blocks if hasattr(b, "VPT_shallow"))]
        return all_positions(self, prompts, tokens.argmax(1), deep) + self.wrong


class Host:
    """What `install` needs of a trainer; a test of three batches."""

    def __init__(
        self, *, specific: bool = False, position: str = "end", deep: str = "", wrong: float = 0
    ) -> None:
        clip = build(64, 4, 3, 77, 49408)
        learner, encoder = Learner(clip, specific, position), HostEncoder(clip, wrong)
        self.model = nn.ModuleDict({"prompt_learner": learner, "text_encoder": encoder})
        self.model.prompt_learner, self.model.text_encoder = learner, encoder
        prompts = [nn.Parameter(torch.randn(N_CTX, 64) * 0.05) for _ in range(2)]
        self.deep: Any = ()
        if deep.startswith("argument"):
            self.deep = (prompts if deep == "argument" else [],)
            encoder.given = 1
        elif deep == "blocks":
            for block, prompt in zip(clip.transformer.resblocks[1:], prompts, strict=True):
                block.VPT_shallow = prompt

    def encode(self) -> Tensor:
        learner, encoder = self.model.prompt_learner, self.model.text_encoder
        features: Tensor = encoder(learner(), learner.tokenized_prompts, *self.deep)
        return features

    def results(self) -> list[Tensor]:
        features = self.encode()
        leaves = [
            p
            for p in (*self.model.parameters(), *(p for part in self.deep for p in part))
            if p.requires_grad
        ]
        leaves = list(dict.fromkeys(leaves))
        weights = torch.linspace(-1, 1, features.numel()).view_as(features)
        return [features.detach(), *torch.autograd.grad((features * weights).sum(), leaves)]

    @torch.no_grad()
    def test(self) -> list[Tensor]:
        return [self.encode() for _ in range(3)]


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        ({}, 5),
        ({"specific": True}, 0),
        ({"position": "front"}, 0),
        ({"deep": "argument"}, 5),
        ({"deep": "argument, empty"}, 5),
        ({"deep": "blocks"}, 5),
    ],
)
def test_exact(options: dict[str, Any], shared: int, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    host = Host(**options)
    expected, keys = host.results(), list(host.model.state_dict())
    fast_text.install(host)
    encoder = host.model.text_encoder
    assert isinstance(encoder, HostEncoder)
    assert (encoder.shared, list(host.model.state_dict())) == (shared, keys)
    for _ in range(2):
        actual = host.results()
        assert len(actual) == len(expected) >= 2
        for ours, theirs in zip(actual, expected, strict=True):
            assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    assert encoder.calls == 2  # without `install`, and the check
    assert capsys.readouterr().out.count(f"{shared} shared positions") == 1


def test_texts_are_encoded_once_in_a_test() -> None:
    host = Host()
    expected = host.test()
    fast_text.install(host)
    first, *others = host.test()
    assert all(other is first for other in others)
    torch.testing.assert_close(first, expected[0], rtol=0, atol=1e-5)
    with torch.no_grad():
        host.model.prompt_learner.ctx.mul_(3)
    assert not torch.allclose(host.test()[0], first, atol=1e-2)  # nothing is kept between tests
    assert host.encode() is not host.encode()


def test_a_text_encoder_that_computes_something_else() -> None:
    host = Host(wrong=0.1)
    fast_text.install(host)
    with pytest.raises(HostError, match="Run without SAR_FAST_TEXT"):
        host.encode()


def test_trainers_without_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SimpleNamespace(model=nn.Linear(2, 2))
    fast_text.install(trainer)
    assert "stays as it is" in capsys.readouterr().out
    assert not hasattr(trainer, "test")


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, wanted in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(fast_text.VARIABLE, value)
        assert fast_text.wanted() is wanted
    monkeypatch.setenv(fast_text.VARIABLE, "yes")
    with pytest.raises(ConfigError, match="expected 1, 0 or nothing"):
        fast_text.wanted()
