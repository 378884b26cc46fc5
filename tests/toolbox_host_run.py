"""Runs CoOp's own trainer on original Dassl and records what it does; a script for the parity test.

Usage: toolbox_host_run.py HOSTS RECORD OPTIONS...   HOSTS holds CoOp and Dassl.pytorch; OPTIONS are
those of CoOp's train.py, several runs separated by "--next".
"""

import sys
from pathlib import Path
from types import ModuleType

import torch


def record(trainer) -> dict:
    """Train; return each step's batch, logits, loss, gradient and rate, and the final weights."""
    learner = trainer.model.prompt_learner
    steps = []
    result = {
        "initial": learner.ctx.detach().clone(),
        "shots": [(Path(d.impath).name, d.label) for d in trainer.dm.dataset.train_x],
        "steps": steps,
    }
    logits = []
    trainer.model.register_forward_hook(lambda module, args, output: logits.append(output))
    original = trainer.forward_backward

    def forward_backward(batch):
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


def learning_rates(get_cfg_default, build_optimizer, build_lr_scheduler, options) -> list[float]:
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


def bridge_dassl() -> None:
    """Dassl 0.6.3 on current packages: absent imports, and a scheduler argument that is gone."""
    import torchvision  # noqa: F401 (looks for sklearn, before the stand-in is there)

    for name in ("gdown", "dassl.data.datasets.dg.wilds", "sklearn", "sklearn.metrics"):
        sys.modules[name] = ModuleType(name)
    metrics = sys.modules["sklearn.metrics"]
    metrics.f1_score = lambda *args, **kwargs: float("nan")
    metrics.confusion_matrix = None
    base = torch.optim.lr_scheduler._LRScheduler
    original = torch.optim.lr_scheduler.LRScheduler.__init__
    base.__init__ = lambda self, optimizer, last_epoch=-1, verbose=False: original(
        self, optimizer, last_epoch
    )
    load = torch.load
    # Dassl's checkpoints hold a pickled scheduler.
    torch.load = lambda *args, **kwargs: load(*args, **{"weights_only": False, **kwargs})


def main(hosts: str, target: str, *argv: str) -> None:
    sys.path[:0] = [f"{hosts}/CoOp", f"{hosts}/Dassl.pytorch"]
    bridge_dassl()
    import train
    from clip import clip
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    runs = []
    for args, cfg in configurations(train, clip, argv):
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        if args.model_dir:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            weights = trainer.model.prompt_learner.ctx.detach()
            runs.append({"loaded": weights, "accuracy": trainer.test()})
        else:
            runs.append(record(trainer))
    torch.save(runs, target)


def configurations(train, clip, argv):
    """Arguments and configuration of each run in `argv`, from a checkout's `train` module.

    The checkout's `clip` module reads MODEL.BACKBONE.NAME as a path from then on.
    """
    clip._download = lambda url: url
    rest = list(argv)
    while rest:
        cut = rest.index("--next") if "--next" in rest else len(rest)
        options, rest = rest[:cut], rest[cut + 1 :]
        split = next(i for i, word in enumerate(options) if "." in word and word.isupper())
        args = _parse(options[:split])
        args.opts = options[split:]
        cfg = train.setup_cfg(args)
        clip._MODELS[cfg.MODEL.BACKBONE.NAME] = cfg.MODEL.BACKBONE.NAME
        yield args, cfg


def _parse(options):
    from argparse import Namespace

    names = "root output_dir resume source_domains target_domains transforms config_file "
    names += "dataset_config_file trainer backbone head model_dir load_epoch seed"
    values = dict.fromkeys(names.split(), "")
    for flag, value in zip(options[::2], options[1::2], strict=True):
        values[flag.removeprefix("--").replace("-", "_")] = value
    values["seed"] = int(values["seed"])
    return Namespace(**values)


if __name__ == "__main__":
    main(*sys.argv[1:])
