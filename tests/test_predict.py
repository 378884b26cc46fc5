"""`sarclip predict`, `evaluate` and `export`, on a short training with the pocket CLIP."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import shop
import torch
from pages import follow
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from shop import sarclip

from sar import Classifier
from sar.classes.identity import prompt_name
from sar.classifier.labelling import copy_into, folder_name, novel_in
from sar.classifier.scores import calibration, known_pictures, score
from sar.errors import ConfigError, DataError, SARError, WeightsError
from sar.storage.locks import RUN_LOCK, alone


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "train_base" / "shop" / "seed1"
    return shop.train(root, folder, "SAR_CoOp")


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "classifier"
    assert sarclip("export", run, "--to", folder, "--add", "shoe") == 0
    return folder


def test_an_exported_folder_gives_the_logits_of_the_run(
    root: Path, run: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Classifier.load(exported), Classifier.load(run)
    theirs.add_classes(["shoe"])
    assert torch.equal(ours.logits(root / "test"), theirs.logits(root / "test"))
    assert (ours.method, ours.classes) == ("SAR_CoOp", theirs.classes)
    assert (ours.base_classes, ours.new_classes) == (theirs.base_classes, ("shoe",))
    files = {"README.md", "classifier.safetensors", "config.json"}
    assert {file.name for file in exported.iterdir()} == files
    tensors = load_file(exported / "classifier.safetensors")
    assert tensors.keys() == {"learned.prompt_learner.ctx", "class_features"}
    assert torch.equal(tensors["class_features"], theirs.class_features())
    said = json.loads((exported / "config.json").read_text())
    assert said["clip"]["name"] == "pocket"
    assert said["logit_scale"] == pytest.approx(theirs._trainer.model.logit_scale.exp().item())
    assert said["new_classes"] == ["shoe"]
    assert said["trained_on"]["title"] == root.name
    card = (exported / "README.md").read_text()
    assert re.search(rf"\| trained on +\| {root.name} ", card)
    accuracy = (run / "log.txt").read_text().rpartition("* accuracy: ")[2].partition("%")[0]
    assert f"| after the training | {accuracy} " in card
    assert "Known by name only (1): shoe." in card
    assert sarclip("export", run, "--to", exported) == 1
    assert "is there already" in capsys.readouterr().err


def changed(exported: Path, folder: Path, **said: object) -> Path:
    folder.mkdir()
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**description, **said}))
    weights = folder / "classifier.safetensors"
    save_file(load_file(weights), weights)  # without hashes, as earlier versions wrote it
    return folder


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"format": 9}, DataError, "format 9, and this version reads 1"),
        ({"classes": None}, DataError, "does not describe a classifier"),
        ({"classes": "shoe"}, DataError, "'shoe' where names should be"),
        ({"base_classes": ["shoe", 1]}, DataError, "where names should be"),
        ({"temperature": 0}, DataError, "0, expected a finite number above 0"),
        ({"temperature": float("nan")}, DataError, "nan, expected a finite number above 0"),
        ({"unknown": {"threshold": 2}}, DataError, "2, expected a finite number from 0 to 1"),
        ({"unknown": {"negatives": "x"}}, DataError, "'x' where names should be"),
        ({"batch_size": 0}, ConfigError, "BATCH_SIZE is 0; expected a whole number from 1"),
        ({"settings": []}, DataError, "does not describe a classifier"),
        ({"method": "CoOops"}, ConfigError, "did you mean"),
        ({"clip": {"name": "pocket", "content": "0"}}, WeightsError, "another CLIP than pocket"),
        ({"settings": {"TRAINER.COOP.N_CTX": 5, "TRAINER.COOP.CTX_INIT": ""}}, SARError, "shape"),
    ],
)
def test_damaged_descriptions(
    exported: Path, tmp_path: Path, said: dict[str, object], error: type[SARError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Classifier.load(changed(exported, tmp_path / "changed", **said))


def test_a_folder_is_as_it_was_exported_or_refused(exported: Path, tmp_path: Path) -> None:
    """Numbers and names that could be right, but are not those written; whole all the same."""
    description = json.loads((exported / "config.json").read_text())
    tensors = load_file(exported / "classifier.safetensors")
    with safe_open(exported / "classifier.safetensors", framework="pt") as file:
        hashes = file.metadata()

    def refused(error: type[SARError], message: str, weights: Any = tensors, **said: Any) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**description, **said}))
        save_file(weights, folder / "classifier.safetensors", hashes)
        with pytest.raises(error, match=message):
            Classifier.load(folder)

    changed = "config.json was changed after classifier.safetensors was written; export"
    refused(DataError, changed, temperature=2.0)
    refused(DataError, changed, classes=description["classes"][::-1])
    refused(DataError, changed, preprocessing={**description["preprocessing"], "PIXEL_MEAN": []})
    ctx = "learned.prompt_learner.ctx"
    other = {**tensors, ctx: tensors[ctx] + 1e-3}
    refused(WeightsError, "is damaged: its tensors are not those written", weights=other)
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "config.json").write_text(json.dumps(description, indent=8))
    shutil.copy(exported / "classifier.safetensors", tmp_path / "same")
    assert Classifier.load(tmp_path / "same").classes == Classifier.load(exported).classes


def test_damaged_weights(exported: Path, tmp_path: Path) -> None:
    folder = changed(exported, tmp_path / "changed")
    save_file({"learned.other": torch.zeros(1)}, folder / "classifier.safetensors")
    with pytest.raises(WeightsError, match=r"ctx is missing; other is unexpected|other is unexp"):
        Classifier.load(folder)
    (folder / "classifier.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match="cannot be read"):
        Classifier.load(folder)


def test_predict_writes_tables_and_folders(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("cup", "shoe"):
        (pictures / f"{name}.png").write_bytes((root / "test" / name / "0.png").read_bytes())
    (pictures / "broken.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("passed over")
    table, records, folders = (tmp_path / name for name in ("t.csv", "r.json", "sorted"))
    words = ("--add", "=shoe", "--top", "2", "--csv", table, "--json", records)
    capsys.readouterr()
    assert sarclip("predict", run, pictures, *words, "--sort-into", folders) == 1
    said = capsys.readouterr()
    assert "2 of 3 pictures labelled" in said.out
    assert "broken.png" in said.err
    assert "1 of 3 pictures could not be read" in said.err

    classifier = Classifier.load(run)
    classifier.add_classes(["=shoe"])
    files = [pictures / "cup.png", pictures / "shoe.png"]
    expected = classifier.predict(files, top=2)
    found = json.loads(records.read_text())
    assert [record["path"] for record in found] == [str(file) for file in files]
    for record, guesses, file in zip(found, expected, files, strict=True):
        assert [(c["name"], c["probability"]) for c in record["classes"]] == guesses
        assert (folders / folder_name(guesses[0].name) / file.name).is_file()
    with table.open(newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header == ["path", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[1].lstrip("'") for row in rows] == [guesses[0].name for guesses in expected]
    assert not any(cell.startswith("=") for row in rows for cell in row)

    (tmp_path / "names.txt").write_text("cup\nshoe\n")
    assert sarclip("predict", run, files[0], "--classes", tmp_path / "names.txt") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{files[0]}: ")
    assert line.count("%") == 2
    assert sarclip("predict", run, tmp_path / "nowhere.png") == 1
    assert "there is no picture or folder" in capsys.readouterr().err


def test_files_that_cannot_be_written_are_refused_before_pictures_are_read(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for options, message in (
        (("--csv", tmp_path), "is a folder"),
        (("--json", tmp_path / "file" / "x.json"), "a file is in the way"),
        (("--csv", tmp_path / "x", "--json", tmp_path / "a" / ".." / "x"), "give two files"),
    ):
        assert sarclip("predict", run, root / "test", *options) == 1
        said = capsys.readouterr()
        assert message in said.err
        assert "labelled" not in said.out


def test_known_pictures_of_a_part_that_is_none(root: Path, tmp_path: Path) -> None:
    picture = next((root / "test").rglob("*.png"))
    table = tmp_path / "known.csv"
    for header, rows, message in (
        ("path,label,split", (f"{picture},cup,test", "b.png,cup,tset"), "line 3: split is 'tset'"),
        ("path,label", ("a/b.png,cup", "a/c/../b.png,shoe"), "there twice, for cup and shoe"),
    ):
        table.write_text("\n".join((header, *rows)))
        with pytest.raises(DataError, match=message):
            known_pictures(table)


def test_copies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name, content in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_text(content)
        copy_into(tmp_path / "sorted", tmp_path / name / "0.png")
    assert {f.name: f.read_text() for f in (tmp_path / "sorted").iterdir()} == {
        "0.png": "1",
        "0-2.png": "2",
    }
    assert folder_name("../a/b. ") == "-a-b"


def test_evaluate(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sarclip("evaluate", run, root, "--output", tmp_path / "out") == 0
    assert "Added by their names: shoe, yellow lemon" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    classifier = Classifier.load(run)
    classifier.add_classes(["shoe", "yellow lemon"])
    names = [prompt_name(name) for name in classifier.classes]
    files = sorted((root / "test").glob("*/*.png"))
    labels = torch.tensor([names.index(prompt_name(file.parent.name)) for file in files])
    logits = classifier.logits(files)
    right = {"joint": logits.argmax(1) == labels}
    for group, start, stop in (("base", 0, 3), ("new", 3, 5)):
        own = (labels >= start) & (labels < stop)
        right[group] = logits[own, start:stop].argmax(1) + start == labels[own]
        right[f"{group}_joint"] = logits[own].argmax(1) == labels[own]
    assert {kind: one["correct"] for kind, one in found["accuracy"].items()} == {
        kind: int(one.sum()) for kind, one in right.items()
    }
    assert found["trained_on"] == root.name
    assert sum(map(sum, found["confusion"])) == len(files) == found["accuracy"]["joint"]["total"]
    assert [one["total"] for one in found["classes"]] == [3] * 5
    assert len((tmp_path / "out" / "classes.csv").read_text().splitlines()) == 6
    assert (tmp_path / "out" / "confusion.png").read_bytes()[1:4] == b"PNG"

    table = root / "some.csv"
    table.write_text("path,label\ntest/cup/0.png,cup\ntest/cup/1.png,cup\nbroken.png,cup\n")
    assert sarclip("evaluate", run, table, "--output", tmp_path / "some") == 1
    assert "1 of 3 pictures could not be read" in capsys.readouterr().err
    found = json.loads((tmp_path / "some" / "scores.json").read_text())
    assert (found["accuracy"]["joint"]["total"], found["harmonic_mean"]) == (2, None)


def test_an_evaluation_is_replaced_by_the_same_command_alone(
    root: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cup\nshoe\n")
    words = ("pocket", root / "test" / "cup" / "..", "--classes", names, "--add", "lemon")
    monkeypatch.chdir(tmp_path)
    assert sarclip("evaluate", *words) == 0
    scores = tmp_path / "evaluation" / "scores.json"
    first = scores.read_text()
    assert sarclip("evaluate", *words) == 0
    assert scores.read_text() == first
    capsys.readouterr()

    def refused(*other: str | Path) -> str:
        assert sarclip("evaluate", *other) == 1
        assert scores.read_text() == first
        return capsys.readouterr().err

    said = refused(run, *words[1:])
    assert f"its model was pocket, now {run}; give another --output" in said
    assert "its --calibrate was not given, now given" in refused(*words, "--calibrate")
    assert "its --add was lemon, now not given" in refused(*words[:-2])
    # As an earlier version wrote it, or nobody.
    for text in (json.dumps({**json.loads(first), "asked": None}), "[1]", "{"):
        scores.write_text(text)
        assert sarclip("evaluate", *words) == 1
        assert "does not say of what it is" in capsys.readouterr().err
    with alone(scores.parent / RUN_LOCK, scores.parent, "another"):
        assert sarclip("evaluate", *words) == 1
    assert "is in use by process" in capsys.readouterr().err


def test_a_clip_by_its_name_is_zero_shot(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cup\nred apple\nforget-me-not\n")
    words: list[str | Path] = ["--classes", names, "--unknown", "--novel"]
    words += [root / "classes.yaml", "--held-out", root, "--output", tmp_path / "out"]
    assert sarclip("evaluate", "pocket", root, *words) == 1
    assert "has no names under novel" in capsys.readouterr().err
    listed = tmp_path / "classes.yaml"
    listed.write_text("base: [cup]\nnovel: [mug, jug, glass]\n")
    assert novel_in(listed) == ["mug", "jug", "glass"]
    words[words.index(root / "classes.yaml")] = listed
    assert sarclip("evaluate", "pocket", root, *words) == 0
    said = capsys.readouterr().out
    assert "beside 3 negative labels" in said
    assert "told as unknown, of 6 pictures" in said
    words[words.index(tmp_path / "out")] = tmp_path / "more"
    words += ["--add", "shoe", "--add", "yellow lemon"]
    assert sarclip("evaluate", "pocket", root / "test", *words) == 0
    said = capsys.readouterr().out
    assert "none should be unknown" in said
    assert "told as unknown" not in said

    found = json.loads((tmp_path / "more" / "scores.json").read_text())
    plain = Classifier.zero_shot("pocket", found["names"])
    files = sorted((root / "test").glob("*/*.png"))
    labels = torch.tensor([found["names"].index(prompt_name(f.parent.name)) for f in files])
    joint = int((plain.logits(files).argmax(1) == labels).sum())
    assert found["accuracy"]["joint"] == {"correct": joint, "total": 15, "percent": joint / 0.15}
    assert {"base", "new"} <= found["accuracy"].keys()
    assert (found["method"], found["trained_on"], found["shots"]) == ("ZeroshotCLIP", "", 0)

    assert sarclip("export", "pocket", *words[:2], "--to", tmp_path / "classifier") == 0
    assert (
        "Known by name only (3): cup, red apple"
        in (tmp_path / "classifier" / "README.md").read_text()
    )
    assert sarclip("predict", tmp_path / "pocket", root) == 1
    assert "or the name of a CLIP and --classes FILE" in capsys.readouterr().err
    assert sarclip("predict", "packet", root, "--classes", names) == 1
    assert "expected one of pocket" in capsys.readouterr().err


def test_odd_lists_and_names(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is taken in the place of an empty list; any name can be drawn, without a word."""
    empty, listed = tmp_path / "empty.txt", tmp_path / "classes.yaml"
    empty.write_text("# none\n")
    assert sarclip("predict", "pocket", root / "test" / "cup", "--classes", empty) == 1
    assert "empty.txt holds no class names" in capfd.readouterr().err
    listed.write_text("base: [cup]\n")
    assert sarclip("predict", "pocket", root / "test" / "cup", "--classes", listed) == 0
    assert "Note: cup is the only class, so that every picture" in capfd.readouterr().out
    listed.write_text("base: [cup, red apple]\nnew: [shoe]\n")
    shop = tmp_path / "shop"
    for name in ("cup", "shoe", "x" * 120, '$犬$ "dog", big'):
        shutil.copytree(root / "test" / "cup", shop / name)
    output = ("--output", tmp_path / "out")
    assert sarclip("evaluate", "pocket", shop, "--classes", listed, *output) == 0
    assert capfd.readouterr().err == ""
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    groups = {one["name"]: one["group"] for one in found["classes"]}
    assert (groups["cup"], groups["shoe"]) == ("base", "new")
    assert sarclip("predict", "pocket", shop, "--classes", listed, "--sort-into", listed) == 1
    said = capfd.readouterr()
    assert (said.out, "give another --sort-into" in said.err) == ("", True)


