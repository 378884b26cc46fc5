"""Taking trainings over from another output folder.

Cross-dataset and domain generalization test the same models, and few-shot with 16 images trains
them too: what one protocol has trained, another need not train again.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sar.errors import DataError
from sar.protocols.jobs import SETTINGS_FILE, Job, State
from sar.storage.files import atomic_folder
from sar.storage.locks import RUN_LOCK


def take_over(jobs: Sequence[Job], output: Path, models: Path) -> list[Job]:
    """Fill the folders of new trainings with finished ones of the same settings from `models`.

    Args:
        output: the folder that all jobs lie in.
        models: an output folder of any protocol. An ablation has a folder more, its variant's: its
            jobs find their twins also where there is none, and those of the others in any variant.

    Returns:
        The jobs that are finished by it.

    Raises:
        DataError: `models` is not a folder, or a training cannot be copied.
    """
    return [job for job in jobs if (twin := twin_of(job, output, models)) and _copied(job, twin)]


def twin_of(job: Job, output: Path, models: Path) -> Path | None:
    """The folder below `models` whose finished training `job` would be, if it is new.

    Raises:
        DataError: `models` is not a folder.
    """
    if not models.is_dir():
        raise DataError(f"{models} is not a folder; --models takes a protocol's output folder")
    if not job.trains or job.state() is not State.NEW:
        return None
    for folder in _twins(job.output.relative_to(output), models):
        known = (folder / SETTINGS_FILE).is_file()
        if known and replace(job, output=folder).state() is State.FINISHED:
            return folder
    return None


def _twins(place: Path, models: Path) -> Iterator[Path]:
    """Folders of `models` where the training that belongs to `place` may lie."""
    yield models / place
    yield models.joinpath(*place.parts[1:])
    yield from sorted(models.glob(f"*/{glob.escape(str(place))}"))


def _copied(job: Job, folder: Path) -> bool:
    """Whether it is there now by this; not, if another launcher was faster."""
    unlocked = shutil.ignore_patterns(RUN_LOCK)
    try:
        with atomic_folder(job.output) as copy:
            shutil.copytree(folder, copy, False, unlocked, _link_or_copy, dirs_exist_ok=True)
            if job.output.is_dir():
                (job.output / RUN_LOCK).unlink(missing_ok=True)
    except OSError as error:
        if job.state() is State.NEW:  # else another launcher was faster
            raise DataError(f"cannot copy {folder} to {job.output}: {error}") from error
        return False
    return True


def _link_or_copy(source: str, target: str) -> None:
    """Checkpoints are replaced, never changed: a hard link will do where there can be one."""
    if ".pth.tar-" in source:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copy2(source, target)
