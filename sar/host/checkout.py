"""A script of a checkout with SAR: its own commands know ``--trainer SAR_X``, no file is changed.

`run` starts such a script; `prepare` is what happens in its process at the first ``import dassl``,
whoever started it (`sar.host.hook`). Nothing heavy is imported before the script does so itself.
"""

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from sar.errors import ConfigError, HostError, SARError
from sar.host import CHECKOUT, dassl, hook, register
from sar.host.arguments import check_order, find_config_files

USAGE = """usage: sarclip run SCRIPT [ARGUMENT ...]

Runs a script of a checkout of CoOp or one of its relatives as `python SCRIPT ARGUMENT ...` would,
with the trainers SAR_X known for every X that the checkout has:

    sarclip run train.py --trainer SAR_CoOp ...   # the arguments of the checkout's train.py
    sarclip run parse_test_res.py ..."""


def run(argv: Sequence[str]) -> None:
    """Runs the script ``argv[0]`` with the arguments behind it, as the process's main module.

    Raises `ConfigError` for a missing script, `HostError` for one that is in no checkout, and
    whatever the script raises.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    script = Path(argv[0])
    if not script.is_file():
        raise ConfigError(
            f"There is no script {argv[0]!r} in {Path.cwd()}. Change to the folder of the checkout "
            "and name its script, as in: sarclip run train.py ..."
        )
    if not hook.checkout_of(argv[0]):
        known = ", ".join(f"{name}.py" for name in hook.TRAINERS)
        raise HostError(
            f"{script.absolute()} is in no checkout: expected a folder trainers/ with one of "
            f"{known} beside it. Without a checkout, use: sarclip train ..."
        )
    sys.argv = list(argv)
    # As `python SCRIPT` has it: the script's folder instead of that of `sarclip`.
    own_folder = 0 if getattr(sys.flags, "safe_path", False) else 1
    sys.path[:own_folder] = [str(script.resolve().parent)]
    hook.install(package_root())
    runpy.run_path(argv[0], run_name="__main__")


def package_root() -> str:
    """The folder that holds the package `sar`."""
    return str(Path(__file__).resolve().parents[2])


def prepare(folder: str) -> None:
    """Makes Dassl importable and the checkout in `folder` know SAR.

    A `SARError` ends the process with one line, here and wherever nobody catches it later: scripts
    know nothing of these errors.
    """
    sys.excepthook = _one_line(sys.excepthook)
    try:
        check_order(sys.argv)
        sys.argv[:] = find_config_files(sys.argv)
        dassl.provide()
    except SARError as error:
        raise SystemExit(f"error: {error}") from None
    toolbox = "dassl" if dassl.locate() else "sar.toolbox"
    dassl.after_import(f"{toolbox}.config", _add_defaults)
    dassl.after_import(f"{toolbox}.engine.build", lambda module: _extend(module, folder))


def _add_defaults(config: ModuleType) -> None:
    from sar.config import add_sar_config

    add_sar_config(config.cfg_default)


def _extend(build: ModuleType, folder: str) -> None:
    """Lets ``build_trainer`` find SAR_X, and speed up the text encoder if asked to."""
    original: Callable[[Any], Any] = build.build_trainer

    def build_trainer(cfg: Any) -> Any:
        from sar.host import fast_text

        fast = fast_text.wanted()
        if cfg.TRAINER.NAME.startswith("SAR_"):
            known = [name for name in register(CHECKOUT) if name.startswith("SAR_")]
            if cfg.TRAINER.NAME not in known:
                raise ConfigError(
                    f"There is no trainer {cfg.TRAINER.NAME!r} for the checkout {folder}; expected "
                    f"one of {', '.join(sorted(known))}"
                )
        trainer = original(cfg)
        if fast:
            fast_text.install(trainer)
        return trainer

    build.build_trainer = build_trainer  # type: ignore[attr-defined]


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _one_line(original: Hook) -> Hook:
    def excepthook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, SARError):
            print(f"error: {error}", file=sys.stderr)
        else:
            original(kind, error, traceback)

    return excepthook
