"""Compares a checkout's trainers with and without SAR_FAST_TEXT, from the same weights and batch.

Usage, inside the checkout: fast_text_run.py RECORD ARGUMENTS...   ARGUMENTS are those of train.py;
X is measured for --trainer X, and SAR_X. `.half()` and `.cuda()` do nothing here, so that all
trainers compute in fp32 on the CPU.
"""

import argparse
import json
import sys
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from sar.host import fast_text, hook, run


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Greatest difference of rows, in units of the rows' norm."""
    return float(((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).max())


class Measured:
    """One training step with a rate of 0, and one test."""

    def __init__(self, trainer: Any, batch: Any) -> None:
        model = trainer.model
        texts: list[Tensor] = []
        hook = model.text_encoder.register_forward_hook(lambda m, a, output: texts.append(output))
        trainer.set_model_mode("train")
        self.summary = trainer.forward_backward(batch)
        hook.remove()
        self.features = torch.cat([text.detach() for text in texts])
        self.gradients = {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        self.logits: list[Tensor] = []
        infer = trainer.model_inference

        def model_inference(images: Tensor) -> Tensor:
            self.logits.append(infer(images))
            return self.logits[-1]

        with mock.patch.object(trainer, "model_inference", model_inference):
            self.accuracy = trainer.test()


def compare(build_trainer: Any, cfg: Any) -> dict[str, Any]:
    torch.manual_seed(1)
    trainer = build_trainer(cfg)
    with torch.no_grad():  # random weights are small: make differences visible
        trainer.model.prompt_learner.ctx.mul_(20)
    trainer.before_train()
    trainer.epoch = trainer.batch_idx = 0
    trainer.num_batches = 1000  # the end of an epoch would change the learning rate
    for group in trainer.optim.param_groups:
        group["lr"] = 0.0
    batch = next(iter(trainer.train_loader_x))
    plain = Measured(trainer, batch)
    keys = list(trainer.model.state_dict())
    fast_text.install(trainer)
    encode = mock.Mock(side_effect=fast_text.encode_prompts)
    with mock.patch.object(fast_text, "encode_prompts", encode):
        fast = Measured(trainer, batch)
    assert list(trainer.model.state_dict()) == keys
    assert fast.gradients.keys() == plain.gradients.keys()
    losses = {k: abs(fast.summary[k] / v - 1) for k, v in plain.summary.items() if "loss" in k}
    return {
        "classes": len(trainer.dm.dataset.classnames),
        "shared": trainer.model.text_encoder.shared,
        "images": len(batch["label"]),
        "test images": len(trainer.dm.dataset.test),
        "encodings": encode.call_count,
        "features": relative(fast.features, plain.features),
        "gradients": {
            name: float((fast.gradients[name] - gradient).norm() / gradient.norm().clamp_min(1e-9))
            for name, gradient in plain.gradients.items()
        },
        "losses": losses,
        "logits": relative(torch.cat(fast.logits), torch.cat(plain.logits)),
        "accuracies": [fast.accuracy, plain.accuracy],
    }


def configuration(train: Any, argv: list[str], trainer: str) -> Any:
    parser = argparse.ArgumentParser()
    for name in ("root", "trainer", "config-file", "dataset-config-file", "output-dir"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    args.__dict__ |= dict.fromkeys(
        ("resume", "seed", "source_domains", "target_domains", "transforms", "backbone", "head")
    )
    args.trainer = trainer
    return train.setup_cfg(args)


def main(record: str, *argv: str) -> None:
    sys.argv = ["train.py", *argv]
    sys.path[0] = ""
    hook.install(run.package_root())
    for kind in (torch.Tensor, torch.nn.Module):
        kind.half = kind.cuda = lambda self, *args: self
    import train

    base = argv[argv.index("--trainer") + 1]
    result = {
        name: compare(train.build_trainer, configuration(train, [*argv], name))
        for name in (base, f"SAR_{base}")
    }
    with open(record, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
