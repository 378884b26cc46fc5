"""One run's accuracy from the `log.txt` files that Dassl and `sar.toolbox` write.

Only what the log proves is counted: the counts of a complete `=> result` block, which for a
training run must stand after "Finish training" (Dassl 0.6.3) or "Finished training" (0.5.0).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from sar.results.folders import LOG_FILE

_LOG = re.compile(rf"{re.escape(LOG_FILE)}(-[\d-]+)?")
_FIELD = re.compile(r"\* (\w+): (\S+)$")
_EVALUATED = re.compile(r"evaluat\w* on (?:the )?\*?(\w+)\*? set", re.IGNORECASE)
_FINISHED = re.compile(r"Finish(?:ed)? training$")
_EPOCH = re.compile(r"epoch:? \[(\d+)/(\d+)\]")
_LOSS = re.compile(r"\bloss:? (\S+)")
_LOADED = re.compile(r"\(epoch[ =]+(\d+)")
_CONTINUED = "--- log continued"  # sarclip appends to log.txt; Dassl begins log.txt-<stamp>
_SETTING = re.compile(r"(eval_only|MAX_EPOCH|SUBSAMPLE_CLASSES): (\S+)$")
_MODEL = re.compile(r"model_dir: (.+)$")
_BLOCK = ("total", "correct", "accuracy", "error", "macro_f1")


@dataclass(frozen=True)
class Score:
    """Correct predictions out of all test images."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Correct predictions in percent."""
        return 100.0 * self.correct / self.total


@dataclass(frozen=True)
class Run:
    """The outcome of one output directory: a score, or the reason why there is none."""

    directory: Path
    score: Score | None
    reason: str = ""
    epochs: int | None = None
    """Training length that the log's config states (OPTIM.MAX_EPOCH)."""
    loaded_epoch: int | None = None
    """Epoch of the checkpoint that was evaluated, if one was loaded."""
    model_directory: Path | None = None
    """Where that checkpoint was, as the log's arguments say."""


def read_run(directory: Path, *, trained: bool, subset: str | None = None) -> Run:
    """Read `log.txt` and its continuations `log.txt-<stamp>` in `directory`.

    Args:
        trained: the run is a training; logs of evaluations (`eval_only: True`) in the same
            directory are then ignored. False: a run that only evaluates.
        subset: the DATASET.SUBSAMPLE_CLASSES this run must have (checked if the log states it).

    The last complete result wins: a crashed restart does not undo an earlier finished run.
    """
    paths = sorted(p for p in _files(directory) if _LOG.fullmatch(p.name))
    if not paths:
        return Run(directory, None, f"no {LOG_FILE}")
    try:
        logs = [log for path in paths for log in _read_log(path)]
    except OSError as error:
        return Run(directory, None, f"cannot read the log: {error.strerror or error}")
    logs = [log for log in logs if log.eval_only in (None, not trained)]
    if not logs:
        kind = "an evaluation, not of a training" if trained else "a training, not of an evaluation"
        return Run(directory, None, f"the log is that of {kind}")
    for log in reversed(logs):
        for block in reversed(log.blocks):
            if block.truncated or block.split == "val" or (trained and not block.after_training):
                continue
            score = log.score(block)
            if not isinstance(score, Score):
                return Run(directory, None, score)
            if subset and log.subset not in (None, subset):
                return Run(
                    directory,
                    None,
                    f"wrong classes: expected {subset}, the log's config "
                    f"says SUBSAMPLE_CLASSES {log.subset}",
                )
            return Run(directory, score, "", log.max_epoch, log.loaded_epoch, log.model_directory)
    progress = next((log.progress for log in reversed(logs) if log.progress), "")
    return Run(directory, None, logs[-1].missing(trained, progress))


def _files(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_file()]
    except OSError:
        return []


@dataclass
class _Block:
    split: str
    after_training: bool
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def truncated(self) -> bool:
        return any(key not in self.fields for key in _BLOCK)


@dataclass
class _Log:
    """One start of a run; a run that was continued has several."""

    empty: bool = True
    eval_only: bool | None = None
    subset: str | None = None
    max_epoch: int | None = None
    loaded_epoch: int | None = None
    model_directory: Path | None = None
    finished_training: bool = False
    progress: str = ""
    error: str = ""
    last_loss: str = ""
    blocks: list[_Block] = field(default_factory=list)

    def score(self, block: _Block) -> Score | str:
        """The block's score, or what is wrong with it."""
        printed = block.fields["accuracy"].rstrip("%")
        try:
            total = int(block.fields["total"].replace(",", ""))
            correct = int(block.fields["correct"].replace(",", ""))
            accuracy = float(printed)
        except ValueError:
            shown = ", ".join(f"{key} {block.fields[key]!r}" for key in _BLOCK[:3])
            return f"damaged result: {shown}"
        if "nan" in (printed.lower(), self.last_loss.lower()):
            what = "accuracy" if math.isnan(accuracy) else "training loss"
            return f"{what} is nan"
        if not 0 <= correct <= total or total == 0:
            return f"damaged result: {correct} correct of {total}"
        score = Score(correct, total)
        decimals = len(printed.partition(".")[2])
        if not abs(score.accuracy - accuracy) <= 0.5 * 10**-decimals + 1e-6:
            return (
                f"damaged result: {correct} of {total} is {score.accuracy:.2f} %, "
                f"the log says {printed} %"
            )
        return score

    def missing(self, trained: bool, progress: str) -> str:
        """Why no block of this log counts; `progress` is the last epoch of any log."""
        if self.empty:
            return "empty log"
        why = f" ({self.error})" if self.error else ""
        if trained and not self.finished_training:
            where = f"at epoch {progress}" if progress else "before its first epoch"
            return f"unfinished: training stopped {where}{why}"
        if any(block.truncated for block in self.blocks):
            return "truncated: the result block is incomplete"
        if self.blocks:
            return "no result on the test set (only on the validation set)"
        return f"unfinished: no result block{why}"


def _read_log(path: Path) -> list[_Log]:
    log = _Log()
    logs = [log]
    split, block = "test", None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = line.strip()
        if line.startswith(_CONTINUED):
            log = _Log()
            logs.append(log)
            split, block = "test", None
        log.empty = log.empty and not line
        if block is not None:
            if match := _FIELD.match(line):
                # A line cut within its number lacks the percent sign and does not count.
                key, value = match.groups()
                if key in ("total", "correct") or value.endswith("%"):
                    block.fields.setdefault(key, value)
                continue
            block = None
        if line == "=> result":
            block = _Block(split, log.finished_training)
            log.blocks.append(block)
        elif match := _SETTING.match(line):
            key, value = match.groups()
            if key == "eval_only":
                log.eval_only = value == "True"
            elif key == "SUBSAMPLE_CLASSES":
                log.subset = value
            elif value.isdigit():
                log.max_epoch = int(value)
        elif match := _MODEL.match(line):
            log.model_directory = Path(match[1])
        elif match := _EVALUATED.search(line):
            split = match[1].lower()
        elif _FINISHED.match(line):
            log.finished_training = True
        elif line.startswith("Error: "):
            log.error = line.removeprefix("Error: ")
        elif match := _LOADED.search(line):
            log.loaded_epoch = int(match[1])
        elif match := _EPOCH.search(line):
            log.progress = f"{match[1]}/{match[2]}"
            if match := _LOSS.search(line):
                log.last_loss = match[1]
    return logs
