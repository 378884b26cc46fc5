"""Tensors kept on disk: the right content, whatever happens to files, folders and processes."""

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sar.errors import ConfigError
from sar.storage import cache
from sar.storage.cache import cache_folder, kept, key_of


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(folder: Path) -> Path:
    (file,) = folder.rglob("*.safetensors")
    return file


def counted(tensors):
    calls = []

    def compute():
        calls.append(1)
        return tensors

    return compute, calls


TENSORS = {
    "half": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).half(),
    "long": torch.arange(4),
    "empty": torch.zeros(0, 7),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_computed_once(folder):
    compute, calls = counted(TENSORS)
    for _ in range(3):
        assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 1


def test_off_keeps_nothing(folder, monkeypatch):
    monkeypatch.setenv("SAR_CACHE", "off")
    compute, calls = counted(TENSORS)
    for _ in range(2):
        assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 2
    assert not folder.exists()


def test_the_default_folder_follows_the_platform(monkeypatch):
    monkeypatch.delenv("SAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/sarclip")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/sarclip")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_entry_is_rebuilt_with_a_warning(folder, damage):
    compute, calls = counted(TENSORS)
    kept("test", "a" * 64, compute)
    file = entry(folder)
    content = file.read_bytes()
    file.write_bytes(
        {
            "truncated": content[:-3],
            "flipped": content[:-1] + bytes([content[-1] ^ 1]),
            "empty": b"",
            "text": b"not a tensor",
        }[damage]
    )
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 2
    assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 2
    assert entry(folder).read_bytes() == content


def test_the_entry_of_another_key_is_rebuilt_with_a_warning(folder):
    compute, calls = counted(TENSORS)
    kept("test", "a" * 64, compute)
    place = entry(folder)
    place.unlink()
    kept("test", "b" * 64, lambda: {"half": torch.zeros(1)})
    entry(folder).rename(place)
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 2


def test_another_version_of_the_program_computes_anew(folder, monkeypatch):
    compute, calls = counted(TENSORS)
    kept("test", "a" * 64, compute)
    program = cache._program()
    monkeypatch.setattr(cache, "_program", lambda: "another")
    kept("test", "a" * 64, compute)
    assert len(calls) == len(list(folder.rglob("*.safetensors"))) == 2
    monkeypatch.undo()
    copy = folder / "sar"
    package = Path(cache.__file__).parents[1]
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("data", "*.zip"))
    code = (
        "import sys; sys.path[0] = sys.argv[1]; "
        "from sar.storage import cache; print(cache._program())"
    )

    def of_the_copy() -> str:
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True)
        return done.stdout.decode().strip()

    before = of_the_copy()
    assert before == of_the_copy() != program
    file = copy / "toolbox" / "metrics.py"
    file.write_text(file.read_text() + "\n")
    assert of_the_copy() != before


