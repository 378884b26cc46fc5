"""What is held out of pretraining, by seeded rules: sets, drawings and names.

- *Sets*: whole families of icon sets are never seen; their drawings are the test images of the
  demo datasets. Which families: a seeded search for many demo classes.
- *Drawings*: of the other sets, about half the drawings of each demo class; its training pool.
- *Names*: things that are never paired with a picture in pretraining.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drawings import SEED, Drawing
from names import LISTS

TRIALS = 3000  # moves of the search for test families
WISHED = 45  # classes of a demo dataset beyond which more count little
LEAST, MOST = 8, 16  # independent drawings of a demo class in the pool, and as many in the test
SEEN = 2  # independent drawings of a demo class that pretraining must keep
PER_FAMILY = 4  # drawings of a class that one family gives to pool or test
HELD_NAMES = 300
# Sets that draw things rather than signs: a held-out name must be drawn by one of them.
OF_THINGS = {"noto", "twemoji", "fluent-emoji", "emojione", "game-icons", "map-icons", "icon-park"}
# Words of names that are no concrete things: times, feelings, people in roles.
ABSTRACT_WORDS = {
    *("face", "man", "woman", "family", "oclock", "thirty", "person", "couple", "hand", "hands"),
    *(
        "heart",
        "kiss",
        "male",
        "female",
        "boy",
        "girl",
        "cat",
        "eye",
        "moon",
        "globe",
        "men",
        "women",
    ),
}
# Families with so many names that pretraining cannot do without them.
KEPT = {
    *("game-icons", "iconmind", "icon-park", "material", "map-icons", "tabler", "fluent"),
    *("noto", "hugeicons"),
}


@dataclass
class Deal:
    """The role of every drawing (pretrain, pool, test, shift or none) and what was chosen."""

    roles: list[str]
    test_families: list[str]
    datasets: dict[str, list[list[str]]]  # demo dataset: groups of kin
    held_names: list[str]
    copies_left_out: int


def read_demo() -> dict[str, list[list[str]]]:
    """Candidate classes of the demo datasets, in groups of kin."""
    datasets: dict[str, list[list[str]]] = {}
    for line in (LISTS / "demo.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            groups = datasets.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            groups.append([name.strip() for name in line.split(",")])
    return datasets


Units = Mapping[int, list[int]]  # unit: its drawings


def _capped(families: Iterable[str]) -> int:
    return sum(min(PER_FAMILY, count) for count in Counter(families).values())


def choose_test_families(
    drawings: Sequence[Drawing],
    family_of: Mapping[str, str],
    units: Units,
    datasets: Mapping[str, list[list[str]]],
) -> list[str]:
    """Families never seen in pretraining: a seeded search for as many demo classes as possible.

    Starting from no family, families are moved in or out, one at a time and at random, whenever
    that does not lower the number of classes with enough drawings on both sides.
    """
    by_concept: dict[str, list[set[str]]] = {
        name: [] for groups in datasets.values() for group in groups for name in group
    }
    for numbers in units.values():
        concept = drawings[numbers[0]].concept
        if concept in by_concept:
            by_concept[concept].append({family_of[drawings[n].family] for n in numbers})
    families = {family for lists in by_concept.values() for unit in lists for family in unit}
    movable = sorted(families - {family_of.get(family, family) for family in KEPT})

    def worth(lists: list[set[str]], chosen: set[str]) -> float:
        test = _capped(min(unit) for unit in lists if unit <= chosen)
        rest = _capped(min(unit - chosen) for unit in lists if unit - chosen)
        need = min(test / LEAST, rest / (LEAST + SEEN), 1.0)
        return float(need >= 1) + 0.1 * need

    def score(chosen: set[str]) -> float:
        value = {name: worth(lists, chosen) for name, lists in by_concept.items()}
        totals = [sum(value[n] for group in groups for n in group) for groups in datasets.values()]
        return sum(min(total, WISHED) + 0.3 * max(total - WISHED, 0) for total in totals)

    rng = random.Random(SEED)
    chosen: set[str] = set()
    best = score(chosen)
    for _ in range(TRIALS):
        trial = chosen ^ set(rng.sample(movable, rng.randint(1, 3)))
        found = score(trial)
        if found >= best:
            chosen, best = trial, found
    return sorted(chosen)


def _choose(
    numbers: Sequence[int], family: Mapping[int, str], most: int, rng: random.Random
) -> list[int]:
    """At most `most` units in random order, at most PER_FAMILY of one family."""
    taken: Counter = Counter()
    kept: list[int] = []
    for number in rng.sample(numbers, len(numbers)):
        if len(kept) < most and taken[family[number]] < PER_FAMILY:
            taken[family[number]] += 1
            kept.append(number)
    return kept


def deal(
    drawings: Sequence[Drawing],
    kind_of: Mapping[str, str],
    unit_of: Sequence[int],
    family_of: Mapping[str, str],
) -> Deal:
    """Roles for all drawings. A unit with a drawing in a seen set is not of an unseen set."""
    units: dict[int, list[int]] = defaultdict(list)
    for number, unit in enumerate(unit_of):
        units[unit].append(number)
    candidates = read_demo()
    names = {name for groups in candidates.values() for group in groups for name in group}
    test_families = choose_test_families(drawings, family_of, units, candidates)
    chosen = set(test_families)
    held_names = _held_names(drawings, kind_of, names)
    unseen: dict[str, list[int]] = defaultdict(list)
    seen: dict[str, list[int]] = defaultdict(list)
    home: dict[int, str] = {}
    left_out = 0
    roles = ["pretrain"] * len(drawings)
    for unit, numbers in sorted(units.items()):
        concept = drawings[numbers[0]].concept
        families = {family_of[drawings[n].family] for n in numbers}
        home[unit] = min(families - chosen or families)
        (unseen if families <= chosen else seen)[concept].append(unit)
        for number in numbers:
            if family_of[drawings[number].family] in chosen:
                roles[number] = "none"
                left_out += not families <= chosen
            elif concept in held_names:
                roles[number] = "name"
    datasets: dict[str, list[list[str]]] = {}
    for dataset, groups in candidates.items():
        kept = [[name for name in group if _enough(name, seen, unseen, home)] for group in groups]
        datasets[dataset] = [group for group in kept if group]
    for name in sorted({n for groups in datasets.values() for group in groups for n in group}):
        rng = random.Random(f"{SEED}/{name}")
        most = min(MOST, max(LEAST, len(seen[name]) // 2))
        for role, numbers in (
            ("pool", _choose(seen[name], home, most, rng)),
            ("test", _choose(unseen[name], home, MOST, rng)),
        ):
            for unit in numbers:
                shown = [n for n in units[unit] if roles[n] != "none" or role == "test"]
                for number in units[unit]:
                    roles[number] = "none" if role == "pool" else "shift"
                roles[rng.choice(shown)] = role
    return Deal(roles, test_families, datasets, sorted(held_names), left_out)


def _enough(
    name: str,
    seen: Mapping[str, list[int]],
    unseen: Mapping[str, list[int]],
    home: Mapping[int, str],
) -> bool:
    here = seen.get(name, [])
    return (
        _capped(home[unit] for unit in unseen.get(name, [])) >= LEAST
        and _capped(home[unit] for unit in here) >= LEAST
        and len(here) >= LEAST + SEEN
    )


def _held_names(
    drawings: Sequence[Drawing], kind_of: Mapping[str, str], demo: set[str]
) -> set[str]:
    hands: dict[str, set[str]] = defaultdict(set)
    for drawing in drawings:
        hands[drawing.concept].add(drawing.hand)
    things = sorted(
        concept
        for concept, by in hands.items()
        if kind_of[concept] == "thing"
        and concept not in demo
        and len(by) >= 3
        and len(by & OF_THINGS) >= 2
        and len(concept.split()) <= 2
        and not set(concept.split()) & ABSTRACT_WORDS
    )
    return set(random.Random(SEED).sample(things, min(HELD_NAMES, len(things) // 2)))
