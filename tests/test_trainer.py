"""The SAR mixin over a host's own CoOp: what it changes, and all that it must not change."""

import sys
from pathlib import Path
from types import ModuleType
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
    update,
)
from torch import Tensor

from sar import gradient
from sar.alignment import similarity_alignment_loss
from sar.errors import ConfigError, DataError, HostError
from sar.trainer import SARTrainerMixin


def _train(folder: Path, trainer: str, **options: Any) -> tuple[Any, list[Tensor], Tensor]:
    """The trained trainer, every output of its model, and the random state at the end."""
    trained = tiny_trainer(folder, trainer, **options)
    outputs: list[Tensor] = []
    trained.model.register_forward_hook(lambda m, a, out: outputs.append(out.detach().clone()))
    trained.train()
    rng = torch.get_rng_state()
    if hasattr(trained, "predictions"):  # our tests hand image features on, not through the model
        with torch.no_grad():
            outputs += [output for output, _ in trained.predictions(trained.test_loader, "test")]
    return trained, outputs, rng


def _start(trainer: Any, step: int = 0) -> Any:
    """Brings a new trainer to the beginning of step `step`, as a host's training loop does."""
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, step, 100
    return trainer


def _batch(trainer: Any) -> Any:
    torch.manual_seed(7)
    return next(iter(trainer.train_loader_x))


def _alignment(trainer: Any) -> Any:
    return trainer._injection.alignment


def _loss(trainer: Any) -> Tensor:
    return _alignment(trainer).gradients(0, [trainer.model.prompt_learner.ctx])[0]


def _gradient(loss: Tensor, trainer: Any) -> Tensor:
    context = trainer.model.prompt_learner.ctx
    (gradient,) = torch.autograd.grad(loss, context)
    return gradient


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weight_zero_is_the_base_trainer_bit_for_bit(tmp_path: Path, precision: str) -> None:
    options = {"TRAINER__COOP__PREC": precision}
    base, base_outputs, base_state = _train(tmp_path, "CoOp", **options)
    sar, sar_outputs, sar_state = _train(tmp_path, "SAR_CoOp", TRAINER__SAR__WEIGHT=0.0, **options)
    assert len(base_outputs) == len(sar_outputs) == 8  # 2 epochs of 3 batches, 2 test batches
    assert all(map(torch.equal, base_outputs, sar_outputs))
    assert torch.equal(base_state, sar_state)
    expected = base.model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in sar.model.state_dict().items())


def test_training_with_sar_moves_the_context_and_nothing_else(tmp_path: Path) -> None:
    base, base_outputs, base_state = _train(tmp_path, "CoOp")
    sar, sar_outputs, sar_state = _train(tmp_path, "SAR_CoOp")
    assert torch.equal(base_state, sar_state)  # same batches, same augmentation from then on
    assert torch.equal(base_outputs[0], sar_outputs[0])  # the forward pass is the host's
    expected, found = base.model.state_dict(), sar.model.state_dict()
    assert expected.keys() == found.keys()
    moved = [k for k in expected if not torch.equal(expected[k], found[k])]
    assert moved == ["prompt_learner.ctx"]
    assert base.get_model_names() == sar.get_model_names()
    counts = [[len(g["params"]) for g in t.optim.param_groups] for t in (base, sar)]
    assert counts[0] == counts[1]


def test_loss_is_logged_and_written_for_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(tmp_path, OPTIM__MAX_EPOCH=1, TRAIN__PRINT_FREQ=1)
    written = []
    monkeypatch.setattr(trainer, "write_scalar", lambda tag, *args: written.append(tag))
    trainer.train()
    assert "train/loss_sar" in written
    printed = capsys.readouterr().out
    assert "loss_sar" in printed
    assert "SAR: weight 1.0, kl" in printed


def test_checkpoints_load_both_ways(tmp_path: Path) -> None:
    for written_by, read_by in [("SAR_CoOp", "CoOp"), ("CoOp", "SAR_CoOp")]:
        source, outputs, _ = _train(tmp_path, written_by)
        reader = tiny_trainer(tmp_path, read_by)
        reader.load_model(source.output_dir, epoch=2)
        reader.set_model_mode("eval")
        with torch.no_grad():
            images = torch.cat([batch["img"] for batch in reader.test_loader])
            assert torch.allclose(reader.model(images), torch.cat(outputs[-2:]), atol=1e-5)


