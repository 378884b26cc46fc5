"""The novel class names shipped for the eleven datasets."""

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from sar.classes.identity import identity, prompt_name
from sar.classes.names import class_names, known_datasets, split_base_new
from sar.classes.novel_names import novel_names, shipped_datasets
from sar.classes.overlap import overlaps
from sar.classes.templates import template_for
from sar.toolbox.clip import tokenizer
from sar.toolbox.data.datasets import demo

CONTEXT_LENGTH = 77
LONGEST_LEARNED_CONTEXT = 16  # of the published configurations
encode = tokenizer.encode


@pytest.mark.parametrize("dataset", known_datasets())
def test_made_from_the_base_classes_alone(dataset: str) -> None:
    file = resources.files("sar.classes") / "novel" / f"{dataset}.json"
    content = json.loads(file.read_text("utf-8"))
    base, _ = split_base_new(class_names(dataset))
    assert content["base_classes"] == base
    assert "large language model" in content["made_by"]
    assert "do not filter against them" in content["prompt"]
    assert len(content["names"]) >= (500 if dataset == "ImageNet" else 150)
    assert len({identity(name) for name in [*base, *content["names"]]}) == len(base) + len(
        content["names"]
    )
    assert novel_names("shipped", dataset, base) == content["names"]


@pytest.mark.parametrize("dataset", sorted(set(shipped_datasets()) - set(known_datasets())))
def test_the_demo_lists_were_not_compared_with_the_new_classes(dataset: str) -> None:
    file = resources.files("sar.classes") / "novel" / f"{dataset}.json"
    content = json.loads(file.read_text("utf-8"))
    names = demo.class_names(dataset.removesuffix("Kin"))
    if dataset.endswith("Kin"):
        names = [names[label] for label in demo.kin_order(dataset.removesuffix("Kin"))]
    base, new = split_base_new(names)
    assert content["base_classes"] == base
    assert overlaps(content["names"], new)
    assert "saw the base class names of the demo datasets and nothing else" in content["made_by"]
    assert novel_names("shipped", dataset, base) == content["names"]
    assert len(content["names"]) >= 70


@pytest.mark.parametrize("dataset", known_datasets())
def test_every_name_fits_into_clips_context(dataset: str) -> None:
    base, _ = split_base_new(class_names(dataset))
    for name in map(prompt_name, [*class_names(dataset), *novel_names("shipped", dataset, base)]):
        handcrafted = len(encode(template_for(dataset).format(name)))
        learned = LONGEST_LEARNED_CONTEXT + len(encode(f"{name}."))
        assert max(handcrafted, learned) + 2 <= CONTEXT_LENGTH, name


def test_the_documented_numbers_are_those_of_the_files() -> None:
    page = Path(__file__).parents[1] / "docs" / "class-names.md"
    rows = re.findall(
        r"\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \((\d+) %\) \|",
        page.read_text("utf-8"),
    )
    assert sorted(row[0] for row in rows) == known_datasets()
    for dataset, *numbers in rows:
        base, new = split_base_new(class_names(dataset))
        names = novel_names("shipped", dataset, base)
        novel = {identity(name) for name in names}
        shared = sum(identity(name) in novel for name in new)
        found = [len(base + new), len(base), len(new), len(names), shared]
        assert [*found, round(100 * shared / len(new))] == [int(number) for number in numbers]
