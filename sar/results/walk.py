"""Which folders below an output folder are runs, and which cannot be looked into."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sar.results.evaluations import SCORES_FILE
from sar.results.folders import LOG_FILE, is_seed


@dataclass
class Walk:
    """Everything below `root`; links are followed, and every folder is read once.

    Args:
        root: a folder, without links in its path.
    """

    root: Path
    runs: list[Path] = field(default_factory=list)
    """Folders named seed{s} or with a log in them, wherever they lie: a log above others, or one
    in a run's folder, hides none."""
    evaluations: list[Path] = field(default_factory=list)
    """Files of `sarclip evaluate`."""
    closed: list[tuple[Path, str]] = field(default_factory=list)
    """Where runs may be that are not read here, and why."""
    _seen: set[str] = field(default_factory=set)
    _links: list[str] = field(default_factory=list)
    _elsewhere: dict[str, str] = field(default_factory=dict)
    """Link -> the folder that is read already."""

    def __post_init__(self) -> None:
        real = self._read(str(self.root), str(self.root))
        # Links come last, so that a run counts where it really lies.
        while self._links:
            real |= self._follow(self._links.pop(0))
        for link, target in self._elsewhere.items():
            if any(run == target or run.startswith(target + os.sep) for run in real):
                self.closed.append((Path(link), f"a link to {target}, which is read there"))
        self.runs.sort()
        self.evaluations.sort()

    def _read(self, top: str, real_top: str) -> set[str]:
        """Read all below a folder; returns the real paths of the runs.

        Args:
            top, real_top: its path as it was reached, and without links.
        """
        found = set()
        pending = [(top, real_top, False)]
        while pending:
            folder, real, within_run = pending.pop()
            self._seen.add(real)
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self.closed.append((Path(folder), f"cannot be read: {error.strerror or error}"))
                continue
            named = is_seed(os.path.basename(folder))
            if named or any(entry.name.startswith(LOG_FILE) for entry in entries):
                self.runs.append(Path(folder))
                found.add(real)
                within_run = True
            for entry in entries:
                if entry.name == SCORES_FILE:
                    self.evaluations.append(Path(entry.path))
                if entry.is_symlink():
                    # What is linked in a run's own folder are checkpoints and files.
                    if not within_run:
                        self._links.append(entry.path)
                elif entry.is_dir():
                    pending.append((entry.path, f"{real}{os.sep}{entry.name}", within_run))
        return found

    def _follow(self, link: str) -> set[str]:
        real = os.path.realpath(link)
        if not os.path.exists(real):
            target = os.readlink(link)
            self.closed.append((Path(link), f"a link to {target}, which is not there"))
        elif self.root.is_relative_to(real):
            self.closed.append((Path(link), f"a link to {real}, which it lies in itself"))
        elif real in self._seen:
            self._elsewhere[link] = real
        elif os.path.isdir(real):
            return self._read(link, real)
        return set()
