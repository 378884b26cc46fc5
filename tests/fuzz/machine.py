"""Faults of the machine: no room, no rights, names that are taken; what a command makes of them.

Each is a real one where the user may make it: small file systems in memory, read-only mounts, other
users. That takes root.

python tests/fuzz/machine.py [--record FILE]
"""

# ruff: noqa: E501 (a table)
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import doors  # noqa: E402
from measure import arguments, prepare  # noqa: E402
from record import Record  # noqa: E402
from running import Ended, Verdict, run  # noqa: E402

KIND = "fault"
NOBODY = 54321
"""The number of a user whom no machine has."""


@dataclass(frozen=True)
class Fault:
    """One fault of the machine, and a command that meets it."""

    what: str
    command: str
    spoil: Callable[[Path, ExitStack], object]
    """Is given the world's folder, and where to leave what mends it."""
    user: int = 0
    room: bool = False
    """Whether the message must tell the free space."""
    works: bool = False
    """Whether the command can do its work all the same, and must."""


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _small(place: str, size: str = "4k", inodes: int = 0) -> Callable[[Path, ExitStack], object]:
    """A file system of that size at `place`, with what lies there put into it if it fits."""
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")

    def spoil(world: Path, stack: ExitStack) -> None:
        stack.enter_context(_mounted(world / place, options))

    return spoil


def _read_only(place: str) -> Callable[[Path, ExitStack], object]:
    def spoil(world: Path, stack: ExitStack) -> None:
        folder = world / place
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        stack.callback(lambda: subprocess.run(["umount", "-l", folder], check=True))
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)

    return spoil


def _mode(place: str, mode: int) -> Callable[[Path, ExitStack], object]:
    def spoil(world: Path, stack: ExitStack) -> None:
        path = world / place
        if path.is_file():  # other cases have a link to it
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.mkdir()
        path.chmod(mode)

    return spoil


def _file(place: str) -> Callable[[Path, ExitStack], object]:
    def spoil(world: Path, stack: ExitStack) -> None:
        shutil.rmtree(world / place, ignore_errors=True)
        (world / place).parent.mkdir(parents=True, exist_ok=True)
        (world / place).write_text("in the way")

    return spoil


def _folder(place: str) -> Callable[[Path, ExitStack], object]:
    def spoil(world: Path, stack: ExitStack) -> None:
        (world / place).unlink(missing_ok=True)
        (world / place / "in the way").mkdir(parents=True)

    return spoil


def _both(*spoils: Callable[[Path, ExitStack], object]) -> Callable[[Path, ExitStack], object]:
    return lambda world, stack: [spoil(world, stack) for spoil in spoils]


def _nothing(world: Path, stack: ExitStack) -> None:
    pass


def _variables(**values: str) -> Callable[[Path, ExitStack], object]:
    """Environment variables; an empty one is unset."""

    def spoil(world: Path, stack: ExitStack) -> None:
        stack.enter_context(patch.dict(os.environ))
        for name, value in values.items():
            os.environ.pop(name, None)
            if value:
                os.environ[name] = value.replace("WORLD", str(world))

    return spoil


