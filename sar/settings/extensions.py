"""What comes from outside the package: Python files (--import), configuration files (--configs)."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from sar.command_line.commands import PATH
from sar.errors import ConfigError, SARError, one_line
from sar.settings.config_files import use_folders

_Command = TypeVar("_Command", bound=Callable[..., Any])
# Keys of click's context, which a group of commands and its command share.
_IMPORTED, _FOLDERS = "sar.imported", "sar.folders"


def import_file(path: Path) -> ModuleType:
    """The module of a Python file, run once in a process, so that it registers what it defines.

    Raises:
        ConfigError: there is no such file, it cannot be run, or a module of its name is there
            already.
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
    except BaseException as error:
        del sys.modules[path.stem]
        if isinstance(error, SARError) or not isinstance(error, Exception):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == spec.origin]
        where = f"{path}, line {lines[-1]}" if lines else path  # a SyntaxError has no frame
        raise ConfigError(
            f"--import {where}: {type(error).__name__}: {one_line(error)}; `python {path}` shows "
            "the whole traceback"
        ) from error
    return module


def parameters() -> list[click.Parameter]:
    """--import and --configs of a command. They take effect while its arguments are read."""
    return [
        click.Option(
            ["--import", "imports"],
            type=PATH,
            multiple=True,
            metavar="FILE",
            callback=_import,
            expose_value=False,
            is_eager=True,
            help="Python file with trainers, datasets or protocols of your own; repeatable.",
        ),
        click.Option(
            ["--configs"],
            type=PATH,
            multiple=True,
            metavar="DIR",
            callback=_look_in,
            expose_value=False,
            is_eager=True,
            help="Folder with datasets/ and trainers/ of your own, which is looked at before "
            "./configs and the package's; repeatable.",
        ),
    ]


def extensible(command: _Command) -> _Command:
    """Gives a command's function these two options; it goes below `click.command`."""
    known = getattr(command, "__click_params__", [])
    command.__click_params__ = [*known, *reversed(parameters())]  # type: ignore[attr-defined]
    return command


def imported() -> tuple[Path, ...]:
    """The files that the running command was told to import, as absolute paths."""
    return tuple(click.get_current_context().meta.get(_IMPORTED, ()))


def _import(context: click.Context, parameter: click.Parameter, files: Sequence[Path]) -> None:
    for file in files:
        import_file(file)
    known = (*context.meta.get(_IMPORTED, ()), *(file.absolute() for file in files))
    context.meta[_IMPORTED] = tuple(dict.fromkeys(known))


def _look_in(context: click.Context, parameter: click.Parameter, given: Sequence[Path]) -> None:
    # Without any, those of an earlier command in this process are forgotten.
    context.meta[_FOLDERS] = (*context.meta.get(_FOLDERS, ()), *given)
    use_folders(context.meta[_FOLDERS])
