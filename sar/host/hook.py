"""Reacts when a script of a checkout imports Dassl, and to nothing else.

`sarclip run` installs this finder in its own process. `sarclip host enable` copies this very file
into site-packages, where it is imported whenever Python starts: it must cost next to nothing, so it
imports only what Python has loaded by then, and everything else waits for ``import dassl``.
"""

import os
import sys


def checkout_of(script: str) -> str:
    """The folder of the checkout that `script` belongs to; "" if it belongs to none.

    A checkout has a ``train.py`` that imports dassl, beside the script or one level up.
    """
    folder = os.path.dirname(os.path.abspath(script or "-"))  # "": interactive
    for place in (folder, os.path.dirname(folder)):
        if _imports_dassl(os.path.join(place, "train.py")):
            return place
    return ""


def _imports_dassl(script: str) -> bool:
    try:
        with open(script, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return False
    return any(
        len(words) > 1 and words[0] in ("from", "import") and words[1].split(".")[0] == "dassl"
        for words in lines
    )


class CheckoutFinder:
    """Prepares the process at the first ``import dassl`` of a script that lies in a checkout.

    Args:
        root: the folder that holds the package `sar`, for interpreters that do not find it.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.done = False

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != "dassl" or self.done:
            return None
        self.done = True
        checkout = checkout_of(sys.argv[0]) if getattr(sys, "argv", None) else ""
        if not checkout or not self._prepare(checkout):
            return None
        from importlib.util import find_spec

        return find_spec(name)  # by whatever finders there are now

    def _prepare(self, checkout: str) -> bool:
        for retry in (False, True):
            try:
                from sar.host.checkout import prepare

                prepare(checkout)
            except ModuleNotFoundError as error:
                if error.name != "sar":
                    return self._damaged(error)
                if retry:
                    return False  # this project is gone; leave Python as it would be without it
                sys.path.append(self.root)
            except Exception as error:
                return self._damaged(error)
            else:
                return True
        return False

    def _damaged(self, error):  # type: ignore[no-untyped-def]
        """Says that half of this project is there, and that Python is as it would be without it."""
        what = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"sarclip: the trainers SAR_X are not known here, because its installation in "
            f"{self.root} is damaged ({what}). Install it again, or remove {__file__}",
            file=sys.stderr,
        )
        return False


def install(root: str) -> None:
    """Puts a finder in front of the others, unless there is one."""
    if not any(type(finder).__name__ == CheckoutFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, CheckoutFinder(root))
