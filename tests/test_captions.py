"""`sarclip caption` and `sarclip vqa`: files, the mapping, language models, the commands."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shop
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sar.errors import ConfigError, DataError, WeightsError
from sar.storage.sealed import read_sealed, write_sealed
from sar.tasks.answering import answers_to, captions_of
from sar.tasks.asked import (
    KINDS,
    TYPES,
    Asked,
    demo_questions,
    of_people,
    one_question,
    prompt,
    question_on,
    read_asked,
)
from sar.tasks.captioned import part_of, read_captioned
from sar.tasks.drawings import concepts
from sar.tasks.language import LanguageModel
from sar.tasks.language_models import load_language_model
from sar.tasks.mapping import (
    RECORD,
    WEIGHTS,
    Mapping,
    Settings,
    _loss,
    load_mapping,
    prefixes,
    save_mapping,
    train,
)
from sar.tasks.tiny import TINY_FILE, Tiny
from sar.toolbox.aggregation import PromptGenerator

# --- files ---------------------------------------------------------------------------------------

NOCAPS = {
    "info": {"version": "1.0"},
    "images": [
        {"id": 0, "file_name": "a.jpg", "domain": "in-domain", "open_images_id": "a"},
        {"id": 1, "file_name": "b.jpg", "domain": "out-domain", "open_images_id": "b"},
    ],
    "annotations": [
        {"image_id": 1, "id": 10, "caption": "A red cup."},
        {"image_id": 0, "id": 11, "caption": "A dog."},
    ],
}
QUESTIONS = {
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 42, "question": "What is  this?", "question_id": 42000},
        {"image_id": 7, "question": "Is it red?", "question_id": 7001},
    ],
}
PEOPLE = ["dog"] * 6 + ["puppy"] * 4
ANNOTATIONS = {
    "annotations": [
        {
            "question_id": number,
            "image_id": number // 1000,
            "answer_type": type_,
            "answers": [{"answer": one, "answer_id": 1 + i} for i, one in enumerate(people)],
        }
        for number, type_, people in [(7001, "yes/no", ["yes"] * 10), (42000, "other", PEOPLE)]
    ]
}


def written(folder: Path, name: str, content: Any, *images: str) -> Path:
    for number, image in enumerate(images):
        Image.new("RGB", (40, 40), (200, 60 * number, 30)).save(folder / image)
    file = folder / name
    file.write_text(json.dumps(content))
    return file


def vqa_files(folder: Path, questions: Any = QUESTIONS, answers: Any = ANNOTATIONS) -> list[Path]:
    names = [f"COCO_val2014_{number:012d}.jpg" for number in (42, 7)]
    return [
        written(folder, "questions.json", questions, *names),
        written(folder, "annotations.json", answers),
    ]


def test_nocaps(tmp_path: Path) -> None:
    file = written(tmp_path, "nocaps.json", NOCAPS, "a.jpg", "b.jpg")
    data = read_captioned(str(file), "val")
    assert [image.name for image in data.images] == ["a.jpg", "b.jpg"]
    assert data.captions == [["A dog."], ["A red cup."]]
    assert data.domains == ["in-domain", "out-domain"]


def test_captions_of_unknown_images(tmp_path: Path) -> None:
    content = NOCAPS | {"annotations": [{"image_id": 9, "id": 1, "caption": "A dog."}]}
    file = written(tmp_path, "nocaps.json", content, "a.jpg", "b.jpg")
    with pytest.raises(DataError, match="1 images that it does not list, such as image_id 9"):
        read_captioned(str(file), "val")


def test_vqa_v2(tmp_path: Path) -> None:
    questions, answers = vqa_files(tmp_path)
    asked = read_asked(str(questions), "val", answers)
    assert [image.name for image in asked.images] == [
        "COCO_val2014_000000000042.jpg",
        "COCO_val2014_000000000007.jpg",
    ]
    assert asked.questions == ["What is this?", "Is it red?"]
    assert asked.answers == [PEOPLE, ["yes"] * 10]
    assert asked.types == ["other", "yes/no"]
    with pytest.raises(ConfigError, match="give VQA's annotations file"):
        read_asked(str(questions), "val")
    with pytest.raises(DataError, match=r"images of 2 of 2 questions .* --images"):
        read_asked(str(questions), "val", answers, tmp_path / "elsewhere")


def few(people: list[str]) -> Any:
    rows = [{"question_id": number, "answers": [{"answer": one} for one in people]}
            for number in (42000, 7001)]  # fmt: skip
    return {"annotations": rows}


@pytest.mark.parametrize(
    ("questions", "answers", "said"),
    [
        ([], ANNOTATIONS, "expected VQA's questions"),
        ({"questions": []}, {"annotations": []}, "no question"),
        (QUESTIONS, {"annotations": []}, "question_id 7001 is in one of them alone"),
        (QUESTIONS, few([]), "0 answers, or an empty one; expected 10"),
        (QUESTIONS, few(["a"] * 9), "9 answers"),
        (QUESTIONS, few(["a"] * 9 + [" "]), "or an empty one"),
        (QUESTIONS, {"annotations": [{"question_id": 7001}]}, "go together|answers"),
    ],
)
def test_other_files_of_questions(tmp_path: Path, questions: Any, answers: Any, said: str) -> None:
    files = vqa_files(tmp_path, questions, answers)
    with pytest.raises(DataError, match=said) as caught:
        read_asked(str(files[0]), "val", files[1])
    assert "\n" not in str(caught.value)


# --- the demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where drawings are rendered, once."""
    return tmp_path_factory.mktemp("drawings")


