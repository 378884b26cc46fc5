"""Follows a page of docs/: writes the files it shows and runs the commands it gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def files_of(page: str) -> dict[str, str]:
    """Name -> content of the blocks that stand below a line such as ``name.py``:."""
    return {name: text for name, _, text in _blocks(page) if name}


def commands_of(page: str) -> list[str]:
    """The bash blocks, in order."""
    return [text for name, language, text in _blocks(page) if language == "bash" and not name]


def _blocks(page: str) -> list[tuple[str, str, str]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [(m[1] or "", m[2], m[3]) for m in _FENCED.finditer(text)]
    assert found, f"{page} shows nothing"
    return found


def write_files(page: str, folder: Path) -> None:
    for name, text in files_of(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def follow(page: str, folder: Path, shorter: Mapping[str, str]) -> str:
    """Everything that the page's commands print, run in `folder` with its files.

    Args:
        shorter: texts of the commands -> what stands in their place to save time.
    """
    write_files(page, folder)
    command = folder / "bin" / "sarclip"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sar "$@"\n')
    command.chmod(0o755)
    script = "\n".join(commands_of(page))
    for text, instead in shorter.items():
        assert text in script, f"{page} does not say {text}"
        script = script.replace(text, instead)
    paths = os.pathsep.join((str(command.parent), str(Path(sys.executable).parent)))
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{paths}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
