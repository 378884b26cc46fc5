"""The alignment's gradient is in every update, once, whatever the host does before it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_host
import torch
import torch.nn.functional as F
from hosts_at_hand import needs_dassl
from tiny_host import (
    BASE,
    NOVEL,
    ON_CHECKOUT,
    host_learner,
    run_on_checkout,
    tiny_clip,
    tiny_config,
    tiny_trainer,
)
from torch import Tensor

from sar.alignment import similarity_alignment_loss
from sar.errors import HostError
from sar.trainer import SARTrainerMixin

WEIGHT = 3.0
Step = Callable[[Any, Tensor, Tensor], Any]
STEPS: dict[str, Step] = {}


def host(step: Step) -> Step:
    """A way to compute a loss of (trainer, images, labels) and to update by it."""
    STEPS[step.__name__.replace("_", " ").strip()] = step
    return step


def loss_of(trainer: Any, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(trainer.model(images), labels)


@host
def usual(trainer: Any, images: Tensor, labels: Tensor) -> None:
    trainer.model_backward_and_update(loss_of(trainer, images, labels))


@host
def loss_from_the_model(trainer: Any, images: Tensor, labels: Tensor) -> None:
    """TCP's (logits, loss)."""
    core = trainer.model
    handle = core.register_forward_hook(lambda m, a, out: (out, F.cross_entropy(out, labels)))
    _, loss = core(images)
    handle.remove()
    trainer.model_backward_and_update(loss)


@host
def dictionary_from_the_model(trainer: Any, images: Tensor, labels: Tensor) -> None:
    handle = trainer.model.register_forward_hook(lambda m, a, out: {"logits": out})
    output = trainer.model(images)
    handle.remove()
    trainer.model_backward_and_update(F.cross_entropy(output["logits"], labels))


@host
def output_changed_in_place(trainer: Any, images: Tensor, labels: Tensor) -> None:
    logits = trainer.model(images)
    logits /= 2.0
    trainer.model_backward_and_update(F.cross_entropy(logits, labels))


@host
def forward_called_directly(trainer: Any, images: Tensor, labels: Tensor) -> None:
    logits = trainer.model.forward(images)
    trainer.model_backward_and_update(F.cross_entropy(logits, labels))


@host
def encoders_composed_anew(trainer: Any, images: Tensor, labels: Tensor) -> None:
    model = trainer.model
    text = model.text_encoder.forward(model.prompt_learner.forward(), model.tokenized_prompts)
    images = model.image_encoder(images.type(model.dtype))
    logits = model.logit_scale.exp() * F.normalize(images) @ F.normalize(text).t()
    trainer.model_backward_and_update(F.cross_entropy(logits, labels))


@host
def gradients_looked_at_first(trainer: Any, images: Tensor, labels: Tensor) -> None:
    loss = loss_of(trainer, images, labels)
    torch.autograd.grad(loss, trainer.model.prompt_learner.ctx, retain_graph=True)
    trainer.model_backward_and_update(loss)


@host
def prograds_order_and_projection(trainer: Any, images: Tensor, labels: Tensor) -> None:
    """Two backward passes of one forward pass, and a projection of the gradient."""
    context, logits = trainer.model.prompt_learner.ctx, trainer.model(images)
    trainer.optim.zero_grad()
    logits.mean().backward(retain_graph=True)
    general = context.grad.clone()
    trainer.optim.zero_grad()
    F.cross_entropy(logits, labels).backward()
    along = (context.grad * general).sum() / general.square().sum()
    context.grad = context.grad - along * general
    trainer.optim.step()


@host
def clipped(trainer: Any, images: Tensor, labels: Tensor) -> None:
    trainer.optim.zero_grad()
    loss_of(trainer, images, labels).backward()
    torch.nn.utils.clip_grad_norm_(trainer.model.prompt_learner.parameters(), 1e-3)
    trainer.optim.step()


@host
def two_batches_accumulated(trainer: Any, images: Tensor, labels: Tensor) -> None:
    trainer.optim.zero_grad()
    for part in (slice(0, 4), slice(4, 8)):
        (loss_of(trainer, images[part], labels[part]) / 2).backward()
    trainer.optim.step()


@host
def scaled(trainer: Any, images: Tensor, labels: Tensor) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.optim.zero_grad()
    scaler.scale(loss_of(trainer, images, labels)).backward()
    scaler.step(trainer.optim)
    scaler.update()


