"""Descriptions of classes, request by request, each for the classes of a portion that need some."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from sar.asking.endpoint import Form, Part
from sar.asking.order import AnswerFile, Question
from sar.classes.identity import identity
from sar.classes.novel_names import is_list_of_names
from sar.classes.novel_report import POSITIONS
from sar.describe.question import TEMPLATE, messages
from sar.toolbox.clip import tokenizer


class Described(Part):
    """One class in an answer."""

    name: str
    sentences: list[str]


class Descriptions(Form):
    """The schema of an answer."""

    descriptions: list[Described]


class DescriptionFile(AnswerFile):
    """The schema of ``sar/classes/descriptions/*.json``, and what is done so far."""

    command = "sarclip describe generate"
    prompt = TEMPLATE
    unit = "descriptions"
    shown = "classes"
    answers = "descriptions"
    form = Descriptions

    @property
    def described(self) -> dict[str, list[str]]:
        """Class -> the sentences kept so far."""
        described: dict[str, list[str]] = self.content["descriptions"]
        return described

    def nothing(self) -> dict[str, list[str]]:
        return {}

    def can_be(self, kept: Any) -> bool:
        return isinstance(kept, dict) and all(map(is_list_of_names, kept.values()))

    @property
    def kept(self) -> int:
        return sum(self.order.count - self.needs(name) for name in self.order.classes)

    @property
    def wanted(self) -> int:
        return self.order.count * len(self.order.classes)

    def needs(self, name: str) -> int:
        """How many sentences a class still needs."""
        return max(0, self.order.count - len(self.described.get(name, [])))

    def question(self) -> DescriptionQuestion:
        parts, index = self.order.parts, len(self.requests)
        turn = index % len(parts)
        needy = ([n for n in part if self.needs(n)] for part in parts[turn:] + parts[:turn])
        classes = next(filter(None, needy))
        return DescriptionQuestion(self, classes, max(map(self.needs, classes)))

    def keep(self, name: str, sentences: list[str]) -> int:
        """Adds those of a class that are different and fit into CLIP; their number."""
        kept = self.described.get(name, [])
        seen, before = {_key(sentence) for sentence in kept}, len(kept)
        for sentence in (" ".join(one.split()) for one in sentences):
            key = _key(sentence)
            if key in seen or not key or not sentence.isprintable() or not self.needs(name):
                continue
            if len(tokenizer.encode(sentence)) + 2 > POSITIONS:
                continue
            seen.add(key)
            self.described.setdefault(name, kept).append(sentence)
        return len(kept) - before


@dataclass(frozen=True)
class DescriptionQuestion(Question):
    """Sentences about each of the `classes`."""

    file: DescriptionFile
    classes: list[str]
    each: int

    @property
    def asked(self) -> int:  # type: ignore[override]
        return self.each * len(self.classes)

    def messages(self) -> list[dict[str, str]]:
        return messages(self.classes, self.each, self.file.described)

    def smaller(self) -> DescriptionQuestion:
        if len(self.classes) == 1:
            return replace(self, each=max(1, self.each // 2))
        return replace(self, classes=self.classes[: len(self.classes) // 2])

    def keep(self, items: list[Any]) -> tuple[int, int]:
        names = {identity(name): name for name in self.classes}
        answered = kept = 0
        for item in items:
            answered += len(item["sentences"])
            if name := names.get(identity(item["name"])):
                kept += self.file.keep(name, item["sentences"])
        return answered, kept


def _key(sentence: str) -> str:
    """What sentences have in common that differ in letter case and punctuation alone."""
    return " ".join(re.findall(r"\w+", sentence.casefold()))
