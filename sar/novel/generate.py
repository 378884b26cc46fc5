"""Novel names for a dataset, request by request: request i shows portion i of the base classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sar.asking.endpoint import Form
from sar.asking.order import AnswerFile, Order, Question
from sar.classes.identity import prompt_name, spellings
from sar.classes.novel_names import is_list_of_names
from sar.novel.question import TEMPLATE, messages, number_to_ask, quota

LONGEST = 60  # characters; longer answers are descriptions rather than names


class Names(Form):
    """The schema of an answer."""

    names: list[str]


class NovelFile(AnswerFile):
    """The schema of ``sar/classes/novel/*.json``, and what is done so far."""

    command = "sarclip novel generate"
    prompt = TEMPLATE
    unit = "names"
    shown = "base_classes"
    answers = "names"
    form = Names

    def __init__(self, order: Order, model: str) -> None:
        super().__init__(order, model)
        self._seen = {key for name in (*order.classes, *self.names) for key in spellings(name)}

    @property
    def names(self) -> list[str]:
        """The names kept so far."""
        names: list[str] = self.content["names"]
        return names

    def nothing(self) -> list[str]:
        return []

    def can_be(self, kept: Any) -> bool:
        return is_list_of_names(kept)

    @property
    def kept(self) -> int:
        return len(self.names)

    @property
    def wanted(self) -> int:
        return self.order.count

    def question(self) -> NovelQuestion:
        parts, index = self.order.parts, len(self.requests)
        wanted = quota(self.missing, index, len(parts))
        return NovelQuestion(self, parts[index % len(parts)], number_to_ask(wanted), wanted)

    def keep(self, names: list[str], most: int) -> int:
        """Adds those that are new, up to `most` of them; their number."""
        before = len(self.names)
        for name in map(prompt_name, names):
            keys = spellings(name)
            if not keys or keys & self._seen or len(name) > LONGEST or not name.isprintable():
                continue
            if len(self.names) - before < most:
                self._seen |= keys
                self.names.append(name)
        return len(self.names) - before


@dataclass(frozen=True)
class NovelQuestion(Question):
    """Names beside those of the `classes`."""

    file: NovelFile
    classes: list[str]
    asked: int
    wanted: int

    def messages(self) -> list[dict[str, str]]:
        return messages(self.classes, self.asked, self.file.names)

    def smaller(self) -> NovelQuestion:
        return replace(self, asked=max(1, self.asked // 2))

    def keep(self, items: list[Any]) -> tuple[int, int]:
        return len(items), self.file.keep(items, self.wanted)