@host
def scaled_and_fused(trainer: Any, images: Tensor, labels: Tensor) -> None:
    context = trainer.model.prompt_learner.ctx
    optimizer = torch.optim.Adam([context], lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.optim.zero_grad()
    scaler.scale(loss_of(trainer, images, labels)).backward()
    scaler.step(optimizer)


@host
def subclass_that_calls_step_twice(trainer: Any, images: Tensor, labels: Tensor) -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            return super().step(closure)

    trainer.optim.zero_grad()
    loss_of(trainer, images, labels).backward()
    Twice([trainer.model.prompt_learner.ctx], lr=1e-3).step()


class SAM(torch.optim.Optimizer):
    """As published implementations have it: a perturbing step, and a base optimizer's."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.base = torch.optim.SGD(self.param_groups, lr=1e-3)

    @torch.no_grad()
    def move(self, factor: float) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter].setdefault("e", 1e-2 * parameter.grad / parameter.grad.norm())
            parameter.add_(factor * self.state[parameter]["e"])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None
        self.move(1.0)
        self.zero_grad()
        with torch.enable_grad():
            closure()
        self.move(-1.0)
        self.base.step()


@host
def sam(trainer: Any, images: Tensor, labels: Tensor) -> None:
    optimizer = SAM([trainer.model.prompt_learner.ctx])
    trainer.optim.zero_grad()
    loss_of(trainer, images, labels).backward()
    optimizer.move(1.0)
    optimizer.zero_grad()
    loss_of(trainer, images, labels).backward()
    optimizer.move(-1.0)
    optimizer.base.step()


@host
def two_updates_of_one_batch(trainer: Any, images: Tensor, labels: Tensor) -> None:
    """The second one is compared: its parameters are those of the first."""
    context = trainer.model.prompt_learner.ctx
    before = context.detach().clone()
    usual(trainer, images, labels)
    context.data.copy_(before)
    usual(trainer, images, labels)


def start(folder: Path, step: Step, weight: float = WEIGHT, **options: Any) -> Any:
    """SAR over a CoOp that steps this way, at the beginning of its first step."""

    def forward_backward(self: Any, batch: Any) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)[:2]
        step(self, images, labels)
        return {"loss": 0.0}

    coop = tiny_host.coop.CoOp
    body = {"__module__": coop.__module__, "forward_backward": forward_backward}
    variant = type("Variant", (coop,), body)
    options |= {"TRAINER__SAR__WEIGHT": weight, "TRAINER__SAR__SAMPLE_SIZE": 0}
    torch.manual_seed(1)
    with tiny_host.tiny_clip_in_host():
        cfg = tiny_config(folder, **options)
        trainer = type("SAR_Variant", (SARTrainerMixin, variant), {})(cfg)
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 100
    return trainer


def batch_of(trainer: Any) -> Any:
    torch.manual_seed(7)
    return next(iter(trainer.train_loader_x))


def gradient(trainer: Any, batch: Any) -> Tensor:
    """What the last update of a step has used, with the parameters as they were before."""
    context = trainer.model.prompt_learner.ctx
    before = context.detach().clone()
    trainer.forward_backward(batch)
    context.data.copy_(before)
    found: Tensor = context.grad.clone()
    return found


def naive(trainer: Any, names: list[str] = BASE + NOVEL) -> Tensor:
    """The alignment's, with prompts, text encoder and reference all made by the host."""
    learner = host_learner(trainer, names)
    learned = trainer.model.text_encoder(learner(), learner.tokenized_prompts)
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in names]
    reference = tiny_clip().float().encode_text(tiny_host.tokenize(texts)).detach()
    sar = trainer.cfg.TRAINER.SAR
    loss = similarity_alignment_loss(learned, reference, temperature=sar.TEMPERATURE)
    (found,) = torch.autograd.grad(loss, trainer.model.prompt_learner.ctx)
    return found


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", STEPS)
def test_the_update_has_the_alignment_once(tmp_path: Path, name: str) -> None:
    plain = start(tmp_path, STEPS[name], weight=0.0)
    aligned = start(tmp_path, STEPS[name])
    batch = batch_of(plain)
    share = gradient(aligned, copy.deepcopy(batch)) - gradient(plain, batch)
    assert relative(share, WEIGHT * naive(plain)) < 2e-5


