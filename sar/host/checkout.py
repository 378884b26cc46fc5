"""A script of a checkout with SAR: its own commands know ``--trainer SAR_X``, no file is changed.

`prepare` is what happens in the script's process at the first ``import dassl``, whoever started it
(`sar.host.hook`). Nothing heavy is imported before the script does so itself.
"""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from sar.errors import ConfigError, SARError
from sar.host import CHECKOUT, dassl, register
from sar.host.arguments import check_order, find_config_files

imports: list[Path] = []  # files with trainers or adapters of the user's own


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
    clean: Callable[[Any, str], None] | None = getattr(config, "clean_cfg", None)
    if clean is None:  # old versions
        return

    @wraps(clean)
    def clean_cfg(cfg: Any, trainer: str) -> None:
        sar = cfg.TRAINER.SAR
        clean(cfg, trainer)
        cfg.TRAINER.SAR = sar  # no other trainer's

    config.clean_cfg = clean_cfg  # type: ignore[attr-defined]


def _extend(build: ModuleType, folder: str) -> None:
    """Lets ``build_trainer`` find SAR_X, and speed up the text encoder if asked to."""
    original: Callable[[Any], Any] = build.build_trainer

    def build_trainer(cfg: Any) -> Any:
        from sar.host import fast_text

        fast = fast_text.wanted()
        for file in imports:
            from sar.settings.extensions import import_file

            import_file(file)
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
        if ours := _behind(error):
            more = "" if ours is error else f" ({kind.__name__}: {error})"
            print(f"error: {ours}{more}", file=sys.stderr)
        else:
            original(kind, error, traceback)

    return excepthook


def _behind(error: BaseException | None) -> SARError | None:
    """The error itself, or the one whose handling raised it: DePT's train.py raises its own."""
    while error is not None and not isinstance(error, SARError):
        error = error.__cause__ or error.__context__
    return error
