"""Optimizers, learning rates and results."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox_mini import default_cfg
from torch import nn

from sar.errors import DataError, NotFiniteError
from sar.toolbox.evaluation import build_evaluator
from sar.toolbox.metrics import compute_accuracy
from sar.toolbox.optim import OPTIMIZERS, build_lr_scheduler, build_optimizer, warmup_note


def config(epochs, **optim):
    options = [item for key, value in optim.items() for item in (f"OPTIM.{key}", value)]
    return default_cfg("OPTIM.NAME", "sgd", "OPTIM.LR", 0.2, "OPTIM.MAX_EPOCH", epochs, *options)


def rates(epochs, **optim):
    cfg = config(epochs, **optim)
    optimizer = build_optimizer(nn.Linear(1, 1), cfg.OPTIM)
    scheduler = build_lr_scheduler(optimizer, cfg.OPTIM)
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def cosine(epoch, epochs):
    return 0.1 * (1 + math.cos(math.pi * epoch / epochs))


@pytest.mark.parametrize(
    ("optim", "expected"),
    [
        ({"LR_SCHEDULER": "cosine"}, [cosine(e, 4) for e in range(4)]),
        (
            {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"},
            [1e-5, *(cosine(e, 4) for e in range(3))],
        ),
        (
            {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 2, "WARMUP_TYPE": "linear"},
            [1e-5, 0.1, *(cosine(e, 4) for e in range(2))],
        ),
        ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (1, 3)}, [0.2, 0.02, 0.02, 0.002]),
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,)}, [0.2, 0.2, 0.02, 0.02]),
        ({"LR_SCHEDULER": "single_step"}, [0.2] * 4),
        (
            {
                "LR_SCHEDULER": "multi_step",
                "STEPSIZE": (2, 3),
                "WARMUP_EPOCH": 1,
                "WARMUP_RECOUNT": False,
                "WARMUP_TYPE": "constant",
            },
            [1e-5, 0.2, 0.02, 0.002],
        ),
    ],
)
def test_learning_rates(optim, expected):
    assert rates(4, **optim) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["constant", "linear"])
@pytest.mark.parametrize("warmup", [-1, 0, 1, 2, 4])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_a_training_that_is_all_warm_up_is_told_by_its_highest_rate(kind, warmup, epochs):
    optim = {"WARMUP_EPOCH": warmup, "WARMUP_TYPE": kind}
    highest = max(rates(epochs, **optim))
    note = warmup_note(config(epochs, **optim).OPTIM)
    assert bool(note) == (highest < 0.2)
    if note:
        assert f"MAX_EPOCH {epochs}, WARMUP_EPOCH {warmup}" in note
        assert f"is {highest:g} at most, never OPTIM.LR 0.2" in note


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["cosine", "multi_step", "single_step"])
def test_optimizer_and_schedule_states_are_plain_and_continue(name, schedule, tmp_path):
    cfg = default_cfg(
        *("OPTIM.NAME", name, "OPTIM.LR", 0.1, "OPTIM.MAX_EPOCH", 6, "OPTIM.WARMUP_EPOCH", 2),
        *("OPTIM.LR_SCHEDULER", schedule, "OPTIM.STEPSIZE", (2, 3)),
    )

    def build(weight) -> tuple[Any, Any, Any]:
        layer = nn.Linear(2, 1, bias=False)
        layer.weight = nn.Parameter(weight.clone())
        optimizer = build_optimizer(layer, cfg.OPTIM)
        return layer, optimizer, build_lr_scheduler(optimizer, cfg.OPTIM)

    def epochs(count, layer, optimizer, scheduler):
        for _ in range(count):
            optimizer.zero_grad()
            layer(torch.tensor([[1.0, -2.0]])).pow(2).sum().backward()
            optimizer.step()
            scheduler.step()
        return layer.weight.detach()

    whole = epochs(6, *build(torch.ones(1, 2)))
    for cut in (1, 3):
        parts = build(torch.ones(1, 2))
        weight = epochs(cut, *parts)
        torch.save([part.state_dict() for part in parts], tmp_path / "state")
        states = torch.load(tmp_path / "state", weights_only=True)
        fresh = build(weight)
        for part, state in zip(fresh, states, strict=True):
            part.load_state_dict(state)
        assert torch.equal(epochs(6 - cut, *fresh), whole)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_results_follow_their_definitions(tmp_path_factory, pairs):
    true, predicted = (torch.tensor(column) for column in zip(*pairs, strict=True))
    folder = tmp_path_factory.mktemp("results")
    cfg = default_cfg("TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True)
    cfg.OUTPUT_DIR = str(folder)
    evaluator = build_evaluator(cfg, lab2cname={i: f"c{i}" for i in range(5)})
    logits = torch.eye(5)[predicted]
    for chunk in (slice(0, 3), slice(3, None)):
        if len(true[chunk]):
            evaluator.process(logits[chunk], true[chunk])
    results = evaluator.evaluate()

    scores, recalls = [], []
    for label in {t for t, _ in pairs}:
        hit = sum(t == p == label for t, p in pairs)
        wrong = sum((t == label) != (p == label) for t, p in pairs)
        scores.append(100 * 2 * hit / (2 * hit + wrong))
        recalls.append(100 * hit / sum(t == label for t, _ in pairs))
    accuracy = 100 * sum(t == p for t, p in pairs) / len(pairs)
    assert next(iter(results)) == "accuracy"
    assert results["accuracy"] == pytest.approx(accuracy)
    assert results["error_rate"] == pytest.approx(100 - accuracy)
    assert results["macro_f1"] == pytest.approx(sum(scores) / len(scores))
    assert results["perclass_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    assert compute_accuracy(logits, true)[0].item() == pytest.approx(accuracy, rel=1e-5)
    matrix = torch.load(folder / "cmat.pt")
    assert len(matrix) == len({*true.tolist(), *predicted.tolist()})


def test_result_block(capsys):
    evaluator = build_evaluator(default_cfg(), lab2cname={0: "a", 1: "b"})
    evaluator.process(torch.eye(2)[torch.zeros(1500).long()], (torch.arange(1500) % 3 == 0).long())
    evaluator.evaluate()
    assert capsys.readouterr().out == (
        "=> result\n* total: 1,500\n* correct: 1,000\n* accuracy: 66.67%\n* error: 33.33%\n"
        "* macro_f1: 40.00%\nCalibration: ECE 6.44%, adaptive ECE 6.44% (15 bins)\n"
    )
    evaluator.reset()
    with pytest.raises(DataError, match="empty"):
        evaluator.evaluate()


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_no_prediction(odd):
    evaluator = build_evaluator(default_cfg())
    with pytest.raises(NotFiniteError, match="scores of 1 of 2 images"):
        evaluator.process(torch.tensor([[0.0, odd], [1.0, 0.0]]), torch.tensor([0, 0]))
    with pytest.raises(DataError, match="empty"):  # nothing of the batch is counted
        evaluator.evaluate()
    evaluator.process(torch.tensor([[0.0, -math.inf]]), torch.tensor([0]))  # a class left out
