"""What a run would read of one's own pictures, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from tabulate import tabulate

from sar.classes.class_list import ClassList
from sar.classes.identity import prompt_name
from sar.data.likeness import Look, equal, nearly_equal
from sar.data.own_pictures import OwnPictures
from sar.data.reading import PARTS

_SHOWN = 5


@dataclass
class Findings:
    """What a check has found."""

    classes: list[tuple[str, str, dict[str, int]]] = field(default_factory=list)
    """Name, `base`, `new` or `left out`, and pictures of each part."""
    problems: list[str] = field(default_factory=list)
    """What makes results wrong, or a run impossible."""
    notes: list[str] = field(default_factory=list)
    """What a user should know besides."""

    def text(self) -> str:
        """Everything, for a terminal."""
        rows = [
            [name, group, *(counts[part] or "" for part in PARTS)]
            for name, group, counts in self.classes
        ]
        parts = [tabulate(rows, ("class", "group", *PARTS), disable_numparse=True)]
        for title, lines in (("To know", self.notes), ("Problems", self.problems)):
            if lines:
                parts.append(f"{title}:\n" + "\n".join(f"- {line}" for line in lines))
        return "\n\n".join(parts)


def judge(
    found: OwnPictures,
    classes: ClassList | None,
    seen: Sequence[Look],
    one_to_clip: Callable[[Mapping[int, str]], str],
) -> Findings:
    """What there is to say about pictures.

    Args:
        classes: the class list; None: there is none that can be read.
        seen: every picture of `found`, looked at.
        one_to_clip: says which of the numbered names CLIP cannot tell apart.
    """
    home = found.folder
    findings = Findings(_counted(found, classes))
    for kind, count in found.kinds().most_common():
        paths = [path for path, why in found.passed_over if why == kind]
        findings.notes.append(f"passed over, {kind}: {_listed(paths, home, count)}")
    places = {
        path: (part, prompt_name(name))
        for part, folders in found.pictures.items()
        for name, paths in folders.items()
        for path in paths
    }
    names = sorted({name for folders in found.pictures.values() for name in folders})
    if odd := one_to_clip(dict(enumerate(names))):
        findings.problems.append(odd)
    if classes and len(classes.base) == 1:
        findings.problems.append(
            f"{classes.base[0]!r} is the only base class, which a training has nothing to tell "
            "from; list more under base"
        )
    if broken := [one for one in seen if one.problem]:
        findings.problems.append(
            f"{len(broken)} cannot be read: {'; '.join(one.problem for one in broken[:_SHOWN])}"
        )
    if empty := [one.path for one in seen if one.empty]:
        findings.notes.append(f"one colour all over: {_listed(empty, home)}")
    _find_copies(findings, seen, places, home)
    return findings


def _find_copies(
    findings: Findings, seen: Sequence[Look], places: Mapping[str, tuple[str, str]], home: Path
) -> None:
    labels, parts, again = [], [], []
    for group in equal(seen):
        if len({places[path][1] for path in group}) > 1:
            labels.append(group)
        elif len({places[path][0] for path in group}) > 1:
            parts.append(group)
        else:
            again.append(group)
    for title, groups, where in (
        ("under several labels", labels, findings.problems),
        ("in several of train, val and test", parts, findings.problems),
        ("there several times within a class", again, findings.notes),
    ):
        if groups:
            where.append(f"the same file {title}: {_groups(groups, home)}")
    by_part = {part: [one for one in seen if places[one.path][0] == part] for part in PARTS}
    pairs = [
        [one, other]
        for first, second in combinations(PARTS, 2)
        for one, other, _ in nearly_equal(by_part[first], by_part[second])
    ]
    if pairs:
        findings.problems.append(
            f"nearly the same picture in several of train, val and test: {_groups(pairs, home)}"
        )


def _counted(
    found: OwnPictures, classes: ClassList | None
) -> list[tuple[str, str, dict[str, int]]]:
    counts: dict[str, dict[str, int]] = {}
    for part, folders in found.pictures.items():
        for name, paths in folders.items():
            of_class = counts.setdefault(prompt_name(name), dict.fromkeys(PARTS, 0))
            of_class[part] += len(paths)
    groups = dict.fromkeys(counts, "left out")
    if classes is None:
        groups = dict.fromkeys(counts, "")
    else:
        groups |= dict.fromkeys(classes.base, "base") | dict.fromkeys(classes.new, "new")
    order = ["base", "new", "left out", ""]
    none = dict.fromkeys(PARTS, 0)
    return [
        (name, groups[name], counts.get(name, none))
        for name in sorted(groups, key=lambda name: (order.index(groups[name]), name))
    ]


def _listed(paths: Sequence[str], home: Path, count: int | None = None) -> str:
    said = ", ".join(_short(path, home) for path in paths[:_SHOWN])
    more = ", ..." if len(paths) > _SHOWN else ""
    number = len(paths) if count is None else count
    return f"{number} ({said}{more})"


def _groups(groups: Sequence[Sequence[str]], home: Path) -> str:
    said = "; ".join(" = ".join(_short(path, home) for path in group) for group in groups[:_SHOWN])
    return f"{len(groups)} ({said}{'; ...' if len(groups) > _SHOWN else ''})"


def _short(path: str, home: Path) -> str:
    return str(Path(path).relative_to(home)) if Path(path).is_relative_to(home) else path
