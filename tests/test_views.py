"""A view must be what the host itself would have built for the other class names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_host import BASE, NOVEL, host_learner, tiny_clip, tiny_trainer, tokenize, tokenizer

from sar.errors import ConfigError, HostError
from sar.prompt_tokens import pack_tokens, prompt_form
from sar.views import PromptView

ODD = ["7-eleven (store)", "child's toy", "rock &amp; roll", "naïve  café", "x", "'s", "東京"]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_trainer(tmp_path_factory.mktemp("views"), "CoOp")


def view_of(trainer: Any, names: list[str], base: list[str] = BASE) -> PromptView:
    return PromptView(
        trainer.model.prompt_learner,
        trainer.model.text_encoder,
        base,
        names,
        clip_model=tiny_clip(),
        tokenizer=tokenizer,
    )


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("init", ["", "a photo of a"])
def test_view_is_what_the_host_builds(tmp_path: Path, position: str, init: str) -> None:
    trainer = tiny_trainer(
        tmp_path,
        "CoOp",
        TRAINER__COOP__CLASS_TOKEN_POSITION=position,
        TRAINER__COOP__CTX_INIT=init,
    )
    names = BASE + NOVEL + ODD
    view, learner = view_of(trainer, names), host_learner(trainer, names)
    prompts = learner()
    ours = view._learner()
    assert torch.equal(ours, prompts[:, : ours.shape[1]])
    assert torch.equal(view._learner.tokenized_prompts, learner.tokenized_prompts)
    expected = trainer.model.text_encoder(prompts, learner.tokenized_prompts)
    found = view()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(found)
    context = trainer.model.prompt_learner.ctx
    gradients = [torch.autograd.grad((f * weights).sum(), context)[0] for f in (found, expected)]
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


def test_view_shares_the_context_and_leaves_the_host_alone(trainer: Any) -> None:
    model = trainer.model
    before = {k: (v, v.clone()) for k, v in model.state_dict(keep_vars=True).items()}
    state = torch.get_rng_state()
    hook = model.prompt_learner.register_forward_hook(lambda *_: pytest.fail("host was run"))
    view = view_of(trainer, NOVEL)
    features = view.select(torch.tensor([1, 3]))()
    hook.remove()
    assert torch.equal(torch.get_rng_state(), state)
    assert view._learner.ctx is model.prompt_learner.ctx
    assert model.prompt_learner.n_cls == len(BASE)
    after = model.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(after[k] is v and torch.equal(v, copy) for k, (v, copy) in before.items())
    with torch.no_grad():
        model.prompt_learner.ctx.add_(0.1)
    assert not torch.allclose(view.select(torch.tensor([1, 3]))(), features)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(index=st.lists(st.integers(0, len(NOVEL + ODD) - 1), min_size=1, max_size=6, unique=True))
def test_selected_rows_are_rows_of_the_whole(trainer: Any, index: list[int]) -> None:
    view = view_of(trainer, NOVEL + ODD)
    chosen = torch.tensor(index)
    selected = view.select(chosen)
    assert len(selected) == len(index)
    with torch.no_grad():
        torch.testing.assert_close(selected(), view()[chosen], atol=1e-5, rtol=1e-5)


def test_names_beyond_the_context_length_are_named(trainer: Any) -> None:
    endless = "very " * 80 + "long name"
    with pytest.raises(ConfigError, match="very very") as error:
        view_of(trainer, [*NOVEL, endless])
    assert "foxglove" not in str(error.value)


def test_mismatches_are_errors(trainer: Any) -> None:
    with pytest.raises(HostError, match="siamese cat"):
        view_of(trainer, NOVEL, base=["siamese cat", *BASE[1:]])
    learner = trainer.model.prompt_learner
    suffix = learner.token_suffix
    learner.token_suffix = suffix + 1
    try:
        with pytest.raises(HostError, match="buffers"):
            view_of(trainer, NOVEL)
    finally:
        learner.token_suffix = suffix


@pytest.mark.parametrize(
    ("before", "tail"),
    [("a photo of a", "."), ("X X X X", ", a type of pet."), ("a", ""), ("", " texture.")],
)
def test_form_is_read_off_the_tokens(before: str, tail: str) -> None:
    names = [*BASE, *ODD]
    tokens = tokenize([f"{before} {name.replace('_', ' ')}{tail}" for name in names])
    prefix, found = prompt_form(tokens, names, tokenizer)
    assert prefix == tokenizer.encode(before)
    for name in ("cat", "cat (tabby)"):
        assert tokenizer.encode(f"{name}{found}") == tokenizer.encode(f"{name}{tail}")
    tokens[1] = tokenize("one photo of a american bulldog.")[0]
    with pytest.raises(HostError, match="american_bulldog"):
        prompt_form(tokens, names, tokenizer)


def test_packed_tokens_are_those_of_clip() -> None:
    texts = ["a photo of a cat.", *ODD]
    expected = tokenize(texts)
    found = pack_tokens([tokenizer.encode(text) for text in texts], texts, expected[:1])
    assert torch.equal(found, expected)


def test_several_prompts_for_a_class_are_refused(trainer: Any) -> None:
    """As PLOT has them."""
    learner = trainer.model.prompt_learner
    learner.tokenized_prompts = learner.tokenized_prompts.repeat(4, 1)
    try:
        with pytest.raises(HostError, match="PromptLearner has 24 prompts for 6 classes"):
            view_of(trainer, NOVEL)
    finally:
        learner.tokenized_prompts = learner.tokenized_prompts[: len(BASE)]


def test_all_slices_of_the_prompts_are_rebuilt(trainer: Any) -> None:
    """ATPrompt cuts its prompts into more than start and end."""
    learner, view = trainer.model.prompt_learner, view_of(trainer, NOVEL)
    learner.register_buffer("token_middle", learner.token_suffix[:, :1])
    learner.register_buffer("others", torch.zeros(len(BASE), 2, 64))
    try:
        cut = view_of(trainer, NOVEL)._learner
    finally:
        del learner.token_middle, learner.others
    assert torch.equal(cut.token_middle, view._learner.token_suffix[:, :1])
    assert torch.equal(cut.others, torch.zeros(len(BASE), 2, 64))


def test_the_hosts_own_encoder_gives_the_same(trainer: Any) -> None:
    view = view_of(trainer, NOVEL + ODD)
    with torch.no_grad():
        torch.testing.assert_close(view.through_host()(), view(), atol=1e-5, rtol=1e-5)
