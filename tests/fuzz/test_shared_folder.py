"""Two users of one group share a data folder and a cache: neither shuts the other out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from unittest.mock import patch

import doors
import pytest
import torch
from running import run

from sar.storage.locks import is_locked, one_at_a_time

GROUP, USERS = 54400, (54401, 54402)
COMMANDS = {"own": doors.SAR.split(), "pets": doors.COOP.split()}
FORK = get_context("fork")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="other users take root"
    ),
]


@pytest.fixture(params=[0o002, 0o022], ids=["umask 002", "umask 022"])
def shared(request: pytest.FixtureRequest, public: Path) -> Iterator[Path]:
    """A data folder and a cache of the group, and a folder of each user; all have that umask."""
    doors.write_files(public / "world")
    data, cache = public / "world" / "data", public / "cache"
    cache.mkdir()
    for path in [cache, data, *data.rglob("*")]:
        os.chown(path, 0, GROUP)
        if path.is_dir():
            path.chmod(0o2775)
    for user in USERS:
        home = public / str(user)
        home.mkdir()
        os.chown(home, user, GROUP)
        (home / "data").symlink_to(data)
    before = os.umask(request.param)
    with patch.dict(os.environ, SAR_CACHE=str(cache), HOME=str(public / "none")):
        yield public
    os.umask(before)


def train(shared: Path, user: int, kind: str) -> None:
    """The process of a training by that user in the user's folder."""
    argv = [*COMMANDS[kind], "--output-dir", kind, "TRAINER.SAR.NOVEL", "words:5"]
    ended = run(argv if kind == "own" else argv[:-2], shared / str(user), user, GROUP)
    (shared / f"{user} {kind}.out").write_text(ended.out + ended.err)
    assert ended.status == 0, ended.err


def at_once(shared: Path, kind: str) -> None:
    """That training by both users."""
    both = [FORK.Process(target=train, args=(shared, user, kind)) for user in USERS]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]


def weights(shared: Path, user: int, kind: str) -> torch.Tensor:
    folder = shared / str(user) / kind / "prompt_learner"
    found: torch.Tensor = torch.load(folder / "model.pth.tar-1", weights_only=True)["state_dict"][
        "ctx"
    ]
    return found


def test_both_train_at_once_and_after_each_other(shared: Path) -> None:
    (shared / "world" / doors.SHOTS).unlink(missing_ok=True)
    for kind in COMMANDS:
        at_once(shared, kind)
        assert torch.equal(*(weights(shared, user, kind) for user in USERS))
    mask = os.umask(0)
    os.umask(mask)
    made = [path for path in (shared / "cache").rglob("*") if path.suffix != ".lock"]
    made += (shared / "world" / "data" / "oxford_pets" / "split_fewshot").glob("*.pkl")
    assert {path.stat().st_uid for path in made} <= set(USERS)
    for path in made:
        wanted = 0o2777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == wanted & ~mask, path
        assert path.stat().st_gid == GROUP
    if mask == 0o002:  # nobody was kept from keeping anything, and nothing was made twice
        said = "".join(file.read_text() for file in shared.glob("*.out"))
        assert "Nothing is kept" not in said
        assert "could not be kept" not in said
        before = {path: path.stat().st_ino for path in made}
        for user in USERS:
            train(shared, user, "pets")
        assert {path: path.stat().st_ino for path in made} == before


def hold(file: Path, user: int, held: Event, free: Event) -> None:
    os.setgid(GROUP)
    os.setuid(user)
    with one_at_a_time(file, "testing"):
        held.set()
        free.wait()


def see(file: Path, user: int) -> None:
    os.setgid(GROUP)
    os.setuid(user)
    raise SystemExit(int(is_locked(file)))


def test_one_waits_for_the_others_lock(shared: Path) -> None:
    file, (first, second) = shared / "cache" / "x.lock", USERS
    held, free = FORK.Event(), FORK.Event()
    holder = FORK.Process(target=hold, args=(file, first, held, free))
    holder.start()
    held.wait()
    for locked in (1, 0):
        looking = FORK.Process(target=see, args=(file, second))
        looking.start()
        looking.join()
        assert looking.exitcode == locked
        free.set()
        holder.join()
