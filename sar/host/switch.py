"""`sarclip host enable|disable|status`: whether ``python train.py --trainer SAR_X`` knows SAR_X.

Enabling writes two small files into site-packages: ``sarclip_host.pth``, which Python reads at
every start, and the finder it imports (a copy of `sar.host.hook`). They do nothing outside a
checkout, and nothing at all once the installation or source tree that wrote them is gone.
"""

import py_compile
import site
import sys
import sysconfig
from enum import Enum
from pathlib import Path

from sar.errors import HostError
from sar.host import hook
from sar.host.run import package_root
from sar.storage.files import write_file

MODULE = "_sarclip_host"
PTH = "sarclip_host.pth"
# Python would report an error in the .pth file at every start, so there must be none, whichever of
# the two files is gone.
_CODE = """try:
    import {module}
    {module}.install({root!a})
except (Exception, SystemExit):
    pass
"""


class Status(Enum):
    """Whether `python train.py` knows SAR_X in this Python environment."""

    ENABLED = "enabled"
    OUTDATED = (
        "enabled by another version or installation of this project, or its files were changed"
    )
    INCOMPLETE = "not enabled, because one of its files is missing: enable it again"
    DISABLED = "disabled"


def enable() -> Path:
    """Writes the files; returns the folder. Enabling again brings them up to date.

    Raises `HostError` if no site-packages folder of this environment can be written to.
    """
    problems = []
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in _files().items():
                write_file(folder / name, text)  # at once: another Python may be starting
            # Compiling takes longer than everything else; Python may not be allowed to keep it.
            py_compile.compile(str(folder / f"{MODULE}.py"))
        except OSError as error:
            problems.append(f"{folder} ({error.strerror})")
            continue
        return folder
    raise HostError(
        f"Nothing was changed: Python reads such files from {', '.join(problems)} only, which "
        "cannot be written to. Use a virtual environment of your own, or: sarclip run train.py ..."
    )


def disable() -> list[Path]:
    """Removes what `enable` wrote; returns the files. Raises `HostError` if one cannot be."""
    files = [path for folder in _folders() for name in _files() if (path := folder / name).exists()]
    try:
        for path in files:
            path.unlink()
            for cached in path.parent.glob(f"__pycache__/{MODULE}.*.pyc"):
                cached.unlink()
    except OSError as error:
        raise HostError(f"{error.filename} cannot be removed: {error.strerror}") from error
    return files


def status() -> tuple[Status, Path | None]:
    """The status here, and the folder with the two files; None if there are none."""
    for folder in _folders():
        found = {name: folder / name for name in _files() if (folder / name).is_file()}
        if found:
            if len(found) < len(_files()):
                return Status.INCOMPLETE, folder
            current = all(
                found[name].read_bytes() == text.encode() for name, text in _files().items()
            )
            return Status.ENABLED if current else Status.OUTDATED, folder
    return Status.DISABLED, None


def _files() -> dict[str, str]:
    code = _CODE.format(module=MODULE, root=package_root())
    return {
        f"{MODULE}.py": Path(hook.__file__).read_text("utf-8"),
        # One line that begins with "import": Python takes any other for a path. It comes last,
        # because it needs the other file.
        PTH: f"import sys; exec({code!a})\n",
    }


def _folders() -> list[Path]:
    """Where Python reads .pth files: the environment's folder, then the user's."""
    folders = [Path(sysconfig.get_path("purelib"))]
    if site.ENABLE_USER_SITE and sys.prefix == sys.base_prefix:
        folders.append(Path(site.getusersitepackages()))
    return folders