def test_a_folder_that_cannot_be_used_costs_a_warning(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SAR_CACHE", str(blocked))
    compute, _ = counted(TENSORS)
    with pytest.warns(UserWarning, match="Nothing is kept"):
        assert_same(kept("test", "a" * 64, compute), TENSORS)


def test_a_failed_computation_leaves_no_entry(folder):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        kept("test", "a" * 64, fail)
    compute, calls = counted(TENSORS)
    assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 1


def test_runs_at_the_same_time_compute_once(folder):
    compute, calls = counted(TENSORS)
    gate = threading.Barrier(4)
    found = []

    def run():
        gate.wait()
        found.append(kept("test", "a" * 64, compute))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    for result in found:
        assert_same(result, TENSORS)


def _writer(gate, computed, found):
    def compute():
        computed.put(os.getpid())
        return TENSORS

    gate.wait()
    for key in "abc":
        found.put(kept("test", key * 64, compute)["half"].tolist())


def test_processes_at_the_same_time_compute_once(folder):
    """Each of three keys, by one of four processes that all begin together."""
    forked = multiprocessing.get_context("fork")
    gate, computed, found = forked.Barrier(4), forked.SimpleQueue(), forked.SimpleQueue()
    writers = [forked.Process(target=_writer, args=(gate, computed, found)) for _ in range(4)]
    for writer in writers:
        writer.start()
    results = [found.get() for _ in range(12)]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert results == [TENSORS["half"].tolist()] * 12
    for _ in "abc":
        computed.get()
    assert computed.empty()
    assert len(list(folder.rglob("*.safetensors"))) == 3


@pytest.mark.parametrize("disk", ["full", "full later"])
def test_a_full_disk_costs_a_warning(folder, monkeypatch, disk):
    """Before the first byte of an entry, and in the middle of it; nothing half written stays."""
    compute, calls = counted({"zeros": torch.zeros(20_000, dtype=torch.uint8)})
    cache._program()  # reads files, once
    with monkeypatch.context() as patched:
        error = OSError(errno.ENOSPC, "No space left on device")
        if disk == "full":
            patched.setattr(Path, "open", lambda *args, **kwargs: throw(error))
        else:
            patched.setattr(os, "fsync", lambda descriptor: throw(error))
        with pytest.warns(UserWarning, match="could not be kept.*No space left"):
            found = kept("test", "a" * 64, compute)
    assert torch.equal(found["zeros"], torch.zeros(20_000, dtype=torch.uint8))
    assert [file.suffix for file in folder.rglob("*") if file.is_file()] == [".lock"]
    kept("test", "a" * 64, compute)
    kept("test", "a" * 64, compute)
    assert len(calls) == 2


def throw(error):
    raise error


KILLED = """
import os, signal, torch
from sar.storage.cache import kept
kept("test", "a" * 64, lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_process_blocks_nobody(folder):
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert killed.returncode < 0
    compute, calls = counted(TENSORS)
    assert_same(kept("test", "a" * 64, compute), TENSORS)
    assert len(calls) == 1


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_different_texts_have_different_keys(one, other):
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_the_key_sees_names_types_shapes_and_values():
    base = {"w": torch.ones(2, 3)}
    variants = [
        {"v": torch.ones(2, 3)},
        {"w": torch.ones(3, 2)},
        {"w": torch.ones(2, 3).half()},
        {"w": torch.ones(2, 3) * 2},
        {"w": torch.ones(2, 3), "v": torch.ones(1)},
        {},
    ]
    keys = {key_of(base), *(key_of(variant) for variant in variants)}
    assert len(keys) == 1 + len(variants)
    assert key_of(base) == key_of({"w": torch.ones(3, 2).T})  # memory layout is no content


def used(key, size=1000):
    """An entry of `size` bytes and a header, used now."""
    return kept("test", key * 64, lambda: {"zeros": torch.zeros(size, dtype=torch.uint8)})


def test_what_was_used_longest_ago_makes_room(folder, monkeypatch):
    monkeypatch.setenv("SAR_CACHE_LIMIT", "4e-6")  # three of them
    calls = []
    for moment, key in enumerate("abcad"):  # "a" is used again before "d" needs room
        compute, made = counted({"zeros": torch.zeros(1000, dtype=torch.uint8)})
        kept("test", key * 64, compute)
        calls += [key] * len(made)
        newest = max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (moment, moment))
    assert calls == ["a", "b", "c", "d"]
    assert len(list(folder.rglob("*.safetensors"))) == 3
    for key, there in (("a", True), ("c", True), ("d", True), ("b", False)):
        compute, made = counted({"zeros": torch.zeros(1000, dtype=torch.uint8)})
        kept("test", key * 64, compute)
        assert (not made) == there


def test_the_newest_entry_stays_however_large(folder, monkeypatch):
    monkeypatch.setenv("SAR_CACHE_LIMIT", "0")
    for key in "ab":
        used(key)
        assert len(list(folder.rglob("*.safetensors"))) == 1
    assert len(list(folder.rglob("*.lock"))) == 1


@pytest.mark.parametrize("limit", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_named(folder, monkeypatch, limit):
    monkeypatch.setenv("SAR_CACHE_LIMIT", limit)
    with pytest.raises(ConfigError, match="SAR_CACHE_LIMIT is"):
        used("a")
