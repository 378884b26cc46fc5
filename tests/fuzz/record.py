"""What came of each trial, kept line by line: a run that was stopped goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from running import Ended, Verdict


@dataclass(frozen=True)
class Trial:
    """What came of one: an input, a fault of the machine or a kill."""

    kind: str
    what: str
    verdict: str
    seconds: float
    """Of a processor, so that other work on the machine does not count."""
    peak: int
    """MiB."""
    said: str
    commit: str

    @property
    def good(self) -> bool:
        return Verdict(self.verdict).good


class Record:
    """A file of trials; of several with the same name the last one counts."""

    def __init__(self, file: Path | None = None) -> None:
        self.file, self.trials = file, dict[tuple[str, str], Trial]()
        self._commit = _commit()
        if file and file.exists():
            for line in file.read_text().splitlines():
                self._put(Trial(**json.loads(line)))

    def _put(self, trial: Trial) -> None:
        self.trials[trial.kind, trial.what] = trial

    def add(self, kind: str, what: str, verdict: Verdict, ended: Ended) -> Trial:
        """Keeps what came of a trial."""
        said = (ended.err.strip() or ended.out.strip()).splitlines()[-1:]
        text = f"{ended.status} {''.join(said)[:500]}"
        seconds = round(ended.seconds, 2)
        trial = Trial(kind, what, verdict.value, seconds, ended.peak, text, self._commit)
        self._put(trial)
        if self.file:
            with self.file.open("a") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
        return trial

    def missing(self, kind: str, names: Collection[str]) -> list[str]:
        """Those of `names` that have not been tried."""
        return [name for name in names if (kind, name) not in self.trials]

    def of(self, kind: str) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.kind == kind]


def _commit() -> str:
    """Of this checkout; with a + where files have been changed since."""
    here = Path(__file__).parent
    commands = ("git rev-parse --short HEAD", "git status --porcelain --untracked-files=no")
    commit, changed = (
        subprocess.run(command.split(), cwd=here, capture_output=True, text=True).stdout.strip()
        for command in commands
    )
    return commit + "+" * bool(changed)
