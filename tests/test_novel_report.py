"""When names name one class, and what is reported about novel names."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hosts_at_hand import needs_dassl
from hypothesis import given
from hypothesis import strategies as st
from tiny_host import BASE, NOVEL, ON_CHECKOUT, run_on_checkout, tiny_trainer
from yacs.config import CfgNode

from sar import cli
from sar.classes.identity import identity, spellings
from sar.classes.names import class_names, known_datasets, split_base_new
from sar.classes.novel_names import NovelNames, shipped_datasets
from sar.classes.novel_report import NovelClasses, check, details, longest_prompt
from sar.classes.overlap import KnownClasses, known_classes, overlaps
from sar.errors import DataError
from sar.toolbox.clip import tokenizer

SAME = [
    ("Red_Fox", "red foxes"),
    ("hot dog", "Hot-Dogs"),
    ("hot dog", "hotdog"),
    ("crane (bird)", "cranes"),
    ("persian", "Persian cat"),
    ("terrier, boston", "the Boston Terriers"),
    ("crêpe", "crepes"),
    ("macaroni & cheese", "Macaroni and cheese"),
    ("BMW M3 Coupe 2012", "2012 BMW M3 coupe"),
    ("painter's easel", "painters easels"),
    ("cookie", "cookies"),
    ("berry", "berries"),
    ("church", "churches"),
    ("tomato", "tomatoes"),
    ("shoe", "shoes"),
    ("knife", "knives"),
]
DIFFERENT = [
    ("cap", "cape"),
    ("Boeing 737-700", "Boeing 737-800"),
    ("english setter", "irish setter"),
    ("grass", "glass"),
    ("american robin", "robin"),
    ("bus", "bush"),
    ("cat", "dog"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_class(one: str, other: str) -> None:
    assert spellings(one) & spellings(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_spellings_of_two_classes(one: str, other: str) -> None:
    assert not spellings(one) & spellings(other)


WORDS = st.lists(st.text("bcdegxyz0", min_size=1, max_size=8), min_size=1, max_size=4)


@given(WORDS)
def test_spelling_does_not_depend_on_how_it_is_written(words: list[str]) -> None:
    keys = spellings(" ".join(words))
    assert keys == spellings("_".join(words).upper()) == spellings("-".join(words))
    assert keys & spellings("  The " + ", ".join(reversed(words)) + "!")


@given(st.text())
def test_what_is_identical_shares_its_spellings(name: str) -> None:
    assert spellings(name) == spellings(name.upper().lower()) or not name.isascii()
    assert bool(spellings(name)) <= bool(identity(name))


NEW = ["maine_coon", "Samoyed", "wheaten terrier", "Pasture Land"]


def test_overlaps_are_found_once_each_in_their_kind() -> None:
    names = [
        "samoyed",
        "Samoyed",
        "Maine-Coons",
        "pasture",
        "wheaten terier",
        "siamese",
        "maine coon",
    ]
    found = {overlap.name: (overlap.new_class, overlap.kind) for overlap in overlaps(names, NEW)}
    assert found == {
        "Samoyed": ("Samoyed", "exact"),
        "maine coon": ("maine coon", "exact"),
        "samoyed": ("Samoyed", "normalized"),
        "Maine-Coons": ("maine coon", "normalized"),
        "pasture": ("Pasture Land", "near"),
        "wheaten terier": ("wheaten terrier", "near"),
    }
    assert all(0 < overlap.similarity <= 1 for overlap in overlaps(names, NEW))


KNOWN = KnownClasses("Mine", ["beagle"], NEW)


@pytest.fixture
def choose(tmp_path: Path) -> Callable[..., NovelClasses]:
    """The novel classes of a run whose source is a file with these names."""

    def chosen(*names: str, drop: bool = False, classes: KnownClasses = KNOWN) -> NovelClasses:
        file = tmp_path / "mine.txt"
        file.write_text("\n".join(names))
        sar = CfgNode({"NOVEL": str(file), "DROP_OVERLAP": drop})
        return NovelClasses.chosen(sar, classes, seed=1)

    return chosen


def test_dropping_removes_every_kind_and_nothing_else(choose: Callable[..., NovelClasses]) -> None:
    names = ("siamese", "samoyed", "pasture", "burmese")
    kept = choose(*names)
    assert kept.names == list(names)
    assert "SAR: 4 novel names" in kept.summary()
    assert "0 exact, 1 normalized, 1 near (reported, not removed)" in kept.summary()
    dropped = choose(*names, drop=True)
    assert dropped.names == ["siamese", "burmese"]
    assert "SAR: 2 novel names" in dropped.summary()
    assert "0 exact, 1 normalized, 1 near (removed)" in dropped.summary()
    with pytest.raises(DataError, match="removes all 1 novel names"):
        choose("samoyed", drop=True)
    unknown = KnownClasses("Mine", ["beagle"], None, "who knows")
    assert choose(*names, classes=unknown).names == list(names)
    with pytest.raises(
        DataError, match=r"DROP_OVERLAP needs the new classes of Mine, but who knows"
    ):
        choose(*names, drop=True, classes=unknown)


@given(
    st.lists(st.sampled_from(["siamese", "Samoyeds", "beagle", "pasture", "pug"]), min_size=1),
    st.booleans(),
)
def test_what_is_trained_with_and_what_is_reported_agree(names: list[str], drop: bool) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "names.json")
        file.write_text(json.dumps([*names, "burmese"]))
        sar = CfgNode({"NOVEL": str(file), "DROP_OVERLAP": drop})
        novel = NovelClasses.chosen(sar, KNOWN, seed=1)
        novel.save(Path(folder, "made", "if", "need", "be"))
        report = json.loads(Path(folder, "made/if/need/be/novel_report.json").read_text())
    overlapping = {overlap["name"] for overlap in report["overlaps"]}
    assert report["dropped"] == drop
    assert len(novel.names) == report["names"] - drop * len(overlapping)
    assert overlapping.isdisjoint(novel.names) or not drop
    assert "beagle" not in novel.names
    assert len(set(novel.names)) == len(novel.names)


@pytest.mark.parametrize("dataset", known_datasets())
def test_new_classes_of_known_datasets(dataset: str) -> None:
    everything = class_names(dataset)
    base, new = split_base_new(everything)
    assert known_classes(dataset, base) == KnownClasses(dataset, base, new)
    assert known_classes(dataset, [name.replace("_", " ") for name in base]).new == new
    assert known_classes(dataset, everything).new == []
    wrong = known_classes(dataset, new)
    assert wrong.new is None
    assert "not the base half" in wrong.unknown


def test_new_classes_of_other_datasets() -> None:
    assert known_classes("Mine", ["a", "b"], ["a", "b", "c"]).new == ["c"]
    unknown = known_classes("Mine", ["a", "b"])
    assert unknown.new is None
    assert "Mine" in unknown.unknown


def test_length_counts_the_longer_of_learned_and_hand_crafted_prompt() -> None:
    encode = tokenizer.encode
    assert longest_prompt(encode, 4, ["a photo of a {}."])("cat") == 2 + 4 + 2
    assert longest_prompt(encode, 16, ["a photo of a {}."])("cat") == 2 + 16 + 2
    positions = longest_prompt(encode, 0, ["{}.", "a photo of a {}, a type of pet."])
    assert positions("cat") == 2 + 11  # with the comma and the full stop
    limit = "cat " * 70
    names = NovelNames(["cat", limit + "cat", limit])
    report = check(names, "mine.txt", KNOWN, longest_prompt(encode, 4, ["{}"]))
    assert report.too_long == [limit + "cat"]


def test_a_leak_is_named() -> None:
    novel = NovelNames(["siamese"], made_from=["beagle", "samoyeds", "Beagles"])
    report = check(novel, "f.json", KNOWN)
    assert report.made_from_new == ["samoyeds"]
    assert "LEAK" in details(report)
    unknown = KnownClasses("Mine", ["beagle"], None)
    assert "LEAK" not in details(check(novel, "f.json", unknown))


def read_report(trainer: Any) -> tuple[dict[str, Any], str]:
    folder = Path(trainer.output_dir)
    report = json.loads((folder / "novel_report.json").read_text())
    return report, (folder / "novel_report.txt").read_text()


def test_every_run_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contexts = []
    for known in (False, True):
        trainer = tiny_trainer(tmp_path, OUTPUT_DIR=str(tmp_path / f"known {known}"))
        if known:
            trainer.dm.dataset.all_classnames = [*BASE, *NOVEL[:4], "Foxgloves", "tiger"]
        trainer.train()
        contexts.append(trainer.model.prompt_learner.ctx.detach())
        report, text = read_report(trainer)
        assert report["names"] == len(NOVEL)
        assert report["too_long"] == []
        if known:
            kinds = [overlap["kind"] for overlap in report["overlaps"]]
            assert kinds.count("exact") == 4
            assert "4 exact" in text
        else:
            assert report["overlaps"] is None
            assert "not known" in text
            assert "TinyImages" in text
    assert torch.equal(*contexts)  # the report has no influence
    assert "SAR: 6 novel names from" in capsys.readouterr().out


def test_a_run_says_that_its_novel_names_leak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "leak.json"
    file.write_text(json.dumps({"names": NOVEL, "base_classes": [*BASE, "lion", "tigers"]}))
    trainer = tiny_trainer(tmp_path, TRAINER__SAR__NOVEL=str(file))
    trainer.dm.dataset.all_classnames = [*BASE, "tiger", "lion", "a", "b", "c", "d"]
    trainer.train()
    assert "LEAK, they were made from new classes: lion, tigers" in capsys.readouterr().out


def test_oracle_names_are_the_new_classes_and_everything_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="oracle")
    trainer.dm.dataset.all_classnames = [*BASE, "Foxgloves", "tiger", "snow_leopard"]
    trainer.train()
    view = trainer._injection.alignment.view
    assert len(view) == len(BASE) + 3
    said = "oracle (leak: an upper bound, not a result)"
    assert f"SAR: 3 novel names from {said}; overlap with the 3 new" in capsys.readouterr().out
    report, text = read_report(trainer)
    assert report["source"] == said
    assert said in text
    for everything, why in ((BASE, "all of its classes are trained on"), (None, "not known here")):
        none = tiny_trainer(tmp_path, TRAINER__SAR__NOVEL="oracle", OUTPUT_DIR=str(tmp_path / why))
        if everything:
            none.dm.dataset.all_classnames = everything
        with pytest.raises(DataError, match=f"oracle takes the new classes of TinyImages, .*{why}"):
            none.train()


def test_control_experiment(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, TRAINER__SAR__DROP_OVERLAP=True)
    trainer.dm.dataset.all_classnames = [*BASE, "Siamese", "fox gloves", "tiger", "a", "b", "c"]
    trainer.train()
    report, _ = read_report(trainer)
    assert report["dropped"]
    assert {overlap["name"] for overlap in report["overlaps"]} == {"siamese cat", "foxglove"}
    assert len(trainer._injection.alignment.view) == len(BASE) + len(NOVEL) - 2
    unknown = tiny_trainer(
        tmp_path, TRAINER__SAR__DROP_OVERLAP=True, OUTPUT_DIR=str(tmp_path / "unknown")
    )
    with pytest.raises(DataError, match="DROP_OVERLAP needs the new classes of TinyImages"):
        unknown.train()


@pytest.mark.skipif(ON_CHECKOUT, reason="this is the process for the checkout")
@needs_dassl
def test_checkout() -> None:
    run_on_checkout("CoOp", "tests/test_novel_report.py", "-k", "every_run or control")


def novel_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["novel", "check", *arguments])
    captured = capsys.readouterr()
    return int(str(done.value.code)), captured.out, captured.err


def test_check_of_all_shipped_files(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = novel_command(capsys)
    assert status == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert set(lines) == set(shipped_datasets())
    assert lines["EuroSAT"][2:4] == ["5", "5"]


def test_check_of_own_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base, new, names = (tmp_path / f"{name}.txt" for name in ("base", "new", "names"))
    base.write_text("beagle\nboxer\n")
    new.write_text("pug\nSamoyed\n")
    names.write_text("Pugs\nBeagles\nwhippet\nwhippets\n" + "very " * 80 + "long name\n")
    status, out, _ = novel_command(capsys, "--classes", str(base), str(names))
    assert status == 0
    assert "give them with --new" in out
    status, out, _ = novel_command(
        capsys, "--classes", str(base), "--new", str(new), str(names), "--output", str(tmp_path)
    )
    assert status == 0  # it is a report
    assert "0 exact, 1 normalized, 0 near (reported, not removed)" in out
    assert (tmp_path / "novel_report.txt").read_text() == out
    report = json.loads((tmp_path / "novel_report.json").read_text())
    assert (report["read"], report["names"]) == (5, 3)
    assert report["duplicates"] == [["whippets", "whippet"]]
    assert report["of_base"] == [["Beagles", "beagle"]]
    assert len(report["too_long"]) == 1


def test_check_against_a_class_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    classes = tmp_path / "classes.yaml"
    classes.write_text("base: [beagle, boxer]\nnew: [pug, samoyed]\nnovel: [whippet, Pugs]\n")
    status, out, _ = novel_command(capsys, "--classes", str(classes), str(classes))
    assert status == 0
    assert "overlap with the 2 new classes: 0 exact, 1 normalized, 0 near" in out
    base = tmp_path / "base.txt"
    base.write_text("beagle\nboxer\n")
    both = ("--classes", str(base), "--new", str(classes), str(classes))
    assert "with the 2 new classes: 0 exact, 1 normalized" in novel_command(capsys, *both)[1]


def test_a_report_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    status, out, err = novel_command(
        capsys, "--dataset", "EuroSAT", "--output", str(tmp_path / "file")
    )
    assert status == 1
    assert "River" in out
    assert err.startswith("error: The report cannot be written")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "OxfordPets", "--new", "new.txt"), "--new goes with --classes"),
        (("--dataset", "Nope"), "--classes"),
        (("--classes", "base.xml"), "base.xml is no file with class names"),
        (("--output", "folder"), "give --dataset"),
        (("gone.json",), "gone.json"),
        (("names.xml",), "names.xml"),
        (("words:20",), "--dataset"),
        (("--dataset", "Nope"), "Nope"),
        (("--dataset", "OxfordPets", "words:99999999"), "words:99999999"),
        (("--dataset", "OxfordPets", "gone.txt"), "gone.txt"),
        (("--classes", "gone.txt"), "gone.txt"),
    ],
)
def test_unusable_files_are_one_line_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    status, out, err = novel_command(capsys, *arguments)
    assert status == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_near_by_embedding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    # A new class itself, and a word that no picture of food has.
    names.write_text("pizza\nparagraph\n")
    arguments = ("--dataset", "DemoFood", str(names), "--weights", "pocket")
    status, out, _ = novel_command(capsys, *arguments, "--output", str(tmp_path))
    assert status == 0
    report = json.loads((tmp_path / "novel_report.json").read_text())
    pairs = {pair["name"]: pair for pair in report["near_by_embedding"]}
    assert pairs["pizza"]["new_class"] == "pizza"
    assert pairs["pizza"]["cosine"] == pytest.approx(1, abs=1e-3)
    assert all(pair["cosine"] >= report["embedding_threshold"] for pair in pairs.values())
    assert 0 < report["embedding_threshold"] < 1
    assert "pizza" in out
