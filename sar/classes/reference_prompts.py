"""The descriptions that a run learns from: of the classes it is trained on, and of no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sar.classes.descriptions import load_descriptions, of_every
from sar.classes.identity import prompt_name
from sar.storage.files import make_folder, write_file

REPORT = "descriptions_report"


@dataclass(frozen=True)
class ReferencePrompts:
    """Sentences by class, and where they are from."""

    source: str
    sentences: dict[str, list[str]]
    """Class name -> at least one; in the order of the labels."""
    left_out: int
    """Other classes that the source describes; nothing of them is used."""

    @classmethod
    def chosen(
        cls,
        names: Sequence[str],
        source: str,
        dataset: str,
        encode: Callable[[str], Sequence[int]],
        most: int = 0,
    ) -> ReferencePrompts:
        """Those of the classes `names`. Other arguments and errors as of `load_descriptions`;
        DataError as well where one has no description.

        `most`: take the first so many of each class; 0: all.
        """
        described, origin = load_descriptions(source, dataset, encode)
        found = of_every(names, described, origin)
        sentences = {
            prompt_name(name): of_one[: most or None]
            for name, of_one in zip(names, found, strict=True)
        }
        return cls(source, sentences, len(described) - len(sentences))

    def summary(self) -> str:
        """What a run prints: how many, from where, and what is not used."""
        counts = sorted({len(of_one) for of_one in self.sentences.values()})
        each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        return (
            f"{each} descriptions for each of the {len(self.sentences)} classes it is trained on, "
            f"from {self.source}; of the {self.left_out} other classes there, none is used, and a "
            "test reads no description"
        )

    def save(self, folder: str | Path) -> None:
        """Writes REPORT.txt and REPORT.json into `folder`, made if need be."""
        make_folder(Path(folder))
        lines = [self.summary()]
        for name, sentences in self.sentences.items():
            lines += ["", name, *(f"  {sentence}" for sentence in sentences)]
        content = {
            "source": self.source,
            "classes_left_out": self.left_out,
            "descriptions": self.sentences,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_file(Path(folder, f"{REPORT}.json"), text + "\n")
        write_file(Path(folder, f"{REPORT}.txt"), "\n".join(lines) + "\n")
