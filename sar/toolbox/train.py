"""One training or evaluation run, with the arguments of CoOp's train.py."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import click
from yacs.config import CfgNode

from sar.command_line.commands import KeyValueCommand, parse
from sar.errors import ConfigError, SARError
from sar.settings.dataset_records import use
from sar.settings.extensions import import_file
from sar.storage.files import expanded
from sar.storage.locks import own_folder
from sar.toolbox.config import (
    VALUES,
    Rule,
    find_config,
    get_cfg_default,
    merge_file,
    merge_options,
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line of a run; names as in CoOp's train.py."""

    root: str = ""
    output_dir: str = ""
    resume: str = ""
    seed: int | None = None
    source_domains: tuple[str, ...] = ()
    target_domains: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    config_file: str = ""
    dataset_config_file: str = ""
    trainer: str = ""
    backbone: str = ""
    head: str = ""
    imports: tuple[str, ...] = ()
    eval_only: bool = False
    model_dir: str = ""
    load_epoch: int | None = None
    no_train: bool = False
    opts: tuple[str, ...] = ()


class RunCommand(KeyValueCommand):
    """A command with the arguments of one run, which it hands on as `Arguments`."""

    _SEVERAL = ("--source-domains", "--target-domains", "--transforms")

    def __init__(self, name: str, run: Callable[[Arguments], None], **kwargs: Any) -> None:
        super().__init__(
            name, params=_parameters(), callback=lambda **g: run(Arguments(**g)), **kwargs
        )

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # "--transforms A B": as in train.py, all words up to the next option belong to this one.
        words: list[str] = []
        option = ""
        for word in args:
            if word.startswith("--"):
                option = word if word in self._SEVERAL else ""
                words.append(word)
            elif option and words[-1] != option:
                words += [option, word]
            else:
                words.append(word)
        return super().parse_args(context, words)


def _parameters() -> list[click.Parameter]:
    def text(name: str, metavar: str, help: str) -> click.Option:
        return click.Option([name], default="", metavar=metavar, help=help)

    def several(name: str, help: str) -> click.Option:
        return click.Option([name], multiple=True, metavar="NAME...", help=help)

    def flag(name: str, help: str) -> click.Option:
        return click.Option([name], is_flag=True, help=help)

    return [
        text("--root", "DIR", "Folder that holds the datasets."),
        text("--output-dir", "DIR", "For log.txt, checkpoints, TensorBoard."),
        text("--resume", "DIR", "Continue from here instead of --output-dir."),
        click.Option(["--seed"], type=int, help="0 or more: reproducible."),
        several("--source-domains", "Training domains."),
        several("--target-domains", "Test domains."),
        several("--transforms", "Training transforms."),
        text("--config-file", "YAML", "Method configuration."),
        text("--dataset-config-file", "YAML", "Dataset configuration."),
        text("--trainer", "NAME", "See `sarclip trainers`."),
        text("--backbone", "NAME", "CLIP: name, file, or pocket."),
        click.Option(
            ["--import", "imports"],
            multiple=True,
            metavar="FILE",
            help="Python file with trainers or datasets of your own (docs/add-a-method.md); "
            "repeatable.",
        ),
        text("--head", "NAME", "Accepted, without effect on CLIP."),
        flag("--eval-only", "Test without training."),
        text("--model-dir", "DIR", "With --eval-only: weights to test ..."),
        click.Option(
            ["--load-epoch"],
            type=int,
            metavar="N",
            help="... after this epoch. [default: the best]",
        ),
        flag("--no-train", "Build everything, then stop."),
        click.Argument(["opts"], nargs=-1, metavar="[KEY VALUE]..."),
    ]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments of one run; raises `UsageError` for wrong ones."""
    return Arguments(**parse(RunCommand("train", run), argv))


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
    if cfg.DATASET.ROOT:  # whoever reads the run's configuration may be elsewhere
        cfg.DATASET.ROOT = str(expanded(cfg.DATASET.ROOT).absolute())

    from sar.toolbox.data.transforms import image_input
    from sar.toolbox.validation import validate

    validate(cfg, registered_rules())
    cfg.INPUT = image_input(cfg)
    cfg.freeze()
    return cfg


def print_args(args: Arguments, cfg: CfgNode) -> None:
    """The two sections of a log that say how it came about; the published parsers read them."""
    print("***************\n** Arguments **\n***************")
    for field in sorted(fields(args), key=lambda field: field.name):
        value = getattr(args, field.name)
        if isinstance(value, tuple):  # written as train.py does
            value = list(value) if value or field.name == "opts" else None
        print(f"{field.name}: {value}")
    print("************\n** Config **\n************")
    print(cfg)


def register_builtin() -> None:
    """Make the toolbox's own trainers and datasets known."""
    import sar.toolbox.data.datasets.demo
    import sar.toolbox.data.datasets.imagenet
    import sar.toolbox.trainers  # noqa: F401
    from sar.toolbox.data.datasets.recorded import register_recorded

    register_recorded()


def add_registered_keys(cfg: CfgNode) -> None:
    """Add what only one trainer or dataset has: the file of any may define `extend_cfg(cfg)`."""
    for add_keys in _of_modules("extend_cfg"):
        add_keys(cfg)


def registered_rules() -> dict[str, Rule]:
    """What numbers and lists may be, by key: VALUES of the toolbox and of any such file."""
    return dict(chain(VALUES.items(), *(table.items() for table in _of_modules("VALUES"))))


def _of_modules(name: str) -> list[Any]:
    """What the files of the registered trainers and datasets have by this name."""
    from sar.toolbox.data import DATASET_REGISTRY
    from sar.toolbox.engine import TRAINER_REGISTRY

    registered = (*TRAINER_REGISTRY.registered(), *DATASET_REGISTRY.registered())
    modules = (sys.modules.get(name) for name in dict.fromkeys(r.__module__ for r in registered))
    return [found for module in modules if (found := getattr(module, name, None)) is not None]


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
