"""Class names of the eleven datasets."""

import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.classes.names import class_names, known_datasets, split_base_new
from sar.errors import DataError

COUNTS = {
    "Caltech101": 100,
    "DescribableTextures": 47,
    "EuroSAT": 10,
    "FGVCAircraft": 100,
    "Food101": 101,
    "ImageNet": 1000,
    "OxfordFlowers": 102,
    "OxfordPets": 37,
    "SUN397": 397,
    "StanfordCars": 196,
    "UCF101": 101,
}
# Label and name, where order or wording is easily got wrong.
SAMPLES = {
    "Caltech101": {0: "face", 1: "leopard", 2: "motorbike", 3: "accordion", 4: "airplane"},
    "EuroSAT": {0: "Annual Crop Land", 3: "Highway or Road", 9: "Sea or Lake"},
    "FGVCAircraft": {0: "707-320", 99: "Yak-42"},
    "Food101": {16: "cheese_plate", 17: "cheesecake", 100: "waffles"},
    "ImageNet": {0: "tench", 4: "hammerhead shark", 21: "kite (bird of prey)"},
    "OxfordFlowers": {0: "pink primrose", 1: "hard-leaved pocket orchid"},
    "OxfordPets": {0: "abyssinian", 1: "american_bulldog"},
    "SUN397": {0: "abbey", 8: "outdoor apartment_building", 9: "indoor apse"},
    "StanfordCars": {0: "2000 AM General Hummer SUV"},
    "UCF101": {0: "Apply_Eye_Makeup", 34: "Hammering", 35: "Hammer_Throw", 100: "Yo_Yo"},
}


def test_the_eleven_datasets_are_known() -> None:
    assert known_datasets() == sorted(COUNTS)


@pytest.mark.parametrize("dataset", sorted(COUNTS))
def test_class_names(dataset: str) -> None:
    names = class_names(dataset)
    assert len(names) == COUNTS[dataset]
    assert all(name and name == " ".join(name.split()) for name in names)
    # ImageNet has two pairs of classes of one name.
    assert len(names) - len(set(names)) == (2 if dataset == "ImageNet" else 0)
    assert {label: names[label] for label in SAMPLES.get(dataset, {})} == SAMPLES.get(dataset, {})
    file = resources.files("sar.classes") / "datasets" / f"{dataset}.json"
    content = json.loads(file.read_text("utf-8"))
    assert list(content) == ["dataset", "source", "classes"]
    assert content["dataset"] == dataset
    assert content["source"]


@pytest.mark.parametrize("dataset", ["DescribableTextures", "Food101"])
def test_loaders_that_sort_folders_give_this_order(dataset: str) -> None:
    assert class_names(dataset) == sorted(class_names(dataset))


def test_unknown_datasets_are_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"'MyOwn'.*OxfordPets") as error:
        class_names("MyOwn")
    assert "\n" not in str(error.value)


@given(st.lists(st.integers()))
def test_base_classes_are_the_first_half_rounded_up(classes: list[int]) -> None:
    base, new = split_base_new(classes)
    assert base + new == classes
    assert len(base) - len(new) == len(classes) % 2
