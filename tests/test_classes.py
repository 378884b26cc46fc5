"""Templates, and the sources of novel class names."""

import json
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.classes.identity import identity, prompt_name
from sar.classes.names import class_names, known_datasets
from sar.classes.novel_names import novel_names, parse_words
from sar.classes.templates import imagenet_templates, template_for, templates_from
from sar.errors import ConfigError, DataError
from sar.toolbox.clip import tokenizer

TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
PLAIN = ["ImageNet", "Caltech101", "StanfordCars", "SUN397", "DemoFood", "DemoNature", "MyOwn"]
SHIPPED = sorted(
    entry for entry in (Path(__file__).parent.parent / "sar" / "classes" / "novel").glob("*.json")
)


@pytest.mark.parametrize("dataset", [*TEMPLATES, *PLAIN])
def test_templates(dataset: str) -> None:
    template = template_for(dataset)
    assert template == TEMPLATES.get(dataset, "a photo of a {}.")
    assert template.format("x").count("x") > template.count("x")


@pytest.mark.parametrize("dataset", [*TEMPLATES, *PLAIN])
def test_template_sources(dataset: str) -> None:
    assert templates_from("", dataset) == [template_for(dataset)]
    assert templates_from("a sketch of {}", dataset) == ["a sketch of {}"]
    assert templates_from("imagenet", dataset) == imagenet_templates()
    assert len(set(imagenet_templates())) == 60


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.txt", "\ufeff# my own\na photo of a {}.\r\n\n  {} texture.  \n"),
        ("mine.json", '["a photo of a {}.", "{} texture."]'),
    ],
)
def test_template_files(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert templates_from(str(file)) == ["a photo of a {}.", "{} texture."]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("empty.txt", b"# nothing\n", "no templates"),
        ("plain.txt", b"a photo of a {}.\na photo\n", "'a photo'"),
        ("two.txt", b"{} and {}\n", "'{} and {}'"),
        ("cut.json", b'["a {}"', "cannot be read"),
        ("number.json", b"3", "no templates"),
        ("numbers.json", b'["a {}", 2]', "2"),
        ("object.json", b'{"a {}": 1}', "no templates"),
        ("latin.txt", "crêpe {}".encode("latin-1"), "cannot read"),
    ],
)
def test_bad_template_files_give_one_clear_line(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        templates_from(str(file))
    assert name in str(error.value)
    assert found in str(error.value)
    assert "xpected" in str(error.value)
    assert "\n" not in str(error.value)


def test_names_are_normalized_and_distinct(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("Red_Fox\nred foxes\nred  FOX\n\n# comment\nTabby cats\nbeagles\nglass\n")
    kept = novel_names(str(file), "MyOwn", ["tabby_cat", "Beagle"])
    assert kept == ["Red Fox", "red foxes", "glass"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.json", '["a cat", "dog"]'),
        ("names.json", '{"dataset": "MyOwn", "names": ["a cat", "dog"]}'),
        ("names.txt", "\ufeffa cat\r\ndog\n"),
        ("names.csv", "name,kind\na cat,pet\ndog,pet\n"),
        ("names.CSV", '1,Class_Name\n0,"a cat"\n1,dog\n'),
    ],
)
def test_file_formats(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert novel_names(str(file), "MyOwn", []) == ["a cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("only_base.txt", b"Cats\ncat\n"),
        ("cut.json", b'{"names": ["a"'),
        ("number.json", b"3"),
        ("numbers.json", b"[1, 2]"),
        ("other.json", b'{"classes": ["a"]}'),
        ("latin.txt", "crêpe".encode("latin-1")),
        ("picture.csv", b"\x89PNG\r\n\xff\x00"),
        ("index.csv", b",0\n0,plum\n1,pear\n"),  # a pandas index, and no word for the names
        ("headless.csv", b"plum\npear\n"),
        ("foreign.csv", b"Klasse\nPflaume\n"),
        ("semicolons.csv", b"name;kind\nplum;fruit\n"),
        ("two.csv", b"name,class\nplum,fruit\n"),
        ("numbered.txt", b"1. plum\n2. pear\n"),
        ("brackets.txt", b"1) plum\n"),
        ("bullets.txt", b"- poodle\n- beagle\n"),
        ("bullets.json", b'["* poodle", "beagle"]'),
        ("numbers.txt", b"0\n1\n2\n"),
        ("separated.txt", b"plum; pear\n"),
        ("one_line.txt", b"plum, pear, fig\n"),
        ("commas.txt", b"plum,\npear\n"),
        ("lettered.txt", b"a) plum\nb) pear\n"),
        ("bracketed.txt", b"(1) plum\n(2) pear\n"),
        ("directories.txt", b"001.plum\n002.pear\n"),  # as those of CUB-200
        ("counted.txt", b"0 plum\n1 pear\n"),
        ("ids.txt", b"n07715103 plum\nn07718747 pear\n"),
        ("quoted.txt", b"'plum'\n'pear'\n"),
        ("python.txt", b"['plum', 'pear']\n"),
        ("markdown.txt", b"**plum**\n**pear**\n"),
        ("page.txt", b"<li>plum</li>\n<li>pear</li>\n"),
        ("introduced.txt", b"Here are two fruits:\nplum\npear\n"),
        ("described.txt", b"plum: a fruit\npear: another one\n"),
        ("commented.txt", b"// fruits\nplum\n"),
        ("zero.txt", b"pl\0um\npear\n"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        novel_names(str(file), "MyOwn", ["cat"])
    assert name in str(error.value)
    assert "xpected" in str(error.value)
    assert "\n" not in str(error.value)


def test_names_with_numbers_and_signs_are_names(tmp_path: Path) -> None:
    names = ["crane, bird", "St. Bernard", "7-Eleven", "2012 Audi A5", "737-800", "C-47", "bird's"]
    names += ["4-wheel drive", "3:10 to Yuma", "7.5 mm jack", "Dr. No", "C. elegans", "n-butane"]
    file = tmp_path / "names.txt"
    file.write_text("\n".join(names))
    assert novel_names(str(file), "MyOwn", ["cat"]) == names
    for dataset in known_datasets():
        (tmp_path / "all.txt").write_text("\n".join(class_names(dataset)))
        assert len(novel_names(str(tmp_path / "all.txt"), "MyOwn", ["no name"])) > 9


def test_missing_sources_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'MyOwn'.*TRAINER\.SAR\.NOVEL"):
        novel_names("shipped", "MyOwn", [])
    with pytest.raises(DataError, match=r"gone\.txt"):
        novel_names(str(tmp_path / "gone.txt"), "MyOwn", [])
    with pytest.raises(ConfigError, match="shiped"):
        novel_names("shiped", "MyOwn", [])


@given(st.integers(1, 300), st.integers(0, 2**31))
def test_words_are_seeded_distinct_and_no_base_classes(count: int, seed: int) -> None:
    base = ["Ability", "zeals"]
    words = novel_names(f"words:{count}", "MyOwn", base, seed)
    assert len(words) == len({identity(word) for word in words}) == count
    assert words == novel_names(f"words:{count}", "Other", base, seed)
    assert not {identity(word) for word in words} & {identity(name) for name in base}


def test_words_differ_between_seeds_and_are_limited() -> None:
    assert novel_names("words:50", "MyOwn", [], 1) != novel_names("words:50", "MyOwn", [], 2)
    with pytest.raises(ConfigError, match="at most 420"):
        novel_names("words:9999", "MyOwn", [])
    assert [parse_words(s) for s in ("words:3", "words:", "words:-1", "words:²", "none")] == [
        3, 0, 0, 0, 0,
    ]  # fmt: skip


@given(st.text("abzAZ09_-.'/ \t", min_size=1))
def test_a_name_in_a_prompt_has_the_hosts_tokens(name: str) -> None:
    """The checkouts only replace underscores. CLIP's tokenizer sees no other difference, but for
    blanks at the end."""
    name = name.rstrip("_ \t")
    encode = tokenizer.encode
    assert encode(f"X {prompt_name(name)}.") == encode(f"X {name.replace('_', ' ')}.")
    assert len(encode(prompt_name(name))) == len(encode(name.replace("_", " ")))  # name_lens


@given(st.text(min_size=1))
def test_identity_ignores_case_underscores_and_hyphens(name: str) -> None:
    assert identity(identity(name)) in (identity(name), identity(name)[:-1])
    assert identity(name.replace("_", " ")) == identity(name.replace(" ", "_"))


def test_none_is_no_names() -> None:
    assert novel_names("none", "MyOwn", ["cat"]) == []


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_follow_the_schema(file: Path) -> None:
    content = json.loads(file.read_text("utf-8"))
    assert set(content) == {"dataset", "made_by", "date", "prompt", "base_classes", "names"}
    assert content["dataset"] == file.stem
    kept = novel_names("shipped", file.stem, content["base_classes"])
    assert kept == content["names"]  # already normalized, distinct and apart from the base classes
    assert len(kept) >= 50


def test_data_files_are_found_as_package_data() -> None:
    assert (resources.files("sar.classes") / "words.txt").is_file()
