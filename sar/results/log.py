"""One run's accuracy from the `log.txt` files that Dassl and `sar.toolbox` write.

Only what the log proves is counted: the counts of a complete `=> result` block, which for a
training run must stand after the end of the training. Where a folder holds results that differ,
and none continues the others, it is not known which is the run's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sar.errors import DataError
from sar.results.folders import LOG_FILE
from sar.results.starts import Score, Start, parse, read_text

_LOG = re.compile(rf"{re.escape(LOG_FILE)}(-[\d-]+)?")
_HEAD = 6144  # bytes that hold the section Arguments


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
    said: Mapping[str, str] = field(default_factory=dict)
    """What the log states of the run, see `sar.results.starts`."""
    notes: tuple[str, ...] = ()
    """Other complete results in the directory, and why they do not count."""
    content: int = 0
    """A hash of what was read: the same of a copy."""


def read_run(
    directory: Path,
    *,
    trained: bool,
    subset: str | None = None,
    against: Callable[[Start], str] = lambda start: "",
) -> Run:
    """Read `log.txt` and its continuations `log.txt-<stamp>` in `directory`.

    Args:
        trained: the run is a training; logs of evaluations (`eval_only: True`) in the same
            directory are then ignored. False: a run that only evaluates.
        subset: the DATASET.SUBSAMPLE_CLASSES this run must have (checked if the log states it).
        against: says why a start of the run is not the one that is looked for, if it is not.

    A crashed restart does not undo an earlier finished run, and a start that continues a finished
    training replaces its result. Other results that differ are none.
    """
    paths = logs_in(directory)
    if not paths:
        return Run(directory, None, f"no {LOG_FILE}")
    try:
        texts = {path.name: read_text(path) for path in paths}
    except (OSError, DataError) as error:
        reason = getattr(error, "strerror", None) or error
        return Run(directory, None, f"cannot read the log: {reason}")
    starts = [start for name, text in texts.items() for start in parse(text, name)]
    starts = [start for start in starts if start.eval_only in (None, not trained)]
    if not starts:
        kind = "an evaluation, not of a training" if trained else "a training, not of an evaluation"
        return Run(directory, None, f"the log is that of {kind}")
    run = _outcome(directory, starts, trained, lambda s: _wrong_classes(s, subset) or against(s))
    return replace(run, content=hash(tuple(texts.items())))


def logs_in(directory: Path) -> list[Path]:
    """`log.txt` and its continuations, the oldest first."""
    try:
        return sorted(p for p in directory.iterdir() if _LOG.fullmatch(p.name) and p.is_file())
    except OSError:
        return []


def read_head(directory: Path) -> Mapping[str, str]:
    """What the oldest log of a run states in its section Arguments; empty if it states nothing."""
    for path in logs_in(directory)[:1]:
        try:
            with path.open("rb") as file:
                return parse(file.read(_HEAD).decode("utf-8", errors="replace"))[0].said
        except OSError:
            break
    return {}


_Result = tuple[Start, "Score | str"]
"""A start, and the score that one of its complete blocks holds or what is wrong with it."""


def _outcome(
    directory: Path, starts: Sequence[Start], trained: bool, against: Callable[[Start], str]
) -> Run:
    found: list[_Result] = []
    replaced: list[_Result] = []
    strangers: dict[str, str] = {}  # file and reason
    for start in starts:
        results = [
            (start, start.score(block))
            for block in start.blocks
            if not block.truncated
            and block.split != "val"
            and (block.after_training or not trained)
        ]
        if results and (reason := against(start)):
            strangers.setdefault(reason, start.file)
        elif results:
            if start.resumed:
                replaced, found = [*replaced, *found], []
            found += results
    if not found:
        progress = next((start.progress for start in reversed(starts) if start.progress), "")
        reason = "; ".join(strangers) or starts[-1].missing(trained, progress)
        return Run(directory, None, reason)
    start, score = found[-1]
    if not isinstance(score, Score):
        return Run(directory, None, score)
    if differing := _differing(found, score):
        several = ", ".join(_shown(result) for result in (*differing, found[-1]))
        reason = f"results that differ: {several}; keep the logs of one run"
        return Run(directory, None, reason)
    notes = [f"{file}: not counted: {reason}" for reason, file in strangers.items()]
    notes += [f"replaced by {_shown(found[-1])}: {_shown(r)}" for r in _differing(replaced, score)]
    return Run(
        directory,
        score,
        "",
        start.max_epoch,
        start.loaded_epoch,
        start.model_directory,
        start.said,
        tuple(notes),
    )


def _differing(results: Sequence[_Result], score: Score) -> list[_Result]:
    """The results with another score, each score once."""
    scores = {found: (start, found) for start, found in results if isinstance(found, Score)}
    return [result for found, result in scores.items() if found != score]


def _shown(result: _Result) -> str:
    start, score = result
    assert isinstance(score, Score)
    return f"{score.accuracy:.2f} % in {start.file}"


def _wrong_classes(start: Start, subset: str | None) -> str:
    said = start.said.get("SUBSAMPLE_CLASSES")
    if not subset or said in (None, subset):
        return ""
    return f"wrong classes: expected {subset}, the log's config says SUBSAMPLE_CLASSES {said}"
