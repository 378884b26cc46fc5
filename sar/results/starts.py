"""What a `log.txt` records: the starts of a run, what each says of itself, the results it printed.

A log that was continued holds several starts. Every line is read in time linear in its length, and
numbers are plain digits of sane length, so that no file can stop the reading of a whole tree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sar.errors import DataError

LARGEST = 256 * 2**20
"""Bytes of a log beyond which it is no log."""

_NUMBER = re.compile(r"[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4}")
_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,15})?")
_FIELD = re.compile(r"\* (\w+): (\S+)$")
_EVALUATED = re.compile(r"(?:do )?evaluat\w* on (?:the )?\*?(\w+)\*? set", re.IGNORECASE)
_EPOCH = re.compile(r"epoch:? \[(\d+)/(\d+)\]")
_LOSS = re.compile(r"\bloss:? (\S+)")
_LOADED = re.compile(r"\(epoch[ =]+(\d+)")
_FINISHED = ("Finish training", "Finished training")  # Dassl 0.6.3, 0.5.0
_CONTINUED = "--- log continued"  # sarclip appends to log.txt; Dassl begins log.txt-<stamp>
_RESUMED = ("Found checkpoint at", "Resuming after epoch")
_NO_MODEL = ("Note that load_model() is skipped", "No model directory given")
_BACKBONE = "Loading CLIP (backbone: "
_BLOCK = ("total", "correct", "accuracy", "error", "macro_f1")
_ARGUMENTS = "eval_only seed trainer opts dataset_config_file output_dir model_dir load_epoch"
_CONFIG = "SEED MAX_EPOCH NUM_SHOTS SUBSAMPLE_CLASSES TITLE VIEWS"
_SAID = {*_ARGUMENTS.split(), *_CONFIG.split(), "Loading trainer", "Loading dataset"}


@dataclass(frozen=True)
class Score:
    """Correct predictions out of all test images."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Correct predictions in percent."""
        return 100.0 * self.correct / self.total


@dataclass
class Block:
    """A `=> result` block."""

    split: str
    after_training: bool
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def truncated(self) -> bool:
        return any(key not in self.fields for key in _BLOCK)

    def score(self) -> Score | str:
        """The score of a complete block, or what is wrong with it."""
        printed = self.fields["accuracy"].rstrip("%")
        total, correct = (number(self.fields[key]) for key in ("total", "correct"))
        if printed.lower() == "nan":
            return "accuracy is nan"
        if total is None or correct is None or not _PERCENT.fullmatch(printed):
            shown = ", ".join(f"{key} {self.fields[key][:40]!r}" for key in _BLOCK[:3])
            return f"damaged result: {shown}"
        if not 0 <= correct <= total or total == 0:
            return f"damaged result: {correct} correct of {total}"
        score = Score(correct, total)
        decimals = len(printed.partition(".")[2])
        if not abs(score.accuracy - float(printed)) <= 0.5 * 10**-decimals + 1e-6:
            return (
                f"damaged result: {correct} of {total} is {score.accuracy:.2f} %, "
                f"the log says {printed} %"
            )
        return score


@dataclass
class Start:
    """One start of a run."""

    file: str = ""
    said: dict[str, str] = field(default_factory=dict)
    """What stands in the sections Arguments and Config; the first of several values."""
    backbones: list[str] = field(default_factory=list)
    empty: bool = True
    resumed: bool = False
    """It went on from a checkpoint of an earlier start."""
    no_model: bool = False
    """The toolbox said that it loaded no weights."""
    loaded_epoch: int | None = None
    """Epoch of the checkpoint that was evaluated, if one was loaded."""
    finished_training: bool = False
    error: str = ""
    last_epoch_line: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def eval_only(self) -> bool | None:
        said = self.said.get("eval_only")
        return said == "True" if said else None

    @property
    def max_epoch(self) -> int | None:
        return number(self.said.get("MAX_EPOCH", ""))

    @property
    def model_directory(self) -> Path | None:
        return path_in(self.said, "model_dir")

    @property
    def progress(self) -> str:
        """The last epoch: "3/10"; empty before the first."""
        match = _EPOCH.match(self.last_epoch_line)
        return f"{match[1]}/{match[2]}" if match else ""

    def score(self, block: Block) -> Score | str:
        """The block's score, or why the result is none."""
        loss = _LOSS.search(self.last_epoch_line)
        if loss and not _is_finite(loss[1]):
            return f"training loss is {loss[1]}"
        return block.score()

    def missing(self, trained: bool, progress: str) -> str:
        """Why no block of this start counts; `progress` is the last epoch of any start."""
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


def number(text: str) -> int | None:
    """A count such as 1549 or 1,549; None if the text is something else."""
    return int(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def path_in(said: Mapping[str, str], key: str) -> Path | None:
    """The path that a log states under a key, of Windows too; None if it states none."""
    return Path(said[key].replace("\\", "/")) if said.get(key) else None


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:  # cut off
        return True


def read_text(log: Path) -> str:
    """The text of a log file.

    Raises:
        OSError: it cannot be read.
        DataError: it is far too large for a log.
    """
    if (size := log.stat().st_size) > LARGEST:
        raise DataError(f"{log.name} has {size / 2**20:.0f} MB, too much for a log")
    return log.read_text(encoding="utf-8", errors="replace")


def parse(text: str, file: str = "") -> list[Start]:
    """The starts in the text of a log, at least one."""
    start = Start(file)
    starts = [start]
    split, block = "test", None
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            block = None
            continue
        if line.startswith(_CONTINUED):
            start = Start(file)
            starts.append(start)
            split, block = "test", None
        start.empty = False
        if block is not None:
            if match := _FIELD.match(line):
                # A line cut within its number lacks the percent sign and does not count.
                key, value = match.groups()
                if key in ("total", "correct") or value.endswith("%"):
                    block.fields.setdefault(key, value)
                continue
            block = None
        if line.startswith("epoch"):
            start.last_epoch_line = line
            continue
        key, colon, value = line.partition(":")
        if colon and key in _SAID:
            start.said.setdefault(key, value.strip())
        elif line == "=> result":
            block = Block(split, start.finished_training)
            start.blocks.append(block)
        elif line in _FINISHED:
            start.finished_training = True
        elif key == "Error" and value:
            start.error = value.strip()
        elif line[:3] in ("Eva", "eva", "Do ", "do "):
            if match := _EVALUATED.match(line):
                split = match[1].lower()
        elif line.startswith("Load"):
            if line.startswith(_BACKBONE):
                start.backbones.append(line[len(_BACKBONE) :].rstrip(")"))
            elif (at := line.rfind("(epoch")) >= 0 and (match := _LOADED.match(line, at)):
                start.loaded_epoch = number(match[1])
        elif line.startswith(_RESUMED):
            start.resumed = True
        elif line.startswith(_NO_MODEL):
            start.no_model = True
    return starts
