"""A seeded training run whose every step is recorded, by our trainers or by a published checkout's.

As a script: parity_run.py HOSTS RECORD OPTIONS...   HOSTS is the folder with the checkouts; OPTIONS
are those of CoOp's train.py, several runs separated by "--next". "--half-target yes" leaves
KgCoOp's hand-crafted features in fp16, as it computes them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from host_process import configurations, open_checkout, optimizer_settings

CHECKOUTS = {"CoCoOp": "CoOp", "KgCoOp": "KgCoOp/KgCoOp"}


def record(trainer: Any) -> dict[str, Any]:
    """Train from a fixed random state; each step's loss, logits and gradients, and what comes out.

    The logits are those of the test mode, before the step.
    """
    model = trainer.model
    steps: list[dict[str, Any]] = []
    learned = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name, parameter in learned.items():
        if name.endswith("linear1.bias"):  # CoCoOp: no hidden unit shall be dead
            parameter.data.fill_(1.0)
    values = {name: p.detach().clone() for name, p in learned.items()}
    original = trainer.forward_backward

    def forward_backward(batch: dict[str, Any]) -> dict[str, float]:
        trainer.set_model_mode("eval")
        with torch.no_grad():
            logits = trainer.model_inference(batch["img"])
        trainer.set_model_mode("train")
        loss = original(batch)["loss"]
        grads = {name: p.grad.clone() for name, p in learned.items()}
        steps.append({"img": batch["img"], "logits": logits, "loss": loss, "grads": grads})
        return {"loss": loss}

    trainer.forward_backward = forward_backward
    settings = optimizer_settings(trainer)
    # Published models draw for parameters that nothing uses.
    torch.manual_seed(5)
    trainer.train()
    final = {name: p.detach().clone() for name, p in learned.items()}
    result = {"initial": values, "steps": steps, "final": final, "optimizer": settings}
    return result | {"accuracy": trainer.test()}


def main(hosts: str, target: str, *argv: str) -> None:
    trainer_name = argv[argv.index("--trainer") + 1]
    train = open_checkout(hosts, CHECKOUTS[trainer_name])
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    runs = []
    for args, cfg in configurations(train, argv):
        with _targets_in_fp32(trainer_name, off=hasattr(args, "half_target")):
            set_random_seed(cfg.SEED)
            trainer = build_trainer(cfg)
        if args.model_dir:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            runs.append({"accuracy": trainer.test()})
        else:
            runs.append(record(trainer))
    torch.save(runs, target)


@contextmanager
def _targets_in_fp32(trainer: str, off: bool) -> Iterator[None]:
    """KgCoOp encodes its hand-crafted prompts by a CLIP in fp16; within, by one in fp32."""
    module: Any = sys.modules[f"trainers.{trainer.lower()}"]
    load = module.load_clip_to_cpu
    if not off:
        module.load_clip_to_cpu = lambda cfg: load(cfg).float()
    yield
    module.load_clip_to_cpu = load


if __name__ == "__main__":
    main(*sys.argv[1:])
