"""Runs CoOp's own trainer on original Dassl and records what it does; a script for the parity test.

Usage: toolbox_host_run.py HOSTS RECORD OPTIONS...   HOSTS holds CoOp and Dassl.pytorch; OPTIONS are
those of CoOp's train.py, several runs separated by "--next".
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from host_process import configurations, open_checkout, optimizer_settings


def record(trainer: Any) -> dict[str, Any]:
    """Train; return each step's batch, logits, loss, gradient and rate, and the final weights."""
    learner = trainer.model.prompt_learner
    steps: list[dict[str, Any]] = []
    result = {
        "initial": learner.ctx.detach().clone(),
        "shots": [(Path(d.impath).name, d.label) for d in trainer.dm.dataset.train_x],
        "steps": steps,
        "optimizer": optimizer_settings(trainer),
    }
    logits: list[torch.Tensor] = []
    trainer.model.register_forward_hook(lambda module, args, output: logits.append(output))
    original = trainer.forward_backward

    def forward_backward(batch: dict[str, Any]) -> Any:
        logits.clear()
        rate = trainer.get_current_lr()
        summary = original(batch)
        steps.append(
            {
                "index": batch["index"],
                "img": batch["img"],
                "lr": rate,
                "logits": logits[0].detach(),
                "loss": summary["loss"],
                "grad": learner.ctx.grad.clone(),
            }
        )
        return summary

    trainer.forward_backward = forward_backward
    trainer.train()
    result["final"] = learner.ctx.detach().clone()
    result["accuracy"] = trainer.test()
    return result


def learning_rates(
    get_cfg_default: Callable[[], Any],
    build_optimizer: Callable[..., Any],
    build_lr_scheduler: Callable[..., Any],
    options: Sequence[object],
) -> list[float]:
    """The rate of every epoch and of two more."""
    cfg = get_cfg_default()
    cfg.merge_from_list(list(options))
    optimizer = build_optimizer(torch.nn.Linear(1, 1), cfg.OPTIM)
    scheduler = build_lr_scheduler(optimizer, cfg.OPTIM)
    rates = []
    for _ in range(cfg.OPTIM.MAX_EPOCH + 2):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def main(hosts: str, target: str, *argv: str) -> None:
    train = open_checkout(hosts, "CoOp")
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    runs = []
    for args, cfg in configurations(train, argv):
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        if args.model_dir:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            weights = trainer.model.prompt_learner.ctx.detach()
            runs.append({"loaded": weights, "accuracy": trainer.test()})
        else:
            runs.append(record(trainer))
    torch.save(runs, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