def test_scores_by_hand() -> None:
    logits = torch.tensor([[3.0, 1, 2], [1, 2, 3], [4, 1, 2], [1, 0, 0]])
    found = score(logits, torch.tensor([0, 1, 2, 2]), ("a", "b", "c"), ("a", "b"))
    shares = {kind: (one.correct, one.total) for kind, one in found.accuracy.items()}
    assert shares == {
        "joint": (1, 4),
        "base": (2, 2),
        "base_joint": (1, 2),
        "new": (2, 2),
        "new_joint": (0, 2),
    }
    assert found.harmonic_mean == 100
    assert found.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [2, 0, 0]]
    assert [(c.name, c.group, c.taken_for) for c in found.classes] == [
        ("a", "base", ""),
        ("b", "base", "c"),
        ("c", "new", "a"),
    ]


def test_openworld_auc_and_calibration_by_hand() -> None:
    """Two base classes and two new ones; newness is the probability of both together."""
    shares = torch.tensor(
        [[0.6, 0.1, 0.1, 0.2], [0.1, 0.4, 0.3, 0.2], [0.4, 0.06, 0.29, 0.25], [0.7, 0.1, 0.1, 0.1]]
    )
    labels, names, base = torch.tensor([0, 1, 2, 3]), ("a", "b", "c", "d"), ("a", "b")
    logits = shares.log()
    found = score(logits, labels, names, base)
    # The last is taken for c among the new; the third's 0.54 is above 0.3 and 0.5 of the base ones.
    assert found.openworld_auc == pytest.approx(50)
    assert [row[2] for row in found.rows()] == [100, 100, 0, 0]
    of_base = torch.tensor([6 / 7, 0.8])  # probabilities among a and b
    known = calibration(logits, labels, names, base, 1.0)
    assert [*known] == ["joint", "base", "new"]
    assert known["base"][0] == pytest.approx(100 * (1 - of_base).mean().item(), rel=1e-4)
    fitted = calibration(logits, labels, names, base, 2.0)
    assert [*fitted][:2] == ["joint_before", "joint"]
    assert fitted["base_before"] == known["base"]
    cooler = of_base.sqrt() / (of_base.sqrt() + (1 - of_base).sqrt())
    assert fitted["base"][0] == pytest.approx(100 * (1 - cooler).mean().item(), rel=1e-4)


def test_known_pictures_are_looked_for(root: Path, tmp_path: Path) -> None:
    assert len(known_pictures(root)) == len(known_pictures(root / "test")) == 15
    with pytest.raises(DataError, match="no folder or table"):
        known_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no class folders"):
        known_pictures(tmp_path)


@pytest.mark.slow
def test_commands_of_the_page(tmp_path: Path) -> None:
    shop.write_pictures(tmp_path / "shop")
    said = follow("predict.md", tmp_path, {"words:20": "words:5 OPTIM.MAX_EPOCH 1"})
    assert "15 of 15 pictures labelled" in said
    assert "joint: all pictures, all classes" in said
    assert "Exported SAR_CoOp with 4 classes" in said
    assert "torch.Size([4, 192])" in said
