"""Scores of captions and answers: values of the published evaluations, kept as literals."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sar.tasks.caption_scores import caption_scores, reference_features
from sar.tasks.captioned import Captioned
from sar.tasks.cider import cider_d, words
from sar.tasks.clip_score import clip_scores, ref_clip_scores
from sar.tasks.vqa_accuracy import accuracy, normalized

# --- CIDEr-D: what the scorer of pycocoevalcap 1.2 gives -----------------------------------------

CANDIDATES = [
    *("a red cat sits on the mat", "a dog with a hat", "the big blue dog on the mat"),
]
REFERENCES = [
    ["a red cat on a mat", "the cat sits on the red mat"],
    ["a dog with a big hat", "the dog", "a hat on a dog"],
    ["a big blue dog sits on the mat"],
]


def test_cider_d_is_that_of_the_published_scorer() -> None:
    expected = [4.36296778, 3.47699222, 4.95230678]
    assert cider_d(CANDIDATES, REFERENCES) == pytest.approx(expected, abs=1e-8)
    repeated = ["a dog a dog a dog", "red", "a b c d e f g h i j k l"]
    references = [["a dog", "a dog runs"], ["red", "blue"], ["a b c d"]]
    expected = [1.0957557773873476, 1.25, 1.8843963552068352]
    assert cider_d(repeated, references) == pytest.approx(expected, abs=1e-12)


def test_ten_for_the_only_reference_and_nothing_for_other_words() -> None:
    references = [["one two three four five"], ["six seven eight nine ten"]]
    assert cider_d([of_one[0] for of_one in references], references) == pytest.approx([10, 10])
    assert cider_d([references[1][0], "eleven"], references) == [0, 0]
    assert cider_d(["one two"], [["one two"]]) == [0]  # a single image: nothing is rare


def test_words_are_without_case_and_punctuation() -> None:
    assert words("A t-shirt, the cat's: 'RED'!") == ["a", "t-shirt", "the", "cat's", "red"]


# --- CLIPScore -----------------------------------------------------------------------------------


def at(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_clip_score_and_ref_clip_score_by_hand() -> None:
    images, captions = at(0, 0, 0), at(60, 120, 60)
    assert clip_scores(images, captions).tolist() == pytest.approx([1.25, 0, 1.25])
    owner = torch.tensor([0, 1, 0, 2])
    found = ref_clip_scores(images.float(), captions.float(), at(90, 120, 0, 170).float(), owner)
    near = math.cos(math.radians(30))  # of the two references of the first image
    assert found.tolist() == pytest.approx([2 * 1.25 * near / (1.25 + near), 0, 0], abs=1e-6)


class Directions:
    """As an `Encoder` gives features of texts that it has been told."""

    def __init__(self, degrees: dict[str, float]) -> None:
        self._degrees = degrees

    def texts(self, texts: list[str]) -> torch.Tensor:
        return at(*(self._degrees[text.removeprefix("A photo depicts ")] for text in texts)).float()


def test_scores_are_means_in_percent_over_all_and_each_domain() -> None:
    data = Captioned("", [Path()] * 3, [["a"], ["b", "c"], ["d"]], range(3), ["in", "out", "in"])
    encoder: Any = Directions({"x": 60, "y": 0, "a": 60, "b": 90, "c": 0, "d": 90})
    references = reference_features(data, encoder)
    found = caption_scores(["x", "y", "y"], data, at(0, 0, 0).float(), references, encoder)
    assert [*found] == ["all", "in", "out"]
    clip = {group: scores["CLIPScore"] for group, scores in found.items()}
    assert clip == pytest.approx({"all": 625 / 3, "in": 187.5, "out": 250})
    ref = {group: scores["RefCLIPScore"] for group, scores in found.items()}
    first, second = 100 * 2 * 1.25 / 2.25, 100 * 2 * 2.5 / 3.5
    expected = {"all": (first + second) / 3, "in": first / 2, "out": second}
    assert ref == pytest.approx(expected, abs=1e-3)


@given(st.integers(0, 10**6))
def test_ref_clip_score_lies_between_the_two(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    images, captions, references = F.normalize(torch.randn(3, 5, 4, generator=draws), dim=-1)
    scores = clip_scores(images, captions)
    nearest = (captions * references).sum(dim=1).clamp(min=0)
    found = ref_clip_scores(images, captions, references, torch.arange(5))
    assert (found <= torch.maximum(scores, nearest) + 1e-6).all()
    assert (found >= torch.minimum(scores, nearest) - 1e-6).all()


# --- VQA: what the published evaluation of VQA v2.0 gives ----------------------------------------


@pytest.mark.parametrize(
    ("answer", "people", "expected"),
    [
        ("cat", ["cat"] * 10, 1.0),
        ("Cat.", ["cat"] * 10, 0.0),  # all say the same: nothing is changed
        ("cat", ["dog"] * 10, 0.0),
        ("cat", ["cat"] * 4 + ["dog"] * 6, 1.0),
        ("cat", ["cat"] * 3 + ["dog"] * 7, 0.9),
        ("cat", ["cat"] * 2 + ["dog"] * 8, 0.6),
        ("cat", ["cat"] + ["dog"] * 9, 0.3),
        ("The cat.", ["cat"] * 4 + ["dog"] * 6, 1.0),
        ("two\n", ["2"] * 5 + ["two"] * 2 + ["three"] * 3, 1.0),
        ("dont", ["don't"] * 4 + ["no"] * 6, 1.0),
        ("1,000", ["1000"] * 9 + ["many"], 1.0),
        ("x-ray", ["x ray"] * 9 + ["xray"], 1.0),
    ],
)
def test_vqa_accuracy(answer: str, people: list[str], expected: float) -> None:
    assert accuracy(answer, people) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A red, blue cat!", "red blue cat"),
        ("blue/green", "blue green"),
        ("u.s.a.", "usa"),
        ("2.50", "2.50"),
        ("1,000 cats?", "1000 cats"),
        ("None", "0"),
        ("the", ""),
        ("y'allll", "y'all'll"),
        ("somebody'd", "somebodyd"),
        ("cat-dog", "cat dog"),
        ("10 oclock", "10 o'clock"),
        ("one-way", "1 way"),
    ],
)
def test_answers_are_compared_in_one_spelling(answer: str, expected: str) -> None:
    assert normalized(answer) == expected
