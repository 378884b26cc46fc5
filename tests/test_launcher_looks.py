"""While nothing can start, a launcher reads a waiting job's folder again only when it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from result_logs import put, training_log

from sar.protocols.jobs import Job, State
from sar.protocols.launcher import Ending, run
from sar.protocols.progress import Progress
from sar.storage.locks import RUN_LOCK, own_folder


class Full:
    """A launcher that never has room; between two looks the next of `events` happens."""

    place = "nowhere"

    def __init__(self, *events: Callable[[], object]) -> None:
        self._events: Iterator[Callable[[], object]] = iter(events)

    def room(self) -> bool:
        return False

    def start(self, job: Job) -> None:
        raise AssertionError("there was no room")

    def ended(self, seconds: float) -> list[Ending]:
        next(self._events)()
        return []

    def stop(self) -> None:
        pass


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of the jobs whose state was read, in order."""
    read: list[Path] = []
    state = Job.state

    def counted(job: Job) -> State:
        read.append(job.output)
        return state(job)

    monkeypatch.setattr(Job, "state", counted)
    return read


def jobs_in(root: Path, *names: str) -> list[Job]:
    return [Job(name, root / name, trains=True, subset="base") for name in names]


def test_only_what_changed_is_read_again(tmp_path: Path, looks: list[Path]) -> None:
    unfinished, new = jobs_in(tmp_path, "unfinished", "new")
    crashed = training_log(end="Killed").split("epoch [2/2]")[0]
    put(unfinished.output, crashed)
    (unfinished.output / RUN_LOCK).touch()

    def nothing() -> None:
        pass

    events = (
        nothing,
        nothing,
        lambda: put(new.output, crashed),
        nothing,
        lambda: put(new.output, training_log()),
        nothing,
        lambda: put(unfinished.output, crashed + training_log().partition("epoch [2/2]")[2]),
    )
    outcomes = run([unfinished, new], Full(*events), Progress(2))
    assert {outcome.job.title: outcome.ok for outcome in outcomes} == {
        "unfinished": True,
        "new": True,
    }
    assert looks == [
        unfinished.output,
        new.output,  # at first each once
        new.output,
        new.output,  # which has begun, then ended
        unfinished.output,
    ]


def test_a_lock_that_is_taken_or_given_back_is_a_change(tmp_path: Path) -> None:
    (job,) = jobs_in(tmp_path, "job")
    assert job.mark() is None
    put(job.output, training_log())
    (job.output / RUN_LOCK).touch()
    free = job.mark()
    assert job.mark() == free  # looking changes nothing
    with own_folder(job.output):
        assert job.mark() != free
        assert job.state() is State.LOCKED
    assert job.mark() == free
    (job.output / "gone").symlink_to(tmp_path / "nowhere")
    assert job.mark() != job.mark()
