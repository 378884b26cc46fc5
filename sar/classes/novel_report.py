"""What `sarclip novel check` shows and every SAR run writes about its novel class names.

Novel names are made from base classes alone and are only *reported* against the new classes. They
are removed where ``TRAINER.SAR.DROP_OVERLAP`` asks for that control experiment.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from sar.classes.identity import identity
from sar.classes.novel_names import LEAK, ORACLE, NovelNames, load_novel, true_new
from sar.classes.overlap import KINDS, KnownClasses, Overlap, overlaps
from sar.errors import DataError
from sar.storage.files import make_folder, write_file

POSITIONS = 77  # of CLIP's text encoder


@dataclass(frozen=True)
class EmbeddingPair:
    """A novel name and the new class whose text embedding is nearest to its own."""

    name: str
    new_class: str
    cosine: float


@dataclass
class NovelReport:
    """Novel names compared with the base classes and, where they are known, with the new ones."""

    dataset: str
    source: str
    base_classes: int
    new_classes: int | None
    """None where the new classes are not known; `unknown` says why."""
    unknown: str
    read: int
    names: int
    duplicates: list[tuple[str, str]]
    of_base: list[tuple[str, str]]
    too_long: list[str] | None
    """Names whose prompts exceed CLIP's positions; None: not measured."""
    made_from_new: list[str] | None
    """New classes among the base classes that the file says it was made from: a leak."""
    overlaps: list[Overlap] | None
    dropped: bool = False
    """Whether the overlapping names were removed."""
    embedding_threshold: float | None = None
    near_by_embedding: list[EmbeddingPair] = field(default_factory=list)

    def count(self, kind: str) -> int | None:
        """Number of overlaps of a kind; None where the new classes are not known."""
        return None if self.overlaps is None else sum(o.kind == kind for o in self.overlaps)

    def line(self) -> str:
        """The overlap in one line."""
        if self.overlaps is None:
            return f"overlap with the new classes not known: {self.unknown}"
        counts = ", ".join(f"{self.count(kind)} {kind}" for kind in KINDS)
        what = "removed" if self.dropped else "reported, not removed"
        return f"overlap with the {self.new_classes} new classes: {counts} ({what})"

    def write(self, folder: Path) -> None:
        """Writes novel_report.txt and novel_report.json into `folder`, made if need be."""
        make_folder(folder)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        for suffix, content in (("json", text), ("txt", details(self))):
            write_file(folder / f"novel_report.{suffix}", content)


def check(
    novel: NovelNames,
    source: str,
    classes: KnownClasses,
    positions: Callable[[str], int] | None = None,
) -> NovelReport:
    """Reports on the novel names of a `source`; changes nothing.

    `positions`: the number of text positions that a name's longest prompt takes.
    """
    leaked = None
    if classes.new is not None:
        wrong = {identity(name) for name in classes.new} - {identity(name) for name in classes.base}
        leaked = [name for name in novel.made_from if identity(name) in wrong]
    return NovelReport(
        dataset=classes.dataset,
        source=source,
        base_classes=len(classes.base),
        new_classes=None if classes.new is None else len(classes.new),
        unknown=classes.unknown,
        read=novel.read,
        names=len(novel.names),
        duplicates=novel.duplicates,
        of_base=novel.of_base,
        too_long=positions and [name for name in novel.names if positions(name) > POSITIONS],
        made_from_new=leaked,
        overlaps=None if classes.new is None else overlaps(novel.names, classes.new),
    )


@dataclass(frozen=True)
class NovelClasses:
    """The novel classes that a run trains with, and the report about them."""

    names: list[str]
    report: NovelReport

    @classmethod
    def chosen(
        cls,
        sar: Any,
        classes: KnownClasses,
        seed: int,
        positions: Callable[[str], int] | None = None,
        listed: str = "",
    ) -> "NovelClasses":
        """Those that ``TRAINER.SAR`` asks for, the node `sar`; `positions` as in `check`.

        `listed`: the dataset's own class list with novel names, which are then its shipped ones.

        The new classes have no influence on the names unless ``NOVEL`` is `ORACLE` or
        ``DROP_OVERLAP`` is set. Raises as `load_novel`, and `DataError` where either needs new
        classes that are not known or that there are none of, or leaves no name.
        """
        if sar.NOVEL == ORACLE:
            found = true_new(_held_out(classes), classes.base)
            return cls(found.names, check(found, f"{ORACLE} ({LEAK})", classes, positions))
        source = listed if listed and sar.NOVEL == "shipped" else sar.NOVEL
        found = load_novel(source, classes.dataset, classes.base, seed)
        report = check(found, source, classes, positions)
        if not sar.DROP_OVERLAP:
            return cls(found.names, report)
        return cls(_without_overlap(found.names, report), replace(report, dropped=True))

    def summary(self) -> str:
        """What a run prints: number, source, overlap, and a leak of new classes if there is one."""
        source, leaked = self.report.source, self.report.made_from_new
        text = f"SAR: {len(self.names)} novel names from {source}; {self.report.line()}"
        if leaked:
            text += f"\nSAR: LEAK, they were made from new classes: {', '.join(leaked)}"
        return text

    def save(self, folder: str | Path) -> None:
        """Writes the report into `folder`, as `NovelReport.write` does."""
        self.report.write(Path(folder))


