"""Pickles are read without running what they ask for."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sar.errors import WeightsError
from sar.host import bridges
from sar.storage.unpickling import Inert, InertUnpickler, check_size


class Trap:
    """Makes a folder when it is unpickled the ordinary way."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


class Shelf(dict[str, int]):
    """A container's subclass, with a state."""


def test_parts_that_are_much_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    for name, kind in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", kind) as archive:
            archive.writestr("data", bytes(3 << 20))
    check_size(tmp_path / "stored")
    with pytest.raises(pickle.UnpicklingError, match=r"3 MB are packed into 0\.0 MB"):
        check_size(tmp_path / "packed")
    (tmp_path / "other").write_bytes(b"no archive")
    check_size(tmp_path / "other")


def read(content: Any, protocol: int) -> Any:
    return InertUnpickler(io.BytesIO(pickle.dumps(content, protocol))).load()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_is_kept_and_the_rest_is_inert(tmp_path: Path, protocol: int) -> None:
    plain = {"list": [1, None, ("a", 2.5)], "order": OrderedDict(x=1), "count": Counter("aab")}
    shelf = Shelf(x=1)
    shelf.height = 3
    odd = {"trap": Trap(tmp_path / "sprung"), "time": timedelta(1), "shelf": shelf}
    found = read({**plain, **odd}, protocol)
    assert {name: found[name] for name in plain} == plain
    assert [type(found[name]) for name in plain] == [list, OrderedDict, Counter]
    assert all(type(found[name]) is Inert for name in odd)
    assert found["shelf"].state == {"height": 3}
    assert not (tmp_path / "sprung").exists()


def test_checkpoints_in_a_checkout_run_no_code_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as Dassl's torchtools does, repaired."""
    module: Any = ModuleType("dassl.utils.torchtools")
    module.torch = torch
    bridges.checkpoints(module)
    weights = {"ctx": torch.arange(3.0)}
    content = {"state_dict": weights, "scheduler": {"successor": Trap(tmp_path / "sprung")}}
    whole, half = tmp_path / "model.pth.tar-1", tmp_path / "model.pth.tar-2"
    torch.save(content, whole)
    half.write_bytes(whole.read_bytes()[:-200])
    found = module.torch.load(str(whole), map_location="cpu")
    assert torch.equal(found["state_dict"]["ctx"], weights["ctx"])
    assert type(found["scheduler"]["successor"]) is Inert
    with pytest.raises(WeightsError, match=f"{bridges.UNSAFE}=1"):
        module.torch.load(str(half))
    assert not (tmp_path / "sprung").exists()
    monkeypatch.setenv(bridges.UNSAFE, "1")
    module.torch.load(str(whole))
    assert (tmp_path / "sprung").exists()


def test_a_schedule_continues_from_an_inert_one() -> None:
    """Dassl's warm-up keeps the schedule behind it as an object; its numbers are all it takes."""
    after = Inert()
    after.state = {"last_epoch": 7, "optimizer": Inert()}
    taken: list[dict[str, Any]] = []

    class Schedule:
        def load_state_dict(self, state: dict[str, Any]) -> None:
            taken.append(state)

    module: Any = ModuleType("dassl.optim.lr_scheduler")
    module._BaseWarmupScheduler = type("Warmup", (Schedule,), {"successor": Schedule()})
    bridges.schedulers(module)
    warmup = module._BaseWarmupScheduler.__new__(module._BaseWarmupScheduler)
    warmup.load_state_dict({"successor": after, "last_epoch": 2})
    assert taken == [{"last_epoch": 7}, {"last_epoch": 2}]
