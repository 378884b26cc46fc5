"""From the names of drawings in icon sets to concepts.

"cat-fill-24", "outline-cat" and "cat-2" all show a cat: style, size and counting are no part of a
name. Spellings, plurals and orders of words that mean the same become the form that most hands
use; `lists/synonyms.txt` adds what no rule can know. A concept has a kind: only things and people
are shown by demo datasets; brands, letters and flags are left out altogether.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LISTS = Path(__file__).with_name("lists")
FILLED = {"fill", "filled", "solid", "baseline", "bold"}
DUOTONE = {"duotone", "twotone", "duo", "tone", "bulk"}
PLAIN = {"line", "outline", "outlined", "linear", "regular", "stroke", "stroked", "o"}
MANNERS = {
    *("thin", "light", "rounded", "round", "sharp", "remix", "flat", "color", "alt", "broken"),
    *("negative", "expressive", "variant", "print", "px", "small", "large", "medium", "sm", "lg"),
    *("md", "rtl", "ltr", "new", "alternate", "outlines", "thick", "mini", "micro", "big", "lite"),
    *("colored", "mono", "simple", "modern", "classic"),
}
STYLE = FILLED | DUOTONE | PLAIN | MANNERS
COUNTS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
SKIN = re.compile("skin-tone|-(light|medium|dark|medium-light|medium-dark)$|tone\\d")
# Words before or after a name that tell its group or that it is a sign.
BEFORE = {"food", "animal", "animals", "symbol", "icon", "fruit", "weather", "sport", "sports"}
AFTER = {"icon", "symbol", "emoji", "logo"}
DROPPED_KINDS = ("brand", "letter", "flag")


@dataclass(frozen=True)
class Parsed:
    """What the name of a drawing says."""

    name: str  # words with spaces
    style: str  # line, filled or duotone
    base: str  # drawings of one base name differ in style alone
    manners: int  # words like "thin" or "sharp": the fewer, the plainer


def parse(text: str) -> Parsed | None:
    """None where there are no words (numbers, single letters, other scripts, skin tones)."""
    if SKIN.search(text):
        return None
    parts = [part for part in re.split("[-_ ]+", text.lower()) if part]
    sizes = re.compile(r"(\d+px|16|20|24|28|32|48|64|\d+x\d+)$")
    styles = {part for part in parts if part in STYLE} if len(parts) > 1 else set()
    words = [
        re.sub(r"(?<=[a-z])\d+$", "", part)
        for place, part in enumerate(parts)
        if part not in styles and not part.isdigit() and not sizes.match(part)
        if place == 0 or part not in COUNTS
    ]
    while len(words) > 1 and words[-1] in AFTER:
        words.pop()
    name = " ".join(words)
    if not re.fullmatch("[a-z][a-z ]{1,40}", name) or len(words) > 5:
        return None
    base = "-".join(part for part in parts if part not in styles and not sizes.match(part))
    style = "duotone" if styles & DUOTONE else "filled" if styles & FILLED else "line"
    return Parsed(name, style, base, len(styles & (MANNERS | {"bold"})))


def read_list(name: str) -> list[str]:
    """The lines of a committed list without comments."""
    lines = (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def singular(name: str) -> str:
    """The name with its last word in the singular, as far as spelling tells."""
    if re.search("(ss|us|is|[^aeiou]ous)$", name) or name.split()[-1] in read_plurals():
        return name
    for ending, instead in (("ies", "y"), ("ves", "f"), ("shes", "sh"), ("ches", "ch")):
        if name.endswith(ending) and len(name) > len(ending) + 2:
            return name[: -len(ending)] + instead
    for ending in ("xes", "sses", "oes"):
        if name.endswith(ending):
            return name[:-2]
    return name[:-1] if name.endswith("s") and len(name) > 3 else name


_PLURALS: set[str] = set()


def read_plurals() -> set[str]:
    _PLURALS.update(_PLURALS or read_list("plural"))
    return _PLURALS


def merge(hands: Mapping[str, set[str]]) -> dict[str, str]:
    """The concept of every name, from the hands that draw a name.

    Names are alike when they have the same letters, the same words in another order, differ in
    number, in a word before them that only names their group, or stand in the list of synonyms.
    """
    parent = {name: name for name in hands}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    count = {name: len(drawn) for name, drawn in hands.items()}

    def join(names: Iterable[str], head: str | None = None) -> None:
        roots = sorted({root(name) for name in names}, key=lambda n: (-count[n], n))
        head = root(head) if head else roots[0]
        for other in roots:
            parent[other] = head
        count[head] = sum(count[n] for n in {*roots, head})

    for name in hands:
        one = singular(name)
        if one != name and one in hands and len(hands[one]) >= len(hands[name]) / 4:
            join([name, one], one)
        first, _, rest = name.partition(" ")
        if first in BEFORE and rest in hands and len(hands[rest]) > len(hands[name]):
            join([name, rest], rest)
    alike = defaultdict(list)
    for name in sorted({root(name) for name in hands}):
        alike["".join(sorted(name.split()))].append(name)
        alike[name.replace(" ", "")].append(name)
    for names in alike.values():
        if len(names) > 1:
            join(names)
    for line in read_list("synonyms"):
        head, _, others = line.partition(":")
        known = [n.strip() for n in (head, *others.split(",")) if n.strip() in hands]
        if len(known) > 1:
            if head in hands:
                parent[root(head)], parent[head] = head, head
            join(known, head if head in hands else None)
    return {name: root(name) for name in hands}


def kinds(names: Iterable[str], brands: Mapping[str, int]) -> dict[str, str]:
    """The kind of every name: thing, brand, flag, letter, or the kind of `lists/interface.txt`."""
    of_word: dict[str, str] = {}
    for line in read_list("interface"):
        kind, _, listed = line.partition(":")
        for word in listed.split():
            of_word.setdefault(word, kind)
    drawn = set(read_list("not_brands"))
    found = {}
    for name in names:
        words = name.split()
        marks = [of_word[word] for word in words if word in of_word]
        if name not in drawn and (
            brands.get(name, 0) >= 2 or {"brand", "brands", "bxl", "logo", "social"} & set(words)
        ):
            found[name] = "brand"
        elif words[0] in ("flag", "letter", "number") or "flags" in words:
            found[name] = "flag" if "flag" in words[0] else "letter"
        else:
            found[name] = marks[0] if marks else "thing"
    return found
