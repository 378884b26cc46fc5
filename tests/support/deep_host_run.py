"""Runs the published MaPLe or PromptSRC on original Dassl, plain and with SAR, and records the run.

Usage: deep_host_run.py HOSTS CHECKOUT RECORD OPTIONS...   HOSTS holds CHECKOUT and Dassl.pytorch;
OPTIONS as in toolbox_host_run.py. The checkouts work with PREC fp16 only: here `.half()` does
nothing, so that they compute in fp32 all the same.
"""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from host_process import configurations, open_checkout, optimizer_settings


def learnable(trainer: Any) -> dict[str, torch.Tensor]:
    return {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}


def copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def record(trainer: Any) -> dict[str, Any]:
    """Train; return every step's batch, loss and gradients; weights, logits, accuracy."""
    parameters = learnable(trainer)
    steps: list[dict[str, Any]] = []
    result: dict[str, Any] = {"initial": copies(parameters), "steps": steps}
    result["optimizer"] = optimizer_settings(trainer)
    teacher = getattr(trainer.model.prompt_learner, "fixed_embeddings", None)
    original = trainer.forward_backward

    def forward_backward(batch: dict[str, Any]) -> Any:
        summary = original(batch)
        steps.append(
            {
                "img": batch["img"],
                "label": batch["label"],
                "summary": summary,
                "grads": copies({n: p.grad for n, p in parameters.items() if p.grad is not None}),
            }
        )
        return summary

    def logits() -> torch.Tensor:
        trainer.set_model_mode("eval")
        with torch.no_grad():
            batches = iter(trainer.test_loader)
            output: torch.Tensor = trainer.model(next(batches)["img"])
            return output.clone()

    result["initial_logits"] = logits()
    trainer.forward_backward = forward_backward
    trainer.train()
    result |= {"final": copies(parameters), "teacher": teacher, "final_logits": logits()}
    result["accuracy"] = trainer.test()
    return result


def main(hosts: str, checkout: str, target: str, *argv: str) -> None:
    train = open_checkout(hosts, checkout)
    for kind in (torch.Tensor, torch.nn.Module):
        kind.half = lambda self, *args: self  # type: ignore[method-assign]
    from dassl.config import cfg_default
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    from sar.config import add_sar_config
    from sar.host import CHECKOUT, register

    add_sar_config(cfg_default)
    register(CHECKOUT)
    runs = []
    for _, cfg in configurations(train, argv):
        set_random_seed(cfg.SEED)
        runs.append(record(build_trainer(cfg)))
    torch.save(runs, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