def test_a_step_left_out_by_the_scaler_has_none(tmp_path: Path) -> None:
    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        loss = loss_of(trainer, images, labels)
        trainer.optim.zero_grad()
        trainer.scale.scale(loss * (torch.inf if trainer.overflows else 1.0)).backward()
        trainer.scale.step(trainer.optim)
        trainer.scale.update()

    trainer = start(tmp_path, step)
    context, batch = trainer.model.prompt_learner.ctx, batch_of(trainer)
    before = context.detach().clone()
    trainer.scale, trainer.overflows = torch.amp.GradScaler("cpu", init_scale=1024.0), True
    assert "loss_sar" not in trainer.forward_backward(batch)
    trainer.after_epoch()  # nothing is wrong so far
    assert torch.equal(context, before)
    trainer.overflows = False
    assert trainer.forward_backward(batch)["loss_sar"] > 0
    assert not torch.equal(context, before)


def test_accumulation_over_training_steps(tmp_path: Path) -> None:
    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        if trainer.batch_idx % 2 == 0:
            trainer.optim.zero_grad()
        loss_of(trainer, images, labels).backward()
        if trainer.batch_idx % 2 == 1:
            trainer.optim.step()

    plain, aligned = start(tmp_path, step, weight=0.0), start(tmp_path, step)
    batch, found = batch_of(plain), []
    for trainer in (plain, aligned):
        reported = trainer.forward_backward(copy.deepcopy(batch))
        assert "loss_sar" not in reported
        trainer.batch_idx = 1
        found.append(gradient(trainer, copy.deepcopy(batch)))
    assert relative(found[1] - found[0], WEIGHT * naive(plain)) < 2e-5


def closure_of(trainer: Any, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        trainer.model.prompt_learner.zero_grad()
        loss = loss_of(trainer, images, labels)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("keyword", [False, True])
def test_a_closure_is_that_of_both_losses(tmp_path: Path, keyword: bool) -> None:
    """LBFGS, whose line search needs the value, too: the explicit sum gives the same weights."""

    def step(trainer: Any, images: Tensor, labels: Tensor, explicit: bool = False) -> None:
        context = trainer.model.prompt_learner.ctx
        optimizer = torch.optim.LBFGS([context], max_iter=3, line_search_fn="strong_wolfe")
        alone = closure_of(trainer, images, labels)
        alignment = trainer._injection.alignment

        def both() -> Tensor:
            loss = alone()
            more, (found,) = alignment.gradients(0, [context])
            context.grad += WEIGHT * found
            return loss + WEIGHT * more

        closure = both if explicit else alone
        optimizer.step(closure=closure) if keyword else optimizer.step(closure)

    trainer = start(tmp_path, step)
    context, batch = trainer.model.prompt_learner.ctx, batch_of(trainer)
    before = context.detach().clone()
    trainer.forward_backward(copy.deepcopy(batch))
    found = context.detach() - before
    context.data.copy_(before)
    images, labels = trainer.parse_batch_train(batch)[:2]
    step(trainer, images, labels, explicit=True)
    assert relative(found, context.detach() - before) < 1e-4


def test_classes_in_parts_have_the_gradient_of_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path, lambda trainer, images, labels: None)
    context = trainer.model.prompt_learner.ctx
    alignment = trainer._injection.alignment
    whole, (expected,) = alignment.gradients(0, [context])
    monkeypatch.setattr("sar.gradient._AT_ONCE", 3)
    parts, (found,) = alignment.gradients(0, [context])
    torch.testing.assert_close(parts, whole)
    assert relative(found, expected) < 1e-5
    assert found.abs().amax() > 0


def test_sam_with_a_closure_aligns_where_it_looks(tmp_path: Path) -> None:
    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        context = trainer.model.prompt_learner.ctx
        closure = closure_of(trainer, images, labels)
        optimizer: Any = SAM([context])
        closure()
        move = optimizer.move
        optimizer.move = lambda f: (move(f), trainer.seen.append(context.detach().clone()))
        optimizer.step(closure)

    plain, aligned = start(tmp_path, step, weight=0.0), start(tmp_path, step)
    plain.seen, aligned.seen = [], []
    batch = batch_of(plain)
    share = gradient(aligned, copy.deepcopy(batch)) - gradient(plain, batch)
    plain.model.prompt_learner.ctx.data.copy_(plain.seen[0])
    assert relative(share, WEIGHT * naive(plain)) < 2e-5