OUT = "out/prompt_learner"
TO_END = f"{doors.COOP} OPTIM.MAX_EPOCH 3 TRAIN.CHECKPOINT_FREQ 1"
AGAIN = doors.COOP.replace("--output-dir out", "--output-dir trained")
TABLE = "results results --write"
FAULTS = (
    Fault("the disk is full when a run begins", doors.COOP, _small("out"), room=True),
    Fault("the disk is full when the log grows", TO_END, _small("out", "8k"), room=True),
    Fault("the disk is full at the first checkpoint", TO_END, _small("out", "32k"), room=True),
    Fault("the disk is full at a later checkpoint", TO_END, _small("out", "300k"), room=True),
    Fault("no more files in the output", doors.COOP, _small("out", "9m", 2), room=True),
    Fault("a few more files in the output", TO_END, _small("out", "9m", 5), room=True),
    Fault("the disk is full for a table", "results results --output full/t.md", _small("full"), works=True),
    Fault("the disk is full for figures", "results results --plots full", _small("full"), room=True),
    Fault("the disk is full for a report", "report results --output full/r.html", _small("full"), room=True),
    Fault("the disk is full for a protocol", "protocol base2new --output full --datasets demo_food --trainers ZeroshotCLIP --seeds 1 --jobs 1", _small("full", "4k", 1), room=True),
    Fault("the disk is full for an inspection", "inspect trained --root data --output full", _small("full"), room=True),
    Fault("a full standard output", "trainers > /dev/full", _nothing, room=True),
    Fault("a read-only output", doors.COOP, _read_only("out")),
    Fault("a read-only output that was begun", AGAIN, _read_only("trained")),
    Fault("read-only data", doors.COOP, _read_only("data"), works=True),
    Fault("a read-only shots' folder without shots", f"{doors.COOP} DATASET.NUM_SHOTS 2", _read_only("data"), works=True),
    Fault("read-only results", TABLE, _read_only("results")),
    Fault("a read-only results folder, read alone", "results results", _read_only("results"), works=True),
    Fault("a forbidden output", doors.COOP, _mode("out", 0o500), user=NOBODY),
    Fault("a forbidden log", AGAIN, _nothing, user=NOBODY),
    Fault("forbidden data", doors.COOP, _mode("data/oxford_pets", 0), user=NOBODY),
    Fault("a forbidden picture", doors.FOLDERS, _mode("data/folders/test/beagle", 0), user=NOBODY),
    Fault("a forbidden class folder", doors.FOLDERS, _mode("data/folders/train/beagle", 0), user=NOBODY),
    Fault("a forbidden split", doors.COOP, _mode(f"data/{doors.SPLIT}", 0), user=NOBODY),
    Fault("a forbidden configuration", doors.COOP, _mode("data/mini.yaml", 0), user=NOBODY),
    Fault("a forbidden table", doors.OWN, _mode("data/images.csv", 0), user=NOBODY),
    Fault("forbidden weights", doors.COOP, _mode("data/clip.pt", 0), user=NOBODY),
    Fault("a forbidden checkpoint", doors.TEST, _mode(doors.CHECKPOINT, 0), user=NOBODY),
    Fault("forbidden shots", doors.COOP, _mode(doors.SHOTS, 0), user=NOBODY),
    Fault("forbidden results", "results results", _mode("results", 0), user=NOBODY),
    Fault("an output that is a file", doors.COOP, _file("out")),
    Fault("an output below a file", doors.COOP.replace("--output-dir out", "--output-dir out/a/b"), _file("out/a")),
    Fault("a log that is a folder", doors.COOP, _folder("out/log.txt")),
    Fault("checkpoints' folder that is a file", doors.COOP, _file(OUT)),
    Fault("a checkpoint that is a folder", doors.COOP, _folder(f"{OUT}/model.pth.tar-1")),
    Fault("a pointer that is a folder", doors.COOP, _folder(f"{OUT}/checkpoint")),
    Fault("TensorBoard's folder that is a file", doors.COOP, _file("out/tensorboard")),
    Fault("a table that is a folder", TABLE, _folder("results/results.md")),
    Fault("a protocol.json that is a folder", "results results", _folder("results/protocol.json"), works=True),
    Fault("a user without a name and HOME", doors.COOP, _variables(HOME="", XDG_CACHE_HOME="", SAR_CACHE=""), user=NOBODY, works=True),
    Fault("a HOME that cannot be written", doors.COOP, _variables(HOME="/proc/1", XDG_CACHE_HOME="", SAR_CACHE=""), works=True),
    Fault("a HOME that is not there", doors.COOP, _variables(HOME="/none/of/it", XDG_CACHE_HOME="", SAR_CACHE=""), user=NOBODY, works=True),
    Fault("a cache whose disk is full", doors.COOP, _both(_small("full"), _variables(SAR_CACHE="WORLD/full")), works=True),
    Fault("a cache that is a file", doors.COOP, _both(_file("cache"), _variables(SAR_CACHE="WORLD/cache")), works=True),
    Fault("no room for temporary files", doors.COOP, _variables(TMPDIR="/proc/1"), works=True),
)  # fmt: skip


def meet(fault: Fault, world: Path, folder: Path) -> tuple[Verdict, Ended]:
    """What a command makes of a fault, in a copy of the world in `folder`.

    Where the room was not enough there is some afterwards, and the same command must do its work.
    """
    doors.copy(world, folder)
    if fault.user:
        _give(folder, fault)
    command, _, target = fault.command.partition(" > ")
    with ExitStack() as stack:
        fault.spoil(folder, stack)
        met = run(command.split(), folder, fault.user, target=target)
        if place := next((p for p in ("out", "full") if (folder / p).is_mount()), ""):
            room = ["mount", "-o", "remount,size=64m,nr_inodes=0", str(folder / place)]
            subprocess.run(room, check=True)
            if (again := run(command.split(), folder, fault.user, target=target)).status:
                return Verdict.UNCLEAR, again
    if met.late:
        return Verdict.HANG, met
    if met.status not in (0, 1, 2) or "Traceback (most recent" in met.out + met.err:
        return Verdict.TRACEBACK, met
    if met.status == 0:
        return (Verdict.ARGUED if fault.works else Verdict.SILENT), met
    lines = [line for line in met.err.splitlines() if line.startswith("error: ")]
    if fault.works or len(lines) != 1 or (fault.room and " are free" not in lines[0]):
        return Verdict.UNCLEAR, met
    return Verdict.LINE, met


def _give(folder: Path, fault: Fault) -> None:
    """What the run writes belongs to the user; the rest can be read."""
    folder.chmod(0o777)
    for path in [folder / "data", *(folder / "data").rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def main() -> None:
    record = Record(arguments(__doc__).parse_args().record)
    faults = {fault.what: fault for fault in FAULTS}
    with tempfile.TemporaryDirectory() as name:
        world = prepare(Path(name))
        for what in record.missing(KIND, faults):
            with tempfile.TemporaryDirectory() as place:
                Path(place).chmod(0o755)
                trial = record.add(KIND, what, *meet(faults[what], world, Path(place)))
            print(f"{trial.verdict}: {what} -> {trial.said}", flush=True)
    sys.exit(any(not trial.good for trial in record.of(KIND)))


if __name__ == "__main__":
    main()
