"""Questions about images with the answers of ten people: VQA v2.0's files, and a demo set.

The questions of the demo set are made from what the demo datasets know of a concept: its name, the
datasets that it is in, its group of look-alikes. All ten "people" say the same, but for a thing of
several kinds, of which each has its share of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sar.errors import ConfigError, DataError
from sar.storage.texts import read_json
from sar.tasks.captioned import DEMO, PARTS, part_of
from sar.tasks.drawings import CHOICES, Concept, concepts
from sar.tasks.vqa_accuracy import PEOPLE

KINDS = {
    "DemoFood": "food",
    "DemoLeisure": "leisure",
    "DemoNature": "nature",
    "DemoObjects": "household",
    "DemoOffice": "office",
    "DemoScience": "science",
    "DemoTravel": "travel",
}
"""What kind of thing a demo dataset shows."""
TYPES = ("name", "kind", "yes/no", "choice")
"""Of the demo set's questions."""
_FORMAT = (
    'expected VQA\'s questions ({"data_subtype", "questions": [{"image_id", "question_id", '
    '"question"}]}) and annotations ({"annotations": [{"question_id", "answer_type", "answers": '
    '[{"answer"}]}]})'
)


@dataclass(frozen=True)
class Asked:
    """Questions, each about an image and with `PEOPLE` answers."""

    title: str
    images: Sequence[Path]
    questions: Sequence[str]
    answers: Sequence[Sequence[str]]
    types: Sequence[str]
    """Of the answers."""

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError(f"{self.title} has no question")


def read_asked(
    source: str, split: str, answers: Path | None = None, images: Path | None = None
) -> Asked:
    """What a source names.

    Args:
        source: ``demo``, ``demo:`` and one of `CHOICES`, or a file of VQA's questions.
        split: of the demo set. A file of VQA's is one split.
        answers: VQA's annotations that go with the questions.
        images: the folder of COCO's images, by default that of the file.

    Raises:
        ConfigError: an unknown demo set; no `answers`. DataError: a file that cannot be used, or
            images that are not there.
    """
    kind, _, which = source.partition(":")
    if kind == DEMO:
        return demo_questions(which, split)
    if answers is None:
        raise ConfigError(f"the answers to {source} are missing; give VQA's annotations file")
    file = Path(source)
    content, annotated = (read_json(one, _FORMAT) for one in (file, answers))
    try:
        told = {row["question_id"]: row for row in annotated["annotations"]}
        asked = [
            (
                f"COCO_{content['data_subtype']}_{row['image_id']:012d}.jpg",
                " ".join(row["question"].split()),
                row["question_id"],
            )
            for row in content["questions"]
        ]
        if unknown := {number for *_, number in asked} ^ told.keys():
            raise DataError(
                f"{file} and {answers} do not go together: question_id {min(unknown)} is in one of "
                f"them alone, as are {len(unknown) - 1} others"
            )
        people = [[one["answer"] for one in told[number]["answers"]] for *_, number in asked]
        types = [told[number].get("answer_type", "") for *_, number in asked]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"cannot use {file}: no {error} where it should be; {_FORMAT}") from error
    for (_, _, number), of_one in zip(asked, people, strict=True):
        if len(of_one) != PEOPLE or not all(isinstance(a, str) and a.strip() for a in of_one):
            raise DataError(
                f"question_id {number} of {answers} has {len(of_one)} answers, or an empty one; "
                f"expected {PEOPLE} that are texts"
            )
    paths = [(images or file.parent) / name for name, *_ in asked]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"the images of {len(missing)} of {len(paths)} questions of {file} are not there, such "
            f"as {missing[0]}; give their folder with --images"
        )
    return Asked(file.name, paths, [question for _, question, _ in asked], people, types)


def demo_questions(which: str, split: str, root: Path | None = None) -> Asked:
    """One question of each type about one drawing each of every concept, seeded by its name.

    Args:
        which: one of `CHOICES`. root: where the drawings are rendered.

    Raises:
        ConfigError: an unknown choice or split.
    """
    if which not in CHOICES or split not in PARTS:
        raise ConfigError(
            f"there are no demo questions {which!r}, split {split!r}; expected {DEMO}, or {DEMO}: "
            f"and one of {', '.join(CHOICES[1:])}, and the split {' or '.join(PARTS)}"
        )
    known = concepts()
    rows: list[tuple[Path, str, list[str], str]] = []
    for concept in known:
        if not concept.among(which):
            continue
        draws = random.Random(f"{split}/{concept.name}")
        drawings = part_of(concept, split, root)
        draws.shuffle(drawings)
        for place, type_ in enumerate(TYPES):
            question, answers = question_on(concept, type_, known, draws)
            rows.append((drawings[place % len(drawings)], question, of_people(answers), type_))
    images, questions, people, types = zip(*rows, strict=True)
    title = f"demo questions{', ' * bool(which)}{which} ({split})"
    return Asked(title, images, questions, people, types)


def examples_for(
    source: str, split: str, examples: str | None, answers: Path | None, images: Path | None
) -> Asked:
    """The questions that examples are drawn from: a source, or the demo set's training pool.

    Settings are chosen on "held"; its examples are those of "fit".

    Raises as `read_asked` does; ConfigError where none are given for a file.
    """
    if examples is None and source.partition(":")[0] != DEMO:
        raise ConfigError(
            "examples are asked for, and there is nothing to draw them from; give the questions of "
            "a training set with --examples and --example-answers, or --shots 0"
        )
    return read_asked(examples or source, "fit" if split == "held" else "train", answers, images)


def one_question(picture: Path, question: str) -> Asked:
    """A question to which no answer is known. Raises ConfigError for an empty one."""
    if not question.strip():
        raise ConfigError("the question is empty; expected a text such as 'what is this?'")
    return Asked("a question", [picture], [" ".join(question.split())], [()], [""])


def question_on(
    concept: Concept, type_: str, known: Sequence[Concept], draws: random.Random
) -> tuple[str, list[str]]:
    """A question of one of `TYPES` about a concept, and its right answers.

    Names that are no answer are in half of the cases those of look-alikes.
    """
    if type_ == "name":
        return "what is this?", [concept.name]
    if type_ == "kind":
        return "what kind of thing is this?", [KINDS[dataset] for dataset in concept.datasets]
    if concept.kin and draws.random() < 0.5:
        other = draws.choice(concept.kin)
    else:
        other = draws.choice([one.name for one in known if one.name != concept.name])
    if type_ == "yes/no":
        right = draws.random() < 0.5
        return f"is this {_a(concept.name if right else other)}?", ["yes" if right else "no"]
    first, second = draws.sample((concept.name, other), 2)
    return f"is this {_a(first)} or {_a(second)}?", [concept.name]


def prompt(question: str, answer: str = "") -> str:
    """How a language model is asked, or shown an answer."""
    return f"question: {question} answer: {answer}".rstrip()


def of_people(answers: Sequence[str]) -> list[str]:
    """`PEOPLE` answers, each of the right ones as often as the others, as far as that goes."""
    return [answers[i % len(answers)] for i in range(PEOPLE)]


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