def test_parts_of_the_pool_and_the_test_have_no_drawing_in_common(root: Path) -> None:
    concept = next(one for one in concepts() if one.datasets[0] == "DemoFood")
    fit, held, whole, test = (
        part_of(concept, part, root) for part in ("fit", "held", "train", "test")
    )
    assert held
    assert len(test) == 4
    assert [*fit, *held] == whole
    assert not {*map(str, whole)} & {*map(str, test)}


def test_concepts_are_those_of_all_datasets() -> None:
    found = concepts()
    assert len({one.number for one in found}) == len(found) > 200
    assert {name for one in found for name in one.datasets} == set(KINDS)
    assert all(len(one.captions) == 5 for one in found)
    assert all(one.name not in one.kin for one in found)


def test_questions_on_a_concept() -> None:
    known = concepts()
    concept = next(one for one in known if len(one.datasets) > 1 and one.kin)
    draws = random.Random(0)
    kinds = question_on(concept, "kind", known, draws)[1]
    assert kinds == [KINDS[dataset] for dataset in concept.datasets]
    assert {*of_people(kinds)} == {*kinds}
    assert len(of_people(kinds)) == 10
    right = {"yes": 0, "no": 0, "the first": 0}
    for _ in range(200):
        question, (answer,) = question_on(concept, "yes/no", known, draws)
        assert (answer == "yes") == (question.split(" ", 3)[3] == f"{concept.name}?")
        right[answer] += 1
        question, answers = question_on(concept, "choice", known, draws)
        assert answers == [concept.name]
        right["the first"] += f"{concept.name} or " in question
        assert concept.name in question
    assert all(70 < count < 130 for count in right.values())


def test_demo_questions_are_the_same_each_time(root: Path, monkeypatch: Any) -> None:
    food = [one for one in concepts() if one.datasets[0] == "DemoFood"]
    some = [*food[:3], *food[-3:]]
    monkeypatch.setattr("sar.tasks.asked.concepts", lambda: some)
    first, again = (demo_questions("", "test", root) for _ in range(2))
    assert first == again
    assert len(first.questions) == len(some) * len(TYPES)
    assert {len(people) for people in first.answers} == {10}
    base, new = (demo_questions(half, "test", root) for half in ("base", "new"))
    assert len(base.images) == len(new.images) == 3 * len(TYPES)
    with pytest.raises(ConfigError, match="demo questions 'line'"):
        demo_questions("line", "test", root)


