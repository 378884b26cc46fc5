"""Which view a prompt learner gets, by its structure; and TCP's, whose tokens come from texts."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_host import BASE, NOVEL, host_learner, tiny_clip, tiny_trainer, tokenize, tokenizer
from torch import Tensor, nn

from sar.errors import HostError
from sar.views import PromptView, check_structure

CUSTOM_TEMPLATES_ori = {"Food101": "a photo of {}.", "OxfordPets": "a photo of a {}, a pet."}


class Learner(nn.Module):
    """TCP's: CoOp's prompts, and tokens that a meta-net makes from texts of the classes."""

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, coop: Any, names: list[str], width: int) -> None:
        super().__init__()
        self.__dict__.update({k: v for k, v in vars(coop).items() if not k.startswith("_")})
        self.ctx, self.coop = coop.ctx, coop.forward
        self.register_buffer("token_prefix", coop.token_prefix)
        self.register_buffer("token_suffix", coop.token_suffix)
        texts = [CUSTOM_TEMPLATES_ori["OxfordPets"].format(n.replace("_", " ")) for n in names]
        with torch.no_grad():
            features = tiny_clip().float().encode_text(tokenize(texts))
        self.text_features = F.normalize(features)
        torch.manual_seed(4)
        self.meta_net = nn.Linear(features.shape[1], 2 * width)

    def forward(self) -> tuple[Tensor, Tensor]:
        ctx = self.ctx.expand(self.n_cls, -1, -1)
        prompts = torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)
        return prompts, self.meta_net(self.text_features).unflatten(1, (2, -1))


class Encoder(nn.Module):
    """The class tokens take the place of the first two behind the start token."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, prompts: Tensor, class_feature: Tensor, weight: float, tokenized_prompts: Tensor
    ) -> Tensor:
        prompts = torch.cat([prompts[:, :1], weight * class_feature, prompts[:, 3:]], dim=1)
        from sar.encoding import encode_prompts

        return encode_prompts(self.encoder, prompts, tokenized_prompts.argmax(dim=-1).cpu())


def test_class_tokens_of_novel_classes(tmp_path, monkeypatch):
    """As TCP itself makes them, from the template that its own features were made with."""
    trainer = tiny_trainer(tmp_path, "CoOp")
    encoder, width = Encoder(trainer.model.text_encoder), trainer.model.prompt_learner.ctx.shape[1]
    learner = Learner(trainer.model.prompt_learner, BASE, width)
    names = BASE + NOVEL
    tools = {"clip_model": tiny_clip(), "tokenizer": tokenizer}
    view = PromptView.of(learner, encoder, BASE, names, **tools)
    assert type(view).__module__ == "sar.trainers.class_aware"
    whole = Learner(host_learner(trainer, names), names, width)
    whole.ctx, whole.meta_net = learner.ctx, learner.meta_net
    expected = encoder(*whole(), 1.0, whole.tokenized_prompts)
    torch.testing.assert_close(view(), expected, atol=1e-5, rtol=1e-5)
    some = torch.tensor([1, 7, 9])
    torch.testing.assert_close(view.select(some)(), expected[some], atol=1e-5, rtol=1e-5)
    learned = [learner.ctx, *learner.meta_net.parameters()]
    weights = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((view() * weights).sum(), learned),
        torch.autograd.grad((expected * weights).sum(), learned),
        strict=True,
    ):
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()

    learner.text_features = learner.text_features.flip(0)
    with pytest.raises(HostError, match="None of CUSTOM_TEMPLATES_ori"):
        PromptView.of(learner, encoder, BASE, names, **tools)


def test_structures(tmp_path):
    for name, expected in (
        ("CoOp", "PromptView"),
        ("KgCoOp", "PromptView"),
        ("PromptSRC", "PromptView"),
        ("CoCoOp", "ConditionalView"),
        ("MaPLe", "MultimodalView"),
        ("AAPE", "GeneratedView"),
    ):
        options = {"TRAINER__MAPLE__PROMPT_DEPTH": 2, "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT": 2}
        options |= {"TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION": 2}
        trainer = tiny_trainer(tmp_path, f"SAR_{name}", **options)
        trainer.before_train()
        assert type(trainer._injection.alignment.view).__name__ == expected


def test_models_without_prompts_are_named():
    """PromptKD's student, and a learner of another kind."""
    student = SimpleNamespace(image_encoder=nn.Identity())
    with pytest.raises(HostError, match=r"SimpleNamespace has no prompt_learner; SAR needs"):
        check_structure(student)
    other = SimpleNamespace(prompt_learner=nn.Linear(1, 1), text_encoder=nn.Identity())
    with pytest.raises(HostError, match=r"has no prompt_learner\.ctx"):
        check_structure(other)
