"""What scripts need that run a checkout's trainers on the original Dassl and record them."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

FLAGS = (
    "root output_dir resume source_domains target_domains transforms config_file "
    "dataset_config_file trainer backbone head model_dir load_epoch seed"
)


def open_checkout(hosts: str, checkout: str) -> Any:
    """The module train.py of a checkout, with the original Dassl; both lie in `hosts`."""
    from sar.host.dassl import locate, provide

    sys.path[:0] = [f"{hosts}/{checkout}", f"{hosts}/Dassl.pytorch"]
    provide()
    assert locate(), "the embedded toolbox must not be compared with itself"
    return import_module("train")


def configurations(train: Any, argv: Sequence[str]) -> Iterator[tuple[Namespace, Any]]:
    """Arguments and configuration of each run in `argv`, separated by "--next"."""
    rest = list(argv)
    while rest:
        cut = rest.index("--next") if "--next" in rest else len(rest)
        options, rest = rest[:cut], rest[cut + 1 :]
        split = next(i for i, word in enumerate(options) if "." in word and word.isupper())
        args = Namespace(**dict.fromkeys(FLAGS.split(), ""), opts=options[split:])
        for flag, value in zip(options[:split:2], options[1:split:2], strict=True):
            setattr(args, flag.removeprefix("--").replace("-", "_"), value)
        args.seed = int(args.seed)
        yield args, train.setup_cfg(args)


def optimizer_settings(trainer: Any) -> dict[str, Any]:
    """All but the parameters; 20 small steps hardly show a wrong weight decay."""
    (group,) = trainer.optim.param_groups
    return {key: value for key, value in group.items() if key != "params"}


def as_host(argv: list[str]) -> list[str]:
    """Arguments of ours for a checkout, which knows no MiniPets."""
    return ["OxfordPets" if word == "MiniPets" else word for word in argv]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())