@pytest.mark.parametrize("divergence", ["kl", "l1", "l2"])
def test_injected_gradient_is_that_of_the_explicit_loss(tmp_path: Path, divergence: str) -> None:
    """(CE + w L_SAR).backward() with prompts, text encoder and reference all made by the host."""
    weight = 3.0
    trainer = _start(
        tiny_trainer(
            tmp_path,
            TRAINER__SAR__WEIGHT=weight,
            TRAINER__SAR__DIVERGENCE=divergence,
            TRAINER__SAR__SAMPLE_SIZE=0,
        )
    )
    batch, model = _batch(trainer), trainer.model
    injected = update(trainer, batch)["prompt_learner.ctx"]

    images, labels = trainer.parse_batch_train(batch)[:2]
    learner = host_learner(trainer, BASE + NOVEL)
    learned = model.text_encoder(learner(), learner.tokenized_prompts)
    frozen = tiny_clip().float()
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in BASE + NOVEL]
    reference = frozen.encode_text(tiny_host.tokenize(texts)).detach()
    plain = F.cross_entropy(model(images), labels)
    alignment = similarity_alignment_loss(
        learned, reference, divergence=divergence, temperature=trainer.cfg.TRAINER.SAR.TEMPERATURE
    )
    explicit = _gradient(plain + weight * alignment, trainer)

    host_only = _gradient(F.cross_entropy(model(images), labels), trainer)
    assert _relative(injected, explicit) < 1e-4
    assert _relative(host_only, explicit) > 1e-2  # the alignment's share can be seen


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_evaluation_builds_and_adds_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="shipped")  # has no file for TinyImages
    trainer.test()
    with pytest.raises(DataError, match="TinyImages"):
        trainer.train()


def test_sampling_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    first = _alignment(_start(tiny_trainer(tmp_path)))
    resumed = _alignment(_start(tiny_trainer(tmp_path)))
    other = _alignment(_start(tiny_trainer(tmp_path, SEED=2)))
    drawn = [first.sample(step).tolist() for step in range(30)]
    assert [resumed.sample(step).tolist() for step in reversed(range(30))] == drawn[::-1]
    assert [other.sample(step).tolist() for step in range(30)] != drawn
    assert all(len(set(classes)) == 8 for classes in drawn)
    assert len({tuple(classes) for classes in drawn}) > 20
    assert {i for classes in drawn for i in classes} == set(range(len(BASE + NOVEL)))


def test_base_classes_only(tmp_path: Path) -> None:
    trainer = _start(tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="none"))
    assert trainer.forward_backward(_batch(trainer))["loss_sar"] > 0
    assert len(_alignment(trainer).view) == len(BASE)


def test_too_few_classes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two classes kl is zero, whatever their similarity: such a run would not be SAR."""
    monkeypatch.setattr(tiny_host, "BASE", BASE[:2])
    none = {"TRAINER__SAR__NOVEL": "none"}
    with pytest.raises(ConfigError, match="at least 3 classes; found 2 base and 0 novel ones"):
        _start(tiny_trainer(tmp_path, **none))
    trainer = _start(tiny_trainer(tmp_path, TRAINER__SAR__DIVERGENCE="l1", **none))
    assert _loss(trainer) > 0


def test_log_says_how_many_classes_are_aligned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size, said in ((8, "8 classes"), (12, "all classes"), (0, "all classes")):
        _start(tiny_trainer(tmp_path, TRAINER__SAR__SAMPLE_SIZE=size))
        assert f"{said} a step of 6 base and 6 novel ones" in capsys.readouterr().out


def test_reference_is_the_same_fp32_tensor_for_half_precision_hosts(tmp_path: Path) -> None:
    half = _alignment(_start(tiny_trainer(tmp_path, TRAINER__COOP__PREC="fp16"))).reference
    full = _alignment(_start(tiny_trainer(tmp_path, TRAINER__COOP__PREC="fp32"))).reference
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


def test_fp16_gradient_agrees_with_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scaling inside the text encoder the alignment gradient underflows in fp16."""
    found = {}
    # The small factor stands for the small gradients of a large model with many classes.
    small = lambda *args, **options: 1e-5 * similarity_alignment_loss(*args, **options)  # noqa: E731
    monkeypatch.setattr(gradient, "similarity_alignment_loss", small)
    for case in ("fp32", "fp16", "unscaled"):
        trainer = _start(
            tiny_trainer(tmp_path, TRAINER__COOP__PREC=case.replace("unscaled", "fp16"))
        )
        context = trainer.model.prompt_learner.ctx
        torch.manual_seed(3)
        context.data.copy_(torch.randn(context.shape).mul_(0.02).half())
        if case == "unscaled":
            monkeypatch.setattr(torch, "exp2", torch.ones_like)
        _, (found[case],) = _alignment(trainer).gradients(0, [context])
        assert found[case].dtype == torch.float32
    flat = {case: g.flatten() for case, g in found.items()}
    cosine = {c: F.cosine_similarity(g, flat["fp32"], dim=0) for c, g in flat.items()}
    assert cosine["fp16"] > 0.999
    assert flat["fp16"].norm() == pytest.approx(flat["fp32"].norm().item(), rel=0.05)
    assert cosine["unscaled"] < 0.9


