"""Which of one's own pictures are read: class folders, or a table; and what is passed over.

Nothing is opened here but the table.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sar.command_line.extras import install
from sar.data.reading import PARTS, class_folders, files_in
from sar.errors import DataError
from sar.picture import HEIC, is_picture
from sar.storage.texts import open_text

TABLE = "images.csv"
COLUMNS = ("path", "label", "split")
# What others call the column split, and what they write into it.
SPLIT_WORDS = frozenset({"subset", "set", "part", "partition", "fold", "phase", "usage"})
PART_WORDS = frozenset(
    {*PARTS, "training", "valid", "validation", "dev", "testing", "eval", "0", "1", "true", "false"}
)
SHARES = {"train": 0.5, "val": 0.2}  # of a class, in a table without split; the rest is test
_SHOWN = 3


@dataclass
class OwnPictures:
    """What is read below a folder, or from a table."""

    place: Path
    """The folder or table that lists the pictures."""
    pictures: dict[str, dict[str, list[str]]]
    """Part -> class name as written -> paths; a class folder may hold none."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """Path and kind of each file that is not read."""

    @property
    def folder(self) -> Path:
        """Where a class list may lie beside the pictures."""
        return self.place if self.place.is_dir() else self.place.parent

    def kinds(self) -> Counter[str]:
        """How many files were passed over for each reason."""
        return Counter(kind for _, kind in self.passed_over)


def summary(found: OwnPictures, left_out: Sequence[str] = ()) -> str:
    """One line about what a run does not read; empty if it reads everything.

    Args:
        left_out: classes that have pictures and are not in the class list.
    """
    parts = []
    if kinds := found.kinds():
        number = kinds.total()
        said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))
        more = ", ..." if len(kinds) > _SHOWN else ""
        parts.append(f"{number} file{'s' * (number > 1)} passed over ({said}{more})")
    if left_out:
        names = ", ".join(left_out[:10]) + ", ..." * (len(left_out) > 10)
        classes = "class" if len(left_out) == 1 else "classes"
        parts.append(f"{len(left_out)} {classes} left out, not in the class list ({names})")
    if not parts:
        return ""
    return f"Pictures: {', '.join(parts)}; sarclip data check {found.place} says more"


def in_folders(root: Path) -> OwnPictures:
    """`root/{train,test[,val]}/<class name>/*`.

    Raises DataError where train/ or test/ is missing.
    """
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise DataError(
                f"ImageFolder found no folder {str(root / part)!r}; give --root a folder with "
                "train/<class name>/ and test/<class name>/ in it"
            )
    found = OwnPictures(root, {part: {} for part in PARTS})
    for part in PARTS:
        if (root / part).is_dir():
            for name in class_folders(root / part):
                found.pictures[part][name] = paths = []
                for path in sorted(files_in(root / part / name)):
                    if os.path.isdir(path):
                        found.passed_over += [(file, "in sub-folders") for file in _below(path)]
                    elif is_picture(path):
                        paths.append(path)
                    else:
                        found.passed_over.append((path, _kind(path)))
            found.passed_over += _loose(root / part, "beside the class folders")
    for name in class_folders(root):
        if name not in PARTS:
            found.passed_over += [(f, f"in {name}/") for f in _below(root / name) if is_picture(f)]
    found.passed_over += [(f, "beside train/") for f, _ in _loose(root, "") if is_picture(f)]
    return found


def _loose(folder: Path, kind: str) -> list[tuple[str, str]]:
    return [(path, kind) for path in sorted(files_in(folder)) if os.path.isfile(path)]


def _below(folder: str | Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(place, name) for name in sorted(names) if name[0] != ".")


def _kind(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix in HEIC:
        return f"{suffix}, which needs {install('heic')}"
    return suffix or "without a suffix"


def in_table(root: Path) -> OwnPictures:
    """The pictures of a table: `root`, or TABLE in it. DataError if it cannot be read."""
    table = root / TABLE if root.is_dir() else root
    rows = read_table(table)
    if "split" not in rows[0]:
        assign_parts(rows)
    check_rows(table, rows)
    found = OwnPictures(table, {part: defaultdict(list) for part in PARTS})
    for row in rows:
        path = table.parent / os.path.normpath(row["path"])
        found.pictures[row["split"]][row["label"]].append(str(path))
    return found


def check_rows(table: Path, rows: Sequence[dict[str, str]]) -> None:
    """Raises DataError for an unknown part, and for a picture that is there twice."""
    place: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        path, part = os.path.normpath(row["path"]), row.get("split", PARTS[-1])
        if part not in PARTS:
            raise DataError(f"{table}, line {line}: split is {part!r}; {', '.join(PARTS)}?")
        where = part if "split" in row else row["label"]
        if path in place:
            raise DataError(
                f"{table}, line {line}: {row['path']} is there twice, for {place[path]} and "
                f"{where}; a picture belongs to one class and one part"
            )
        place[path] = where


def check_links(found: OwnPictures) -> None:
    """Raises DataError for one file that links put into two parts or classes."""
    seen: dict[tuple[int, int], tuple[str, str, str]] = {}
    for part, classes in found.pictures.items():
        for name, paths in classes.items():
            for path in paths:
                with contextlib.suppress(OSError, ValueError):  # said when it is read
                    status = os.stat(path)
                    first = seen.setdefault((status.st_dev, status.st_ino), (part, name, path))
                    if first[:2] != (part, name):
                        raise DataError(
                            f"{path} ({name}, {part}) and {first[2]} ({first[1]}, {first[0]}) are "
                            "one file, by a link; a picture belongs to one class and one part"
                        )


def read_table(table: Path) -> list[dict[str, str]]:
    """The rows of a table `path,label[,split]`; DataError says what is wrong with it."""
    try:
        with open_text(table, newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read {table}: {error}; ImageCSV expects --root to be a table path,label"
            f"[,split], or a folder with {TABLE} in it"
        ) from error
    if not {"path", "label"} <= {*header} or not rows:
        raise DataError(
            f"{table} begins with {','.join(header)[:80] or 'nothing'} and has {len(rows)} rows; "
            "expected a first line path,label or path,label,split, separated by commas, and one "
            "line per picture"
        )
    _check_columns(table, header, rows)
    for line, row in enumerate(rows, start=2):
        if None in row or not all(row.get(name) for name in COLUMNS if name in header):
            raise DataError(
                f"{table}, line {line}: expected {len(header)} fields, {', '.join(COLUMNS)} set"
            )
    return rows


def _check_columns(table: Path, header: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Names the columns that are not understood; DataError if one of them may be the split."""
    if len(set(header)) < len(header):
        raise DataError(f"{table} has a column twice: {', '.join(header)}; remove one of them")
    others = [name for name in header if name not in COLUMNS]
    if "split" not in header:
        for name in others:
            if name in SPLIT_WORDS or {row[name] or "" for row in rows} <= PART_WORDS:
                raise DataError(
                    f"{table} has no column split, but a column {name!r}, which is not understood. "
                    f"If it says the part of a picture, name it split, with {', '.join(PARTS)} in "
                    "it; if not, remove it"
                )
    if others:
        print(f"Not used, columns of {table}: {', '.join(name or '(no name)' for name in others)}")


def assign_parts(rows: list[dict[str, str]]) -> None:
    """Set `split` of every row: SHARES of each class, in the order of a hash of the path."""
    by_class = defaultdict(list)
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["path"].encode()).digest()):
        by_class[row["label"]].append(row)
    for members in by_class.values():
        train = max(1, round(len(members) * SHARES["train"]))
        # A class of three has none left for validation: without a test picture it would be refused.
        val = max(0, min(round(len(members) * SHARES["val"]), len(members) - train - 1))
        for rank, row in enumerate(members):
            row["split"] = "train" if rank < train else "val" if rank < train + val else "test"