def test_several_optimizers_share_one_computation(tmp_path: Path) -> None:
    """Of parts of the parameters, and of others, in one step."""
    if ON_CHECKOUT:
        pytest.skip("needs two learned tensors")
    trainer = tiny_trainer(tmp_path, "SAR_CoCoOp", TRAINER__SAR__SAMPLE_SIZE=0)
    learner = trainer.model.prompt_learner
    learner.meta_net.linear1.bias.data.fill_(1.0)
    trainer.before_train()
    injection = trainer._injection
    calls = []
    original = injection.alignment.gradients
    injection.alignment.gradients = lambda *a: (calls.append(a), original(*a))[1]
    optimizers = [
        torch.optim.SGD([learner.ctx], lr=1.0),
        torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=1.0),
        torch.optim.Adam(learner.meta_net.parameters(), lr=1.0),
    ]
    images = trainer.parse_batch_train(batch_of(trainer))[0]
    with injection.during(0):
        trainer.model(images)
        for optimizer in optimizers:
            optimizer.step()
    assert len(calls) == 1
    assert all(parameter.grad.abs().sum() > 0 for parameter in learner.parameters())
    with injection.during(1):
        trainer.model(images)
        for _ in range(2):
            optimizers[0].step()
    assert len(calls) == 3


def test_gradients_that_do_not_arrive_end_the_run(tmp_path: Path) -> None:
    def past_the_optimizer(trainer: Any, images: Tensor, labels: Tensor) -> None:
        context = trainer.model.prompt_learner.ctx
        (found,) = torch.autograd.grad(loss_of(trainer, images, labels), context)
        context.data -= 0.1 * found

    def replaced(trainer: Any, images: Tensor, labels: Tensor) -> None:
        class Own(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                closure_of(trainer, images, labels)()
                return super().step()

        Own([trainer.model.prompt_learner.ctx], lr=0.1).step()

    for step, message in (
        (past_the_optimizer, "without the step of an optimizer"),
        (replaced, r"Own\.step\(\) has replaced the gradients"),
    ):
        trainer = start(tmp_path, step)
        with pytest.raises(HostError, match=message):
            trainer.forward_backward(batch_of(trainer))

    trainer = start(tmp_path, usual)
    trainer.model.prompt_learner.ctx.data += 1  # by an epoch without forward_backward
    with pytest.raises(HostError, match="without the step of an optimizer"):
        trainer.after_epoch()


def test_prompts_that_are_not_trained(tmp_path: Path) -> None:
    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        trainer.scale.grad = torch.ones(())
        torch.optim.SGD([trainer.scale], lr=0.1).step()

    trainer = start(tmp_path, step)
    trainer.model.prompt_learner.ctx.requires_grad_(False)
    trainer.scale = trainer.model.logit_scale.requires_grad_()
    trainer.before_train()
    with pytest.raises(HostError, match="depend on no parameter that is trained"):
        trainer.forward_backward(batch_of(trainer))


def test_prompts_that_no_optimizer_holds(tmp_path: Path) -> None:
    """They could learn, as far as the model is concerned; nothing is reported for them."""

    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        trainer.scale.grad = torch.ones(())
        torch.optim.SGD([trainer.scale], lr=0.1).step()

    trainer = start(tmp_path, step)
    trainer.scale = trainer.model.logit_scale.requires_grad_()
    trainer.before_train()
    assert "loss_sar" not in trainer.forward_backward(batch_of(trainer))
    with pytest.raises(
        HostError, match=r"depends on prompt_learner\.ctx, which no optimizer holds"
    ):
        trainer.after_epoch()


@pytest.mark.parametrize("prepared", [False, True])
def test_a_training_that_goes_past_the_steps(tmp_path: Path, prepared: bool) -> None:
    trainer = start(tmp_path, usual)
    _, _, host, *_ = type(trainer).__mro__
    host.train = lambda self: self.before_train() if prepared else None
    trainer._injection = None
    with pytest.raises(HostError, match=r"train\(\) calls before_train\(\) or forward_backward"):
        trainer.train()
    trainer.max_epoch = trainer.start_epoch  # resumed where nothing is left to do
    trainer.train()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """No hook outside a training step, not even after an error in it."""
    from torch.optim import optimizer

    def broken(trainer: Any, images: Tensor, labels: Tensor) -> None:
        usual(trainer, images, labels)
        if trainer.batch_idx == 1:
            raise KeyboardInterrupt

    trainer = start(tmp_path, broken)
    modules = [trainer.model, *trainer.model.modules()]
    for trainer.batch_idx in (0, 1):
        if trainer.batch_idx == 0:
            trainer.forward_backward(batch_of(trainer))
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.forward_backward(batch_of(trainer))
        hooks = [*optimizer._global_optimizer_pre_hooks, *optimizer._global_optimizer_post_hooks]
        for module in modules:
            hooks += [*module._forward_hooks, *module._forward_pre_hooks]
        assert not hooks


class Adapted(torch.nn.Module):
    """A residual adapter, one linear layer, behind a block of the text encoder."""

    def __init__(self, block: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.block, self.adapter = block, torch.nn.Linear(width, width)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.block, name)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return x + self.adapter(x)


class HostEncoder(torch.nn.Module):
    """As checkouts have it: all positions, through the blocks' own forward."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.transformer, self.ln_final = encoder.transformer, encoder.ln_final
        self.positional_embedding = encoder.positional_embedding
        self.text_projection, self.dtype = encoder.text_projection, encoder.dtype

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        x = (prompts + self.positional_embedding).transpose(0, 1)
        x = self.ln_final(self.transformer(x).transpose(0, 1))
        return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.text_projection


def test_adapters_in_the_text_encoder_are_aligned_through_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shared prefix does not know them; the host's own encoder serves the view instead."""
    trainer = start(tmp_path, usual)
    model = trainer.model
    model.text_encoder = HostEncoder(model.text_encoder)
    blocks = model.text_encoder.transformer.resblocks
    torch.manual_seed(3)
    blocks[1] = Adapted(blocks[1], 64)
    adapter = blocks[1].adapter.weight
    trainer.before_train()
    optimizer = torch.optim.SGD([model.prompt_learner.ctx, adapter], lr=1e-9)
    with trainer._injection.during(0):
        loss_of(trainer, *trainer.parse_batch_train(batch_of(trainer))[:2])
        optimizer.step()
    said = capsys.readouterr().out
    assert "the host's own text encoder computes all 12 classes at all positions" in said
    assert relative(model.prompt_learner.ctx.grad, WEIGHT * naive(trainer)) < 1e-3
    assert adapter.grad.abs().sum() > 0


def test_prompts_that_sar_does_not_see_end_the_run(tmp_path: Path) -> None:
    trainer = start(tmp_path, usual)
    rows = trainer._injection.alignment.view._rows
    rows["token_suffix"] = rows["token_suffix"].flip(0)
    with pytest.raises(HostError, match=r"a difference of \d+.*needs an adapter"):
        trainer.forward_backward(batch_of(trainer))


def test_two_prompt_sets_in_one_step(tmp_path: Path) -> None:
    """The ones that the prompt learner gives by default are aligned, whichever come last."""

    def step(trainer: Any, images: Tensor, labels: Tensor) -> None:
        model = trainer.model
        loss = loss_of(trainer, images, labels)
        others = model.text_encoder(model.prompt_learner().flip(0), model.tokenized_prompts)
        trainer.model_backward_and_update(loss + others.mean())

    plain, aligned = start(tmp_path, step, weight=0.0), start(tmp_path, step)
    batch = batch_of(plain)
    share = gradient(aligned, copy.deepcopy(batch)) - gradient(plain, batch)
    assert relative(share, WEIGHT * naive(plain)) < 2e-5


def test_a_text_encoder_that_returns_more(tmp_path: Path) -> None:
    trainer = start(tmp_path, usual)
    trainer.model.text_encoder.register_forward_hook(lambda m, a, out: (out, out))
    with pytest.raises(HostError, match="TextEncoder returned tuple; SAR needs a text encoder"):
        trainer.forward_backward(batch_of(trainer))


@needs_dassl
@pytest.mark.skipif(ON_CHECKOUT, reason="this is the process for the checkout")
def test_checkout() -> None:
    run_on_checkout("CoOp", "tests/test_injection.py")
