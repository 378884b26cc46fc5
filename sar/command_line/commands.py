"""How `sarclip` and its commands are declared: with click, each imported when it is called."""

from __future__ import annotations

import importlib
import io
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from sar.command_line.failures import quiet_threads, report
from sar.command_line.signals import interrupted, listen
from sar.errors import UsageError, suggestion

PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)
SEED = click.IntRange(0, 2**32 - 1)


class Finite(click.FloatRange):
    """A number of a range that is neither NaN nor infinite."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


def run(command: click.Command, argv: Sequence[str] | None = None, name: str = "") -> NoReturn:
    """Runs `command` as the process's command line, and exits.

    Whatever it raises becomes one line on standard error and an exit status
    (`sar.command_line.failures`), also Ctrl-C, SIGTERM and SIGHUP (`sar.command_line.signals`).
    """
    listen()
    quiet_threads()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be in no encoding at all
            stream.reconfigure(errors="backslashreplace")
    try:
        call(command, argv, name)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        raise interrupted(error) from None
    except Exception as error:
        raise SystemExit(report(error)) from None
    raise SystemExit(0)


def call(
    command: click.Command, argv: Sequence[str] | None = None, name: str = "", context: Any = None
) -> None:
    """Runs `command` with the arguments `argv` (default: the process's).

    Args:
        name: what messages call it, by default ``sarclip`` and the command's name.
        context: what the command finds as ``obj`` of click's context.

    Raises:
        UsageError: the arguments are wrong; one line, with the command whose --help tells more.
        BaseException: whatever the command raises.
    """
    with _one_line():
        command.main(
            args=None if argv is None else list(argv),
            prog_name=name or f"sarclip {command.name}",
            standalone_mode=False,
            obj=context,
        )


@contextmanager
def continues() -> Iterator[None]:
    """Around work that goes on where it was stopped: Ctrl-C says so, and ends the process."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise interrupted(error, "; the same command continues") from None


def parse(command: click.Command, argv: Sequence[str]) -> dict[str, Any]:
    """The parameters of `command` with the arguments `argv`; raises `UsageError` for wrong ones."""
    with _one_line():
        return command.make_context(f"sarclip {command.name}", list(argv)).params


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "sarclip"
        text = " ".join(error.format_message().split()).rstrip(".")
        raise UsageError(f"{text}; see {where} --help") from None
    except click.Abort as error:  # click's name for Ctrl-C, and for an EOFError of any command
        raise (error.__cause__ or KeyboardInterrupt()) from None


class CommandGroup(click.Group):
    """A group that knows what a wrong command may have meant, and shows its help without one.

    Some of its commands may lie in other modules, imported when they are called.

    Args:
        lazy: name -> ("module:attribute" of the command, its line in the group's --help).
    """

    group_class = type  # groups in it are of this class, too

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.lazy:
            return super().get_command(context, name)
        module, _, attribute = self.lazy[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(context, args or ["--help"])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(context)
        if args[0] not in names and not args[0].startswith("-"):
            hint = suggestion(args[0], names) or f"; expected one of {', '.join(names)}"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, which imports none of them."""
        rows = [
            (name, self.lazy[name][1] if name in self.lazy else self.commands[name].help or "")
            for name in self.list_commands(context)
        ]
        with formatter.section("Commands"):
            formatter.write_dl([(name, text.partition("\n")[0]) for name, text in rows])


class KeyValueCommand(click.Command):
    """A command that takes KEY VALUE pairs, whose values may begin with a minus (``-1``).

    The pairs are its last parameter, an argument with any number of words; they may stand in front
    of, between and behind the command's options.
    """

    ignore_unknown_options = True  # a negative number looks like one

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(context, args)
        pairs: Sequence[str] = context.params[self.params[-1].name or ""]
        for word in pairs:
            if word.startswith("-") and not _NEGATIVE.match(word):
                hint = suggestion(word, [name for option in self.params for name in option.opts])
                raise click.UsageError(f"there is no option {word}{hint}", context)
        if len(pairs) % 2:
            raise click.UsageError(
                f"options must be KEY VALUE pairs, found {' '.join(pairs)!r}", context
            )
        return rest


_WHOLE = re.compile("0*[1-9][0-9]{0,9}")
_NEGATIVE = re.compile(r"-(\.?\d|inf$)")


def names(text: str) -> tuple[str, ...]:
    """Type of an option that takes "a,b" or "a b": one or more names, each once."""
    if not (found := tuple(dict.fromkeys(text.replace(",", " ").split()))):
        raise click.BadParameter("expected one or more, separated by commas; found none")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """Type of an option that takes "1,2": one or more whole numbers from 1 up, each once."""
    wrong = [word for word in names(text) if not _WHOLE.fullmatch(word) or int(word) >= 2**32]
    if wrong:
        large = " (it is too large)" if _WHOLE.match(wrong[0]) else ""
        found = f"found {wrong[0][:40]!r}{large}"
        raise click.BadParameter(f"expected a whole number from 1 up, {found}")
    return tuple(dict.fromkeys(map(int, names(text))))


def shares(text: str) -> tuple[float, ...]:
    """Type of an option that takes "0.25,0.5": one or more numbers from 0 up to, not with, 1."""
    try:
        # To as many figures as names of folders have; 0.0 added makes 0 of -0.
        rounded = (float(f"{float(word):g}") + 0.0 for word in names(text))
        found = tuple(dict.fromkeys(rounded))
    except ValueError:
        found = (math.nan,)
    if not all(0 <= share < 1 for share in found):
        raise click.BadParameter(f"expected numbers from 0 up to, not with, 1, found {text!r}")
    return found


def above_zero(text: str) -> float:
    """Type of an option that takes a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number above 0")
    return number


def key_value(text: str) -> tuple[str, int | str]:
    """Type of an option that takes KEY=VALUE."""
    key, found, value = text.partition("=")
    if not (key and found):
        raise click.BadParameter(f"expected KEY=VALUE, found {text!r}")
    return key, int(value) if value.isdecimal() else value