# --- the embedded language model -----------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    return load_language_model("tiny")


def test_the_tiny_model_is_small_and_knows_the_questions(tiny: LanguageModel) -> None:
    assert TINY_FILE.stat().st_size < 2e6
    text = "question: is this a birthday cake or an apple? answer:"
    assert tiny.decode(tiny.encode(text)) == text
    assert 1 in tiny.encode("quark")  # pieces that it does not know


def test_it_answers_from_what_stands_in_front(tiny: LanguageModel) -> None:
    """Without any image, about a description: what the prefix of an image is to stand for."""
    chosen = [one for one in concepts() if one.name in ("apple", "cat", "rocket", "hammer")]
    told = [f"{one.captions[0]}. {prompt('what is this?')}" for one in chosen]
    rows = [tiny.embed(torch.tensor([tiny.start, *tiny.encode(text)])) for text in told]
    assert tiny.continued(rows, 4) == [one.name for one in chosen]


def test_a_file_that_holds_none(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    with pytest.raises(WeightsError, match="does not hold the tiny language model"):
        Tiny(file)
    save_file({"pieces": torch.tensor([5])}, file)
    with pytest.raises(WeightsError, match="does not hold the tiny language model"):
        Tiny(file)


def test_rows_of_different_lengths_do_not_meet(tiny: LanguageModel) -> None:
    texts = ["an apple", "a cat is", "question: what is this? answer:", "the"]
    rows = [tiny.embed(torch.tensor([tiny.start, *tiny.encode(text)])) for text in texts]
    together = tiny.continued(rows, 6)
    assert together == [tiny.continued([row], 6)[0] for row in rows]
    with pytest.raises(ConfigError, match=r"more than the 160 of tiny; take fewer examples"):
        tiny.continued(rows, 155)


# --- the mapping ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features() -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(8, 16, generator=draws), dim=1)


def encoder_of(name: str, content: str) -> Any:
    """As much of an `Encoder` as says whether a mapping is its own."""
    return SimpleNamespace(name=name, content=content, dim=16)


CAPTIONS = [["an apple"], ["the cat"], ["a rocket"], ["a hammer"]] * 2


def test_it_learns_to_say_captions(tiny: LanguageModel, features: Tensor) -> None:
    state = torch.get_rng_state()
    settings = Settings(tokens=2, epochs=40, batch=8, lr=0.03)
    losses: list[str] = []
    mapping, again = (
        train(features, CAPTIONS, tiny, settings, tell=losses.append) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[:40] == losses[40:]
    seen = prefixes(mapping, features, tiny.width)
    assert torch.equal(seen, prefixes(again, features, tiny.width))
    assert captions_of(seen, tiny) == [text for (text,) in CAPTIONS]
    blind = captions_of(prefixes(None, features, tiny.width), tiny)
    assert len({*blind}) == 1
    assert not [p for p in tiny._model.parameters() if p.requires_grad]  # frozen


def test_every_caption_is_drawn_at_a_rate_that_falls_to_a_hundredth(
    tiny: LanguageModel, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[tuple[int, ...]] = set()
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def loss(prefix: Tensor, captions: list[list[int]], model: LanguageModel) -> Tensor:
        drawn.update(map(tuple, captions))
        return _loss(prefix, captions, model)

    def noted(self: torch.optim.AdamW, closure: Any = None) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr("sar.tasks.mapping._loss", loss)
    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    texts = ["an apple", "the cat", "a rocket"]
    settings = Settings(tokens=1, epochs=10, batch=4, lr=0.5)
    train(features, [texts] * 8, tiny, settings, tell=lambda line: None)
    assert drawn == {(*tiny.encode(text), tiny.end) for text in texts}
    assert rates == pytest.approx([0.5 * (1 - 0.99 * i / 20) for i in range(20)])


def test_the_loss_is_that_of_the_caption_behind_the_prefix(tiny: LanguageModel) -> None:
    prefix = torch.randn(2, 3, tiny.width, generator=torch.Generator().manual_seed(1))
    captions = [[*tiny.encode(text), tiny.end] for text in ("an apple", "the cat is a small pet")]
    total, count = 0.0, 0
    for one, ids in zip(prefix, captions, strict=True):  # word by word, without padding
        said = [tiny.start]
        for place, following in enumerate(ids):
            start = tiny.embed(torch.tensor(said[:1]))
            row = torch.cat([start, one, tiny.embed(torch.tensor(ids[:place]).long())])
            total -= tiny.logits(row[None])[0, -1].log_softmax(dim=0)[following].item()
            count += 1
    assert _loss(prefix, captions, tiny).item() == pytest.approx(total / count, rel=1e-5)


def test_aape_is_seen_beside_the_image_and_stays_as_it_is(
    tiny: LanguageModel, features: Tensor, tmp_path: Path
) -> None:
    generator = PromptGenerator(16)
    torch.nn.init.normal_(generator.linear2.weight)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    settings = Settings(tokens=2, epochs=2)
    mapping = train(features, CAPTIONS, tiny, settings, generator, lambda line: None)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    both = torch.cat([features, generator(features)], dim=1)
    with torch.no_grad():
        expected = F.linear(both, mapping.linear.weight, mapping.linear.bias)
    assert torch.allclose(prefixes(mapping, features, tiny.width).flatten(1), expected)
    encoder = encoder_of("pocket", "abc")
    save_mapping(mapping, tmp_path, encoder, tiny, settings, "mine")
    found = load_mapping(tmp_path, encoder, tiny)
    assert torch.equal(
        prefixes(found, features, tiny.width), prefixes(mapping, features, tiny.width)
    )


def test_it_fits_its_own_clip_and_language_model_alone(tiny: LanguageModel, tmp_path: Path) -> None:
    encoder = encoder_of("pocket", "abc")
    other = encoder_of("ViT-B/16", "abd")
    save_mapping(Mapping(16, tiny.width, 2), tmp_path, encoder, tiny, Settings(tokens=2), "mine")
    with pytest.raises(WeightsError, match="another CLIP than ViT-B/16"):
        load_mapping(tmp_path, other, tiny)
    record, state = read_sealed(tmp_path / RECORD, tmp_path / WEIGHTS, "")
    for change, message in (
        ({"language_model_content": "x"}, "another language model than tiny"),
        ({"settings": {"tokens": 3}}, "holds no mapping: linear.bias has shape"),
        ({"settings": {"tokens": 0}}, "tokens is 0"),
        ({"settings": {}}, "describes no mapping"),
        ({"clip": None}, "is no text"),
    ):
        write_sealed(tmp_path / RECORD, {**record, **change}, tmp_path / WEIGHTS, state)
        with pytest.raises((WeightsError, DataError), match=message):
            load_mapping(tmp_path, encoder, tiny)


def test_long_captions_are_refused(tiny: LanguageModel, features: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"need \d+ positions, and tiny has 160"):
        train(features, [["an apple " * 80]] * 8, tiny, Settings())
    pieces = 160 - 1 - 2  # behind start and prefix: one more than the end leaves
    with pytest.raises(ConfigError, match="need 161 positions"):
        train(features, [["an " * pieces]] * 8, tiny, Settings(tokens=2))


# --- examples ------------------------------------------------------------------------------------


class Recorder:
    """A language model that says how many embeddings it was given, and which."""

    name, width, length, start, end, separator = "recorder", 1, 10**6, 0, 1, (2,)
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def encode(self, text: str) -> list[int]:
        return [1000 + ord(letter) for letter in text]

    def embed(self, ids: Tensor) -> Tensor:
        return ids.float().unsqueeze(-1)

    def continued(self, rows: list[Tensor], most: int) -> list[str]:
        self.rows = rows
        return ["" for _ in rows]


def test_examples_stand_in_front_of_the_question() -> None:
    model: Any = Recorder()
    pool = Asked("pool", [Path("a"), Path("b")], ["q?", "r?"], [PEOPLE, ["no"] * 10], ["", ""])
    asked = Asked("asked", [Path("a")], ["s?"], [["yes"] * 10], [""])
    seen, shown = torch.full((1, 2, 1), 7.0), torch.full((2, 2, 1), 8.0)
    answers_to(asked, seen, model, 2, (pool, shown))
    (row,) = model.rows
    example = [8, 8, *model.encode(prompt("r?", "no")), 2]  # the other has the question's image
    expected = [0, *example, 7, 7, *model.encode(prompt("s?"))]
    assert row.flatten().tolist() == expected
    answers_to(asked, torch.empty(1, 0, 1), model, 0, (pool, shown))
    assert model.rows[0].flatten().tolist() == [0, *model.encode(prompt("s?"))]


def test_an_example_has_the_answer_of_most_people() -> None:
    model: Any = Recorder()
    pool = Asked("pool", [Path("a")], ["q?"], [["puppy"] * 4 + ["dog"] * 6], [""])
    answers_to(one_question(Path("x"), "s?"), torch.empty(1, 0, 1), model, 1,
               (pool, torch.empty(1, 0, 1)))  # fmt: skip
    shown = model.encode(prompt("q?", "dog"))
    assert model.rows[0].flatten().tolist()[1 : 1 + len(shown)] == shown


# --- the commands --------------------------------------------------------------------------------


def test_the_commands(folder, tmp_path, capsys) -> None:
    captions = written(tmp_path, "nocaps.json", NOCAPS, "a.jpg", "b.jpg")
    learned = tmp_path / "learned"
    options = ["--mapping", learned, "--output", tmp_path / "out.json"]
    assert shop.sarclip("caption", "train", captions, "--output", learned, "--epochs", "1") == 0
    assert shop.sarclip("caption", "evaluate", captions, *options) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("no image", "in-domain", "RefCLIPScore", "2 images"))
    content = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [*content] == ["no image", str(learned)]
    assert [*content["no image"]["scores"]] == ["all", "in-domain", "out-domain"]
    assert shop.sarclip("caption", "write", tmp_path / "a.jpg", "--mapping", learned) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.jpg'}\t")

    questions, answers = vqa_files(tmp_path)
    options += ["--answers", answers, "--examples", questions, "--example-answers", answers]
    assert shop.sarclip("vqa", "evaluate", questions, *options) == 0
    printed = capsys.readouterr().out
    assert "2 questions" in printed
    content = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [*content] == [f"{name}, {n} shots" for name in ("no image", learned) for n in (0, 1, 4)]
    assert [*content["no image, 0 shots"]["accuracy"]] == ["all", "other", "yes/no"]
    asked = ["vqa", "ask", tmp_path / "a.jpg", "what is this?", "--mapping", learned]
    assert shop.sarclip(*asked) == 0
    assert capsys.readouterr().out.strip()


def test_errors_are_one_line(folder, tmp_path, capsys) -> None:
    captions = written(tmp_path, "nocaps.json", NOCAPS, "a.jpg", "b.jpg")
    learned = tmp_path / "learned"
    assert shop.sarclip("caption", "train", captions, "--output", learned, "--epochs", "1") == 0
    capsys.readouterr()
    questions, answers = vqa_files(tmp_path)
    wrong: list[tuple[str, list[object]]] = [
        ("there is no picture", ["caption", "write", tmp_path / "no.png", "--mapping", learned]),
        ("cannot read", ["caption", "write", tmp_path / "a.jpg", "--mapping", tmp_path]),
        ("question is empty", ["vqa", "ask", tmp_path / "a.jpg", " ", "--mapping", learned]),
        ("nothing to draw them from",
         ["vqa", "evaluate", questions, "--answers", answers, "--mapping", learned]),
    ]  # fmt: skip
    for said, words in wrong:
        assert shop.sarclip(*map(str, words)) == 1
        assert said in capsys.readouterr().err.strip().splitlines()[-1]
