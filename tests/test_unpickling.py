"""Pickles are read without running what they ask for."""

from __future__ import annotations

import io
import os
import pickle
from collections import Counter, OrderedDict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sar.unpickling import Inert, InertUnpickler


class Trap:
    """Makes a folder when it is unpickled the ordinary way."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


class Shelf(dict[str, int]):
    """A container's subclass, with a state."""


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
