"""How the scripts of this folder end when they fail: as a command of `sarclip` does."""

from collections.abc import Callable

from sar.command_line.failures import report


def run(main: Callable[[], None]) -> None:
    """Calls `main`; what it raises becomes one line of standard error and an exit status."""
    try:
        main()
    except Exception as error:
        raise SystemExit(report(error)) from None
