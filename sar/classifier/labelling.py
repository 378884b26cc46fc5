"""`sarclip predict`: labels files, and keeps what was found in a table or in folders."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sar.classes.class_list import is_class_list, read_class_list
from sar.classes.novel_names import read_names
from sar.classifier.pictures import find_pictures
from sar.classifier.predictor import Classifier, Guess
from sar.errors import ConfigError, DataError
from sar.results.formats import csv_text
from sar.storage.files import make_folder, write_file, writing
from sar.toolbox.engine import progress_bar


class Labelled(NamedTuple):
    """A picture and its likeliest classes."""

    path: Path
    guesses: list[Guess]


def label(
    classifier: Classifier,
    pictures: Sequence[Path],
    top: int = 5,
    table: Path | None = None,
    records: Path | None = None,
    sort_into: Path | None = None,
) -> None:
    """Label pictures; print a line for each, unless they are written into a file.

    What was found until an error, or until the command was stopped, is written all the same.

    Args:
        pictures: files and folders.
        top: number of classes for each.
        table, records: .csv and .json to write.
        sort_into: folder that gets a copy of each picture, in a folder of its likeliest class.

    Raises:
        DataError: some pictures could not be read, after all others were labelled.
        ConfigError, StorageError: before any is read, where the files cannot be written.
    """
    files = [Path(str(file)) for file in find_pictures(pictures)]
    if len(classifier.classes) == 1 and not classifier.recipe.negatives:
        only = classifier.classes[0]
        print(f"Note: {only} is the only class, so that every picture is taken for it; see --add")
    _prepare(table, records)
    if sort_into is not None:
        make_folder(sort_into, "give another --sort-into")
    found: list[Labelled] = []
    try:
        for paths, output in outputs_by_batch(classifier, files):
            for path, guesses in zip(paths, classifier.guesses(output, top), strict=True):
                found.append(Labelled(path, guesses))
                if table is None and records is None:
                    print(f"{path}: " + ", ".join(f"{g.name} {g.probability:.1%}" for g in guesses))
                if sort_into is not None:
                    copy_into(sort_into / folder_name(guesses[0].name), path)
    finally:
        if table is not None:
            write_file(table, to_csv(found, min(top, len(classifier.classes))))
        if records is not None:
            write_file(records, to_json(found))
        counts = Counter(guesses[0].name for _, guesses in found)
        said = ", ".join(f"{name} {count}" for name, count in counts.most_common(10))
        print(f"{len(found)} of {len(files)} pictures labelled; most often: {said or 'nothing'}")


def _prepare(*files: Path | None) -> None:
    """Makes the folders of files that will be written, so that hours of work are not lost."""
    places = [file for file in files if file is not None]
    for file in places:
        make_folder(file.parent, "give another file")
        if file.is_dir():
            raise ConfigError(f"{file} is a folder; give the name of a file to write")
    if len({file.resolve() for file in places}) < len(places):
        raise ConfigError(f"{places[0]} is to be the table and the records; give two files")


def outputs_by_batch(
    classifier: Classifier, files: Sequence[Path]
) -> Iterator[tuple[list[Path], Tensor]]:
    """Some files, and their logits (B, C), negative labels behind; with a progress bar.

    Raises DataError, after all others, if some could not be read; they are listed.
    """
    problems: list[DataError] = []
    bar = progress_bar(classifier.read(files), "pictures")
    bar.total = -(-len(files) // classifier.batch_size)
    for batch in bar:
        problems += batch.problems
        if batch.pictures:
            yield batch.pictures, classifier.output_of_batch(batch.images)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        raise DataError(
            f"{len(problems)} of {len(files)} pictures could not be read; they are listed above, "
            "and the others are done"
        )


def names_in(file: Path) -> tuple[list[str], list[str]]:
    """The class names in a file, and those of them that are base classes.

    A class list has base and new ones; plain names are all base classes. Raises DataError or
    ConfigError for a file that holds none.
    """
    if is_class_list(file):
        return (found := read_class_list(file)).names, found.base
    if not (names := read_names(file)[0]):
        raise DataError(f"{file} holds no class names; expected one on each line")
    return names, names


def novel_in(file: Path) -> list[str]:
    """Names that stand for other classes: the novel ones of a class list, or plain names.

    Raises DataError or ConfigError for a file that holds none.
    """
    if not is_class_list(file):
        return names_in(file)[0]
    if not (names := read_class_list(file).novel):
        raise DataError(f"{file} has no names under novel; add some, or give another file")
    return names


def to_csv(found: Sequence[Labelled], top: int) -> str:
    """A line for each picture: path, then class and probability, the likeliest first."""
    columns = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "probability")]
    rows = [
        [str(path), *(cell for name, p in guesses for cell in (name, f"{p:.6f}"))]
        for path, guesses in found
    ]
    return csv_text(["path", *columns], rows)


def to_json(found: Sequence[Labelled]) -> str:
    """A list of {"path", "classes": [{"name", "probability"}, ...]}."""
    records = [
        {"path": str(path), "classes": [guess._asdict() for guess in guesses]}
        for path, guesses in found
    ]
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def folder_name(name: str) -> str:
    """A class name as the name of a folder on any system."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", name).strip(". ") or "-"


def copy_into(folder: Path, file: Path) -> None:
    """Copy a file, under another name if its name is taken; a file that is there is not copied."""
    make_folder(folder, "give another --sort-into")
    for number in range(1, sys.maxsize):
        target = folder / (file.name if number == 1 else f"{file.stem}-{number}{file.suffix}")
        with writing(target, "give another --sort-into"):
            if not target.exists():
                shutil.copy2(file, target)
                return
            if filecmp.cmp(file, target, shallow=False):
                return
