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
    ON_CHECKOUT,
    run_on_checkout,
    started,
    tiny_config,
    tiny_trainer,
    update,
)
from torch import Tensor

from sar.errors import ConfigError, DataError, HostError
from sar.trainer import SARTrainerMixin


def _batch(trainer: Any) -> Any:
    torch.manual_seed(7)
    return next(iter(trainer.train_loader_x))


def _alignment(trainer: Any) -> Any:
    return trainer._injection.alignment


def _loss(trainer: Any) -> Tensor:
    return _alignment(trainer).gradients(0, [trainer.model.prompt_learner.ctx])[0]


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


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_evaluation_builds_and_adds_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="shipped")  # has no file for TinyImages
    trainer.test()
    with pytest.raises(DataError, match="TinyImages"):
        trainer.train()


def test_base_classes_only(tmp_path: Path) -> None:
    trainer = started(tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="none"))
    assert trainer.forward_backward(_batch(trainer))["loss_sar"] > 0
    assert len(_alignment(trainer).view) == len(BASE)


def test_too_few_classes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two classes kl is zero, whatever their similarity: such a run would not be SAR."""
    monkeypatch.setattr(tiny_host, "BASE", BASE[:2])
    none = {"TRAINER__SAR__NOVEL": "none"}
    with pytest.raises(ConfigError, match="at least 3 classes; found 2 base and 0 novel ones"):
        started(tiny_trainer(tmp_path, **none))
    trainer = started(tiny_trainer(tmp_path, TRAINER__SAR__DIVERGENCE="l1", **none))
    assert _loss(trainer) > 0


def test_log_says_how_many_classes_are_aligned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size, said in ((8, "8 classes"), (12, "all classes"), (0, "all classes")):
        started(tiny_trainer(tmp_path, TRAINER__SAR__SAMPLE_SIZE=size))
        assert f"{said} a step of 6 base and 6 novel ones" in capsys.readouterr().out


def test_reference_is_the_same_fp32_tensor_for_half_precision_hosts(tmp_path: Path) -> None:
    half = _alignment(started(tiny_trainer(tmp_path, TRAINER__COOP__PREC="fp16"))).reference
    full = _alignment(started(tiny_trainer(tmp_path, TRAINER__COOP__PREC="fp32"))).reference
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


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
        started(trainer)
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
    assert _loss(started(trainer)) > 0
    assert module.load_clip_to_cpu is tiny_host._loading[0].load_clip_to_cpu


def test_training_twice_injects_once(tmp_path: Path) -> None:
    found = []
    for times in (1, 2):
        trainer = tiny_trainer(tmp_path)
        for _ in range(times):
            started(trainer)
        found.append(update(trainer, _batch(trainer))["prompt_learner.ctx"])
    assert torch.equal(*found)


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
        started(tiny_trainer(tmp_path, TRAINER__COOP__CSC=True))
    started(tiny_trainer(tmp_path, TRAINER__COOP__CSC=True, TRAINER__SAR__WEIGHT=0.0))


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
