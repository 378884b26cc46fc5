"""One training or evaluation run: its configuration, then the run itself."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from sar.errors import ConfigError, SARError
from sar.settings.dataset_records import use
from sar.settings.extensions import import_file
from sar.storage.files import expanded
from sar.storage.locks import own_folder
from sar.toolbox.config import find_config, get_cfg_default, merge_file, merge_options
from sar.toolbox.registered import add_registered_keys, register_builtin, registered_rules
from sar.toolbox.run_arguments import Arguments, parse_arguments, print_args


def setup_cfg(args: Arguments, extend_cfg: Callable[[CfgNode], Any] | None = None) -> CfgNode:
    """Defaults, then dataset file, method file, arguments, options; the later wins.

    Args:
        extend_cfg: adds further keys to the defaults before anything is merged.

    Returns:
        The frozen configuration, its names and values checked.

    Raises:
        ConfigError: naming the key and what would be valid.
    """
    cfg = get_cfg_default()
    add_registered_keys(cfg)
    if extend_cfg is not None:
        extend_cfg(cfg)
    if args.dataset_config_file:
        merge_file(cfg, args.dataset_config_file)
    if args.config_file:
        merge_file(cfg, args.config_file)
    for node, key, value in (
        (cfg.DATASET, "ROOT", args.root),
        (cfg, "OUTPUT_DIR", args.output_dir),
        (cfg, "RESUME", args.resume),
        (cfg.DATASET, "SOURCE_DOMAINS", args.source_domains),
        (cfg.DATASET, "TARGET_DOMAINS", args.target_domains),
        (cfg.INPUT, "TRANSFORMS", args.transforms),
        (cfg.TRAINER, "NAME", args.trainer),
        (cfg.MODEL.BACKBONE, "NAME", args.backbone),
        (cfg.MODEL.HEAD, "NAME", args.head),
    ):
        if value:
            node[key] = value
    if args.seed is not None:
        cfg.SEED = args.seed
    merge_options(cfg, args.opts)
    if cfg.DATASET.ROOT:  # whoever reads the run's configuration may be elsewhere
        cfg.DATASET.ROOT = str(expanded(cfg.DATASET.ROOT).absolute())

    from sar.toolbox.data.transforms import image_input
    from sar.toolbox.validation import validate

    validate(cfg, registered_rules())
    cfg.INPUT = image_input(cfg)
    cfg.freeze()
    return cfg


def main(
    argv: Sequence[str],
    extend_cfg: Callable[[CfgNode], Any] | None = None,
    register: Callable[[], Any] | None = None,
) -> None:
    """`run` with the arguments `argv`."""
    run(parse_arguments(argv), extend_cfg, register)


def configure(
    args: Arguments,
    extend_cfg: Callable[[CfgNode], Any] | None = None,
    register: Callable[[], Any] | None = None,
) -> CfgNode:
    """The checked configuration of a run, after its trainers and datasets have been registered.

    Args:
        extend_cfg: see `setup_cfg`.
        register: registers further trainers and datasets, also those that extend what --import
            brought; must not mind being called again.

    Raises:
        ConfigError: naming the key and what would be valid.
    """
    for file in args.imports:
        import_file(Path(file))
    if args.dataset_config_file:
        use(find_config(args.dataset_config_file))
    register_builtin()
    if register is not None:
        register()
    return setup_cfg(args, extend_cfg)


def run(
    args: Arguments,
    extend_cfg: Callable[[CfgNode], Any] | None = None,
    register: Callable[[], Any] | None = None,
) -> None:
    """Train or test once. Can be called many times in a process; see `configure` for what it takes.

    Raises:
        SARError: for whatever the user can set right. Standard output is given back in any case.
    """
    cfg = configure(args, extend_cfg, register)

    from sar.toolbox import distributed

    with distributed.process_group():
        if distributed.world_size() > 1 and cfg.SEED < 0:
            raise ConfigError("several processes need the same --seed, 0 or more; found none")
        if distributed.is_first():
            with own_folder(Path(cfg.OUTPUT_DIR)):
                _run(args, cfg)
        else:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                _run(args, cfg)


def _run(args: Arguments, cfg: CfgNode) -> None:
    from sar.toolbox import distributed
    from sar.toolbox.data.data_manager import deaths_of_workers
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
        with deaths_of_workers():
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