def _held_out(classes: KnownClasses) -> Sequence[str]:
    if not classes.new:
        why = classes.unknown or "all of its classes are trained on"
        raise DataError(
            f"TRAINER.SAR.NOVEL {ORACLE} takes the new classes of {classes.dataset}, but {why}. "
            "Train on the base classes of a dataset whose classes are known, or set it to another "
            "source."
        )
    return classes.new


def _without_overlap(names: Sequence[str], report: NovelReport) -> list[str]:
    """The names without those that `report` finds overlapping, of all three kinds."""
    if report.overlaps is None:
        raise DataError(
            f"TRAINER.SAR.DROP_OVERLAP needs the new classes of {report.dataset}, but "
            f"{report.unknown}. Set it to False."
        )
    dropped = {overlap.name for overlap in report.overlaps}
    kept = [name for name in names if name not in dropped]
    if names and not kept:
        raise DataError(
            f"TRAINER.SAR.DROP_OVERLAP removes all {len(names)} novel names of {report.dataset}. "
            "Set TRAINER.SAR.NOVEL to another source."
        )
    return kept


def longest_prompt(
    encode: Callable[[str], Sequence[int]], context: int, templates: Sequence[str]
) -> Callable[[str], int]:
    """name -> the positions of its longest prompt, learned or hand-crafted.

    `encode`: CLIP's tokenizer, without start and end token. `context`: number of tokens in front of
    the name in the learned prompt. `templates`: hand-crafted prompts with one ``{}``.
    """

    def positions(name: str) -> int:
        learned = context + len(encode(f"{name}."))
        return 2 + max([learned, *(len(encode(template.format(name))) for template in templates)])

    return positions


def summary(reports: Sequence[NovelReport]) -> str:
    """A table with one line for each report."""
    headers = ["dataset", "source", "base", "new", "read", "duplicate", "of base", "names"]
    headers += ["too long", *KINDS, "by embedding"]
    rows = [
        [
            r.dataset,
            r.source,
            r.base_classes,
            "?" if r.new_classes is None else r.new_classes,
            r.read,
            len(r.duplicates),
            len(r.of_base),
            r.names,
            "-" if r.too_long is None else len(r.too_long),
            *("?" if r.overlaps is None else r.count(kind) for kind in KINDS),
            "-" if r.embedding_threshold is None else len(r.near_by_embedding),
        ]
        for r in reports
    ]
    return tabulate(rows, headers)


def details(report: NovelReport) -> str:
    """Everything in a report, as text."""
    parts = [summary([report]), report.line()]
    if report.overlaps:
        rows = [[o.name, o.new_class, o.kind, o.similarity] for o in report.overlaps]
        parts.append(tabulate(rows, ["novel name", "new class", "overlap", "similarity"]))
    if report.embedding_threshold is not None:
        parts.append(
            f"{len(report.near_by_embedding)} names have a text embedding as near to a new class "
            f"as only 1 in 20 base classes is to another base class (cosine >= "
            f"{report.embedding_threshold:.3f})"
        )
    if report.near_by_embedding:
        pairs = [[p.name, p.new_class, p.cosine] for p in report.near_by_embedding]
        parts.append(tabulate(pairs, ["novel name", "nearest new class", "cosine"], floatfmt=".3f"))
    for title, repeated in (
        ("Left out, repeats another name", report.duplicates),
        ("Left out, a base class", report.of_base),
    ):
        if repeated:
            parts.append(f"{title}: " + ", ".join(f"{a} ({b})" for a, b in repeated))
    for title, names in (
        (f"Too long for {POSITIONS} positions; training would refuse them", report.too_long),
        ("LEAK: the file names these new classes as its base classes", report.made_from_new),
    ):
        if names:
            parts.append(f"{title}: " + ", ".join(names))
    return "\n\n".join(parts) + "\n"
