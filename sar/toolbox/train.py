"""`sarclip train`: one training or evaluation run, with the arguments of CoOp's train.py."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from yacs.config import CfgNode

from sar.errors import ConfigError, SARError
from sar.toolbox.config import get_cfg_default, merge_file, merge_options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sarclip train",
        description="Train a prompt learner and test it, or test only.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", default="", metavar="DIR", help="folder that holds the datasets")
    add("--output-dir", default="", metavar="DIR", help="log.txt, checkpoints, TensorBoard")
    add("--resume", default="", metavar="DIR", help="continue from here instead of --output-dir")
    add("--seed", type=int, help="0 or more: reproducible")
    add("--source-domains", nargs="+", metavar="NAME", help="training domains")
    add("--target-domains", nargs="+", metavar="NAME", help="test domains")
    add("--transforms", nargs="+", metavar="NAME", help="training transforms")
    add("--config-file", default="", metavar="YAML", help="method configuration")
    add("--dataset-config-file", default="", metavar="YAML", help="dataset configuration")
    add("--trainer", default="", metavar="NAME", help="see `sarclip trainers`")
    add("--backbone", default="", metavar="NAME", help="CLIP: name, file, or pocket")
    add(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file with trainers or datasets of your own (docs/add-a-method.md); repeatable",
    )
    add("--head", default="", metavar="NAME", help="accepted, without effect on CLIP")
    add("--eval-only", action="store_true", help="test without training")
    add("--model-dir", default="", metavar="DIR", help="with --eval-only: weights to test")
    add("--load-epoch", type=int, metavar="N", help="... after this epoch (default: the best)")
    add("--no-train", action="store_true", help="build everything, then stop")
    add("opts", nargs="*", metavar="KEY VALUE", help="configuration keys and their values")
    return parser


def setup_cfg(
    args: argparse.Namespace, extend_cfg: Callable[[CfgNode], Any] | None = None
) -> CfgNode:
    """Defaults, then dataset file, method file, arguments, options; the later wins.

    Args:
        extend_cfg: adds nodes to the defaults before anything is merged.

    Returns:
        The frozen configuration, its names and values checked.

    Raises:
        ConfigError: naming the key and what would be valid.
    """
    cfg = get_cfg_default()
    if extend_cfg is not None:
        extend_cfg(cfg)
    if args.dataset_config_file:
        merge_file(cfg, args.dataset_config_file)
    if args.config_file:
        merge_file(cfg, args.config_file)
    for target, value in (
        ("DATASET.ROOT", args.root),
        ("OUTPUT_DIR", args.output_dir),
        ("RESUME", args.resume),
        ("DATASET.SOURCE_DOMAINS", args.source_domains),
        ("DATASET.TARGET_DOMAINS", args.target_domains),
        ("INPUT.TRANSFORMS", args.transforms),
        ("TRAINER.NAME", args.trainer),
        ("MODEL.BACKBONE.NAME", args.backbone),
        ("MODEL.HEAD.NAME", args.head),
    ):
        if value:
            node, _, key = f"cfg.{target}".rpartition(".")
            parent = cfg
            for part in node.split(".")[1:]:
                parent = parent[part]
            parent[key] = value
    if args.seed is not None:
        cfg.SEED = args.seed
    merge_options(cfg, args.opts)
    cfg.freeze()

    from sar.toolbox.validation import validate

    validate(cfg)
    return cfg


def print_args(args: argparse.Namespace, cfg: CfgNode) -> None:
    print("***************\n** Arguments **\n***************")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    print("************\n** Config **\n************")
    print(cfg)


def register_builtin() -> None:
    """Make the toolbox's own trainers and datasets known."""
    import sar.toolbox.data.datasets.demo
    import sar.toolbox.data.datasets.fixed_split
    import sar.toolbox.data.datasets.imagenet
    import sar.toolbox.data.datasets.own
    import sar.toolbox.trainers  # noqa: F401


def import_file(path: Path) -> ModuleType:
    """The module of a Python file, run once in a process, so that it registers what it defines.

    Raises:
        ConfigError: there is no such file, or a module of its name is there already.
    """
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"--import {path}: expected the path of a Python file (.py)")
    spec = spec_from_file_location(path.stem, path.resolve())
    assert spec is not None  # the suffix decides
    assert spec.loader is not None
    if present := sys.modules.get(path.stem):
        if getattr(present, "__file__", None) == spec.origin:
            return present
        raise ConfigError(f"--import {path}: {path.stem!r} is another module's name; rename it")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def main(
    argv: Sequence[str] | None = None,
    extend_cfg: Callable[[CfgNode], Any] | None = None,
    register: Callable[[], Any] | None = None,
) -> None:
    """Train or test once. Can be called many times in a process.

    Args:
        argv: arguments, by default those of the process.
        extend_cfg: see `setup_cfg`.
        register: registers further trainers and datasets; must not mind being called again.

    Raises:
        SARError: for whatever the user can set right. Standard output is given back in any case.
    """
    args = build_parser().parse_intermixed_args(argv)
    register_builtin()
    if register is not None:
        register()
    extensions = [import_file(Path(file)) for file in args.imports]

    def extend(cfg: CfgNode) -> None:
        for add_keys in (extend_cfg, *(vars(module).get("extend_cfg") for module in extensions)):
            if add_keys is not None:
                add_keys(cfg)

    cfg = setup_cfg(args, extend)

    from sar.toolbox import distributed

    with distributed.process_group():
        if distributed.world_size() > 1 and cfg.SEED < 0:
            raise ConfigError("several processes need the same --seed, 0 or more; found none")
        if distributed.is_first():
            _run(args, cfg)
        else:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                _run(args, cfg)


def _run(args: argparse.Namespace, cfg: CfgNode) -> None:
    from sar.toolbox import distributed
    from sar.toolbox.engine import build_trainer
    from sar.toolbox.utils import collect_env_info, set_random_seed, setup_logger

    logger = setup_logger(cfg.OUTPUT_DIR) if distributed.is_first() else None
    try:
        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
        print_args(args, cfg)
        print(f"** System info **\n{collect_env_info()}\n")
        trainer = build_trainer(cfg)
        if args.eval_only:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            trainer.test()
        elif not args.no_train:
            trainer.train()
    except SARError as error:
        print(f"Error: {error}")
        raise
    finally:
        if logger is not None:
            logger.close()
