"""The malformed inputs: every way in, and for each what goes wrong with such files."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import product_cases
import text_cases
import yaml
from checkpoint_cases import checkpoint_trees, save, weight_trees
from doors import DOORS, Door
from mutations import DAMAGES, TEXTS, malformed
from option_cases import ARGUMENTS, option_cases
from picture_cases import PICTURES

Mutation = Callable[[Path, random.Random], None]
BINARY = {".pkl", ".pt", ".tar-1", ".png", ".safetensors"}
SHARE = 25  # of the trees that are wrong in one place, so many are tried for each way in


@dataclass(frozen=True)
class Case:
    """One malformed input."""

    door: Door
    what: str
    mutate: Mutation | None = None
    """Is given the file."""
    more: tuple[str, ...] = ()
    """Further arguments of the command."""
    argument: str = ""
    """Why a result that is not the usual one is right; empty: it would not be."""

    def __str__(self) -> str:
        return f"{self.door.name}: {self.what}"


def all_cases(seed: int, world: Path) -> list[Case]:
    """Every case there is in a world; the same for the same seed."""
    rng = random.Random(seed)
    return [
        *_damaged(),
        *_wrong_in_one_place(rng, world),
        *_edited(),
        *_other_tensors(rng),
        *_options(rng),
        *_pictures(),
    ]


def _damaged() -> Iterator[Case]:
    for door in DOORS.values():
        kinds = DAMAGES if Path(door.file).suffix in BINARY else {**DAMAGES, **TEXTS}
        for what, mutate in kinds.items():
            yield Case(door, what, mutate, argument=_argument(door, what))


def _wrong_in_one_place(rng: random.Random, world: Path) -> Iterator[Case]:
    """Of files that hold a tree."""
    for door in DOORS.values():
        suffix = Path(door.file).suffix
        if suffix not in (".json", ".yaml"):
            continue
        tree = door.tree(world)
        for what, wrong in _some(list(malformed(tree)), rng):
            text = json.dumps(wrong) if suffix == ".json" else yaml.safe_dump(wrong)
            yield Case(door, what, _with_text(text), argument=_argument(door, what))


def _edited() -> Iterator[Case]:
    """Of files with lines, as people and programs get them wrong."""
    for door, edits in {**text_cases.LINES, **product_cases.LINES}.items():
        for what, edit in edits.items():
            yield Case(DOORS[door], what, _with_edit(edit), argument=_argument(DOORS[door], what))


def _other_tensors(rng: random.Random) -> Iterator[Case]:
    for door in DOORS.values():
        if door.name.startswith("checkpoint"):
            for what, change in _some(list(checkpoint_trees()), rng, 2 * SHARE):
                yield Case(door, what, save(change), argument=_argument(door, what))
    door = DOORS["weights of CLIP"]
    for what, change in weight_trees():
        yield Case(door, what, save(change), argument=_argument(door, what))
    for door in DOORS.values():
        if door.file.endswith(".safetensors"):
            for what, mutate in product_cases.TENSORS.items():
                yield Case(door, what, mutate, argument=_argument(door, what))


def _options(rng: random.Random) -> Iterator[Case]:
    for what, command, more in option_cases(rng):
        door = Door("command line", "", command)
        yield Case(door, what, more=more, argument=ARGUMENTS.get(what, ""))
    for what, command in product_cases.WORDS.items():
        yield Case(Door("command line", "", command), what, argument=ARGUMENTS.get(what, ""))


def _pictures() -> Iterator[Case]:
    for door in DOORS.values():
        if door.name.startswith("picture"):
            for what, mutate in PICTURES.items():
                yield Case(door, what, mutate, argument=_argument(door, what))


def _some(all_of_them: list[Any], rng: random.Random, most: int = SHARE) -> list[Any]:
    return rng.sample(all_of_them, min(most, len(all_of_them)))


def _with_text(text: str) -> Mutation:
    def mutate(file: Path, rng: random.Random) -> None:
        os.unlink(file)
        file.write_text(text)

    return mutate


def _with_edit(edit: Callable[[str], str]) -> Mutation:
    def mutate(file: Path, rng: random.Random) -> None:
        text = edit(file.read_text())
        os.unlink(file)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")

    return mutate


def _argument(door: Door, what: str) -> str:
    return ARGUMENTS.get(f"{door.name}: {what}", "")
