"""Accuracy of answers to questions about images, as VQA counts it (Antol et al., ICCV 2015).

An answer is right as far as three of nine people gave it, min(n / 3, 1), on average over the ten
ways to leave one of ten people out. Spellings are made alike as in the published evaluation, its
quirks among them: nothing is changed where all ten people say the same, and punctuation becomes a
blank, or nothing where it stands beside one or the answer has a number like 1,000.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

PEOPLE = 10
ENOUGH = 3

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_THOUSANDS = re.compile(r"\d,\d")
_ARTICLES = {"a", "an", "the"}
_DIGITS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"},
    **{"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# Written with one apostrophe too few; in one word the published table has it the other way round.
_APOSTROPHES = {
    word[: mark.start()] + word[mark.end() :]: word
    for word in _CONTRACTED.split()
    for mark in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}


def accuracy(answer: str, people: Sequence[str]) -> float:
    """How right an answer is, 0 to 1, beside those of several people, ten in VQA."""
    answer, people = _plain(answer), [_plain(one) for one in people]
    if len(set(people)) > 1:
        answer, people = normalized(answer), [normalized(one) for one in people]
    same = people.count(answer)
    left_out = [same - (one == answer) for one in people]
    return sum(min(n / ENOUGH, 1.0) for n in left_out) / len(people)


def by_type(
    answers: Sequence[str], people: Sequence[Sequence[str]], types: Sequence[str]
) -> dict[str, float]:
    """Percent, the mean over "all" questions and over those of each type, in their order."""
    found = defaultdict(list)
    for answer, of_one, type_ in zip(answers, people, types, strict=True):
        for group in ("all", type_):
            found[group].append(100 * accuracy(answer, of_one))
    found.pop("", None)
    return {group: sum(of_one) / len(of_one) for group, of_one in found.items()}


def normalized(answer: str) -> str:
    """An answer as it is compared: no punctuation and articles, digits, apostrophes put in."""
    thousands = _THOUSANDS.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        beside = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if beside or thousands else " ")
    said = (_DIGITS.get(word, word) for word in _PERIOD.sub("", text).lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in said if word not in _ARTICLES)


def _plain(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