def test_mixed_precision_training(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, TRAINER__COOP__PREC="amp")
    context = trainer.model.prompt_learner.ctx
    before = context.detach().clone()
    trainer.train()
    assert trainer._injection.loss.isfinite()
    assert context.isfinite().all()
    assert not torch.equal(context, before)


def test_data_parallel_is_one_device(tmp_path: Path) -> None:
    found = []
    for parallel in (False, True):
        trainer = tiny_trainer(tmp_path)
        if parallel:
            trainer.model = torch.nn.DataParallel(trainer.model)
        _start(trainer)
        if parallel and not ON_CHECKOUT:  # the embedded trainers use one GPU for each process
            trainer.model.__dict__.update(tokenized_prompts=trainer._core.tokenized_prompts)
        images, labels = trainer.parse_batch_train(_batch(trainer))[:2]
        context = trainer._core.prompt_learner.ctx
        with trainer._injection.during(0):
            trainer.optim.zero_grad()
            F.cross_entropy(trainer.model(images), labels).backward()
            trainer.optim.step()
        found.append(context.grad)
    assert _relative(found[1], found[0]) < 1e-4


def test_a_method_whose_module_imports_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may import CLIP's loader, as many do, though the base class's module calls it."""
    module = ModuleType("a_method")
    module.load_clip_to_cpu = tiny_host._loading[0].load_clip_to_cpu
    monkeypatch.setitem(sys.modules, module.__name__, module)
    method = type("Method", (tiny_host.coop.CoOp,), {"__module__": module.__name__})
    with tiny_host.tiny_clip_in_host():
        trainer = type("SAR_Method", (SARTrainerMixin, method), {})(tiny_config(tmp_path))
    assert _loss(_start(trainer)) > 0
    assert module.load_clip_to_cpu is tiny_host._loading[0].load_clip_to_cpu


def test_training_twice_injects_once(tmp_path: Path) -> None:
    found = []
    for times in (1, 2):
        trainer = tiny_trainer(tmp_path)
        for _ in range(times):
            _start(trainer)
        found.append(update(trainer, _batch(trainer))["prompt_learner.ctx"])
    assert torch.equal(*found)


@pytest.mark.skipif(ON_CHECKOUT, reason="Dassl's checkpoints do not hold the random state")
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"OPTIM__MAX_EPOCH": 4, "TRAIN__CHECKPOINT_FREQ": 2}
    whole, _, _ = _train(tmp_path, "SAR_CoOp", OUTPUT_DIR=str(tmp_path / "whole"), **options)
    cut = tiny_trainer(tmp_path, OUTPUT_DIR=str(tmp_path / "cut"), **options)
    after_epoch = cut.after_epoch

    def stop_after_the_third() -> None:
        if cut.epoch == 2:
            raise KeyboardInterrupt
        after_epoch()

    cut.after_epoch = stop_after_the_third
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed, _, _ = _train(tmp_path, "SAR_CoOp", OUTPUT_DIR=str(tmp_path / "cut"), **options)
    assert resumed.start_epoch == 2
    assert torch.equal(resumed.model.prompt_learner.ctx, whole.model.prompt_learner.ctx)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"TRAINER__SAR__DIVERGENCE": "js"}, r"TRAINER\.SAR\.DIVERGENCE is 'js'"),
        ({"TRAINER__SAR__NOVEL": "missing.json"}, r"TRAINER\.SAR\.NOVEL is 'missing\.json'"),
    ],
)
def test_wrong_settings_are_named_before_a_model_is_built(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_trainer(tmp_path, MODEL__BACKBONE__NAME="not a model", **options)


def test_class_specific_context_is_refused_unless_weight_is_zero(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class-specific"):
        _start(tiny_trainer(tmp_path, TRAINER__COOP__CSC=True))
    _start(tiny_trainer(tmp_path, TRAINER__COOP__CSC=True, TRAINER__SAR__WEIGHT=0.0))


def test_host_without_clip_loader_is_named() -> None:
    class Other(SARTrainerMixin):
        pass

    with pytest.raises(HostError, match="Other"):
        Other().build_model()


@needs_dassl
@pytest.mark.skipif(ON_CHECKOUT, reason="this is the process for the checkout")
def test_checkout() -> None:
    """Everything here and in test_views, with the CoOp and Dassl checkouts as the host."""
    run_on_checkout("CoOp", "tests/test_trainer.py", "tests/test_views.py")
