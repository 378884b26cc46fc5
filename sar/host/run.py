"""`sarclip run`: a checkout's script in this process, with the trainers SAR_X known to it."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sar.errors import ConfigError, HostError, SARError
from sar.host import checkout, hook


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--import",
    "imports",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Python file with trainers or adapters of your own (docs/add-a-method.md); repeatable",
)
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT]...")
def run(imports: Sequence[Path], script: str, arguments: Sequence[str]) -> None:
    """Run a script of a checkout of CoOp or of a relative as `python SCRIPT ARGUMENT ...` would.

    The trainers SAR_X are known for every X that the checkout has:

    \b
      sarclip run train.py --trainer SAR_CoOp ...   # the arguments of the checkout's train.py
      sarclip run parse_test_res.py ...
    """
    try:
        run_script([script, *arguments], imports)
    except SARError:
        raise
    except Exception as error:  # the script's own, said as `python SCRIPT` would
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(1) from None


def run_script(argv: Sequence[str], imports: Sequence[Path] = ()) -> None:
    """Runs the script ``argv[0]`` with the arguments behind it, as the process's main module.

    `imports`: files to import before a trainer is built, see `sar.settings.extensions.import_file`.
    Raises `ConfigError` for a missing script, `HostError` for one that is in no checkout, and
    whatever the script raises.
    """
    script = Path(argv[0])
    if not script.is_file():
        raise ConfigError(
            f"There is no script {argv[0]!r} in {Path.cwd()}. Change to the folder of the checkout "
            "and name its script, as in: sarclip run train.py ..."
        )
    if not hook.checkout_of(argv[0]):
        raise HostError(
            f"{script.absolute()} is in no checkout: expected a train.py that imports dassl beside "
            "it. Without a checkout, use: sarclip train ..."
        )
    sys.argv = list(argv)
    # As `python SCRIPT` has it: the script's folder instead of that of `sarclip`.
    own_folder = 0 if getattr(sys.flags, "safe_path", False) else 1
    sys.path[:own_folder] = [str(script.resolve().parent)]
    checkout.imports[:] = [file.resolve() for file in imports]
    hook.install(package_root())
    runpy.run_path(argv[0], run_name="__main__")


def package_root() -> str:
    """The folder that holds the package `sar`."""
    return str(Path(__file__).resolve().parents[2])
