"""What `sarclip inspect` measures, on embeddings with known relations and on trained models."""

import json
import shutil
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toolbox_mini import arguments, write_world

from sar import cli
from sar.alignment import similarity_alignment_loss
from sar.classes.templates import imagenet_templates
from sar.encoding import encode_tokens
from sar.errors import SARError
from sar.inspection.comparison import counterpart
from sar.inspection.figure import draw
from sar.inspection.models import embeddings, read_training
from sar.inspection.relations import NEIGHBOURS, cluster_order, compare, similarities
from sar.toolbox.clip import load_clip, tokenize

METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC", "AAPE")
OF_AN_IMAGE = ("CoCoOp", "AAPE")  # prompts that depend on the test images
SHALLOW = [  # the miniature CLIP has one layer
    word
    for key in (
        "MAPLE.PROMPT_DEPTH",
        "PROMPTSRC.PROMPT_DEPTH_TEXT",
        "PROMPTSRC.PROMPT_DEPTH_VISION",
    )
    for word in (f"TRAINER.{key}", "1")
]

OTHER_SETTINGS = [  # than the defaults
    *("TRAINER.SAR.TEMPLATE", "a drawing of the {}, in ink."),
    *("TRAINER.SAR.TEMPERATURE", "0.5"),
    *("TRAINER.SAR.SAMPLE_SIZE", "0"),
]
NEW = ("boxer", "great pyrenees", "sphynx")  # of the miniature dataset


def features(classes: int, seed: int) -> torch.Tensor:
    return torch.randn(classes, 16, generator=torch.Generator().manual_seed(seed))


def names(classes: int) -> list[str]:
    return [f"class {i}" for i in range(classes)]


@given(st.integers(3, 12), st.integers(0, 99), st.floats(0.05, 1.0))
def test_the_divergence_is_the_loss(classes, seed, temperature):
    reference, learned = features(classes, seed), features(classes, seed + 100)
    found = compare(similarities(reference), similarities(learned), names(classes), temperature)
    loss = similarity_alignment_loss(learned, reference, temperature=temperature)
    assert found.divergence == pytest.approx(float(loss), rel=1e-4, abs=1e-6)


@given(st.integers(3, 12), st.integers(0, 99))
def test_the_same_relations_are_no_change(classes, seed):
    matrix = similarities(features(classes, seed))
    found = compare(matrix, matrix, names(classes))
    assert found.divergence == pytest.approx(0, abs=1e-6)
    assert found.correlation == pytest.approx(1, abs=1e-5)
    assert found.nearest_changed == 0
    assert found.kept == 1


@given(st.integers(3, 12), st.integers(0, 99), st.randoms())
def test_the_order_of_the_classes_does_not_matter(classes, seed, random):
    old, new = features(classes, seed), features(classes, seed + 100)
    order = list(range(classes))
    random.shuffle(order)
    label = names(classes)
    straight = compare(similarities(old), similarities(new), label)
    shuffled = compare(
        similarities(old[order]), similarities(new[order]), [label[i] for i in order]
    )
    by_name = {change.name: change for change in shuffled.changes}
    for change in straight.changes:
        theirs = asdict(by_name[change.name])
        ours = asdict(change)
        assert ours.pop("divergence") == pytest.approx(theirs.pop("divergence"), abs=1e-5)
        assert ours == theirs


def test_a_swap_of_two_neighbours_is_named():
    # 0 is next to 1; the learned prompt puts 2 there instead.
    old = torch.tensor([[1.0, 0, 0], [1, 0.2, 0], [0, 0, 1], [0, 1, 0]])
    new = old[[0, 2, 1, 3]]
    found = compare(similarities(old), similarities(new), ["a", "b", "c", "d"])
    change = found.changes[0]
    assert (change.nearest, change.nearest_learned) == ("b", "c")
    assert change.rank > 1
    assert change.kept == min(NEIGHBOURS, 3)  # of three others all are kept
    assert found.nearest_changed > 0


@given(st.integers(1, 12), st.integers(0, 99))
def test_clustering_gives_an_order_of_all_classes(classes, seed):
    order = cluster_order(similarities(features(classes, seed)))
    assert sorted(order) == list(range(classes))


def test_clustering_puts_groups_side_by_side():
    centres = 5 * torch.eye(3, 16)
    group = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    points = centres[group] + 0.1 * features(9, 0)
    in_order = group[cluster_order(similarities(points))].tolist()
    assert sum(a != b for a, b in pairwise(in_order)) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trainer -> folder of one epoch of training, all below one root as a protocol leaves them."""
    root = tmp_path_factory.mktemp("inspect")
    write_world(root)
    folders = {}
    for trainer in (*METHODS, "SAR_CoOp"):
        folders[trainer] = root / "output" / trainer / "seed1"
        argv = [
            *arguments(root, folders[trainer], trainer=trainer),
            *("TRAINER.AAPE.DESCRIPTIONS", str(root / "descriptions.json")),
            "OPTIM.MAX_EPOCH",
            "1",
            *SHALLOW,
        ]
        if trainer == "SAR_CoOp":
            novel = root / "novel.txt"
            novel.write_text("\n".join((*NEW, "whippet")))
            argv += ["TRAINER.SAR.NOVEL", str(novel), *OTHER_SETTINGS]
        with pytest.raises(SystemExit) as end:
            cli.main(["train", *argv])
        assert not end.value.code
    return folders


@pytest.mark.parametrize("trainer", METHODS)
def test_every_method_can_be_inspected(trained, trainer):
    training = read_training(trained[trainer])
    found = embeddings(training)
    assert found.trainer == trainer
    assert len(found.names) == len(found.learned) == len(found.reference) == 3
    assert torch.isfinite(found.learned).all()
    with_base = embeddings(training, "all")
    assert with_base.names[-3:] == found.names
    # The test images are others here.
    tolerance = 1e-2 if trainer in OF_AN_IMAGE else 1e-5
    ours, theirs = similarities(found.learned), similarities(with_base.learned)[-3:, -3:]
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def test_the_command_compares_with_the_counterpart_and_writes_all_files(trained, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(trained["SAR_CoOp"])])
    assert not end.value.code
    folder = trained["SAR_CoOp"]
    assert (folder / "inspect_new.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "inspect_new.svg").read_text()
    content = json.loads((folder / "inspect_new.json").read_text())
    assert list(content["models"]) == ["CoOp", "SAR_CoOp"]
    printed = capsys.readouterr().out
    assert all(change["name"] in printed for change in content["models"]["CoOp"]["changes"])


def inspected(capsys, *arguments: str) -> dict:
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", *arguments])
    assert not end.value.code
    capsys.readouterr()
    return json.loads((Path(arguments[0]) / f"inspect_{arguments[-1]}.json").read_text())


def test_the_settings_of_the_training_are_used(trained, capsys):
    """Of its counterpart without SAR, too; the numbers are those of the loss in the training."""
    content = inspected(capsys, str(trained["SAR_CoOp"]), "--classes", "base")
    assert content["template"] == "a drawing of the {}, in ink."
    assert content["temperature"] == 0.5
    trainings = {name: read_training(trained[name]) for name in ("CoOp", "SAR_CoOp")}
    for name, training in trainings.items():
        found = embeddings(training, "base", trainings["SAR_CoOp"])
        clip = load_clip(training.cfg.MODEL.BACKBONE.NAME).model
        prompts = tokenize([f"a drawing of the {name}, in ink." for name in found.names])
        with torch.no_grad():
            reference = encode_tokens(clip, clip.token_embedding, prompts)
        loss = similarity_alignment_loss(found.learned, reference, temperature=0.5)
        changes = [c["divergence"] for c in content["models"][name]["changes"]]
        assert fmean(changes) == pytest.approx(float(loss), rel=1e-3)
    given = ("--temperature", "0.2", "--classes", "base")
    assert inspected(capsys, str(trained["SAR_CoOp"]), *given)["temperature"] == 0.2


@pytest.mark.parametrize("trainer", [*METHODS, "SAR_CoOp"])
def test_novel_classes_are_those_of_the_training_with_sar(trained, trainer):
    training, aligned = (read_training(trained[name]) for name in (trainer, "SAR_CoOp"))
    novel, new = (embeddings(training, subset, aligned) for subset in ("novel", "new"))
    assert novel.names == (*NEW, "whippet")  # the file's first names are the new classes
    assert novel.crafted == new.crafted == "a drawing of the {}, in ink."
    torch.testing.assert_close(novel.reference[:3], new.reference, atol=1e-5, rtol=0)
    tolerance = 1e-2 if trainer in OF_AN_IMAGE else 1e-5  # as its images are those of base classes
    ours, theirs = similarities(novel.learned)[:3, :3], similarities(new.learned)
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("source", "seed", "message"),
    [("none", 1, "without novel classes"), ("words:5", -1, "without --seed")],
)
def test_novel_classes_that_cannot_be_told_are_refused(trained, source, seed, message):
    training = read_training(trained["SAR_CoOp"])
    cfg = training.cfg.clone()
    cfg.defrost()
    cfg.TRAINER.SAR.NOVEL, cfg.SEED = source, seed
    with pytest.raises(SARError, match=message):
        embeddings(training, "novel", replace(training, cfg=cfg))


def test_several_hand_crafted_prompts_are_averaged(trained):
    training = read_training(trained["SAR_CoOp"])
    cfg = training.cfg.clone()
    cfg.defrost()
    cfg.TRAINER.SAR.TEMPLATE = "imagenet"
    found = embeddings(training, "new", replace(training, cfg=cfg))
    assert found.crafted == f"{imagenet_templates()[0]} and 59 more"
    single = embeddings(training, "new").reference
    assert not torch.allclose(similarities(found.reference), similarities(single), atol=1e-3)


def test_trainings_of_one_trainer_are_numbered(trained, tmp_path, capsys):
    again = tmp_path / "a_rather_long_name_of_a_folder"
    shutil.copytree(trained["CoOp"], again)
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(trained["CoOp"]), str(again), "--output", str(tmp_path)])
    assert not end.value.code
    content = json.loads((tmp_path / "inspect_new.json").read_text())
    assert list(content["models"]) == ["CoOp (1)", "CoOp (2)"]
    assert content["models"]["CoOp (1)"] == content["models"]["CoOp (2)"]
    assert f"CoOp (2): {again}\n" in capsys.readouterr().out


def test_the_method_without_sar_comes_first(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained["SAR_CoOp"])
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", "."])
    assert not end.value.code
    header = next(line for line in capsys.readouterr().out.splitlines() if "rank of the" in line)
    assert header.index(" CoOp: divergence") < header.index("SAR_CoOp: divergence")


def test_a_figure_shows_every_model_and_small_changes_as_small():
    reference = similarities(features(6, 0))
    slight = 0.99 * reference + 0.01 * similarities(features(6, 1))
    learned = {f"model {i}": slight for i in range(5)}
    relations = {label: compare(reference, m, names(6)) for label, m in learned.items()}
    figure = draw("title", names(6), reference, learned, relations)
    maps = [axis.images[0] for axis in figure.axes if axis.images]
    assert len(maps) == 1 + 2 * len(learned)
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    assert len(lines) == len(learned)
    low, high = maps[0].get_clim()
    changes = [image for image in maps if image.get_cmap().name == "RdBu_r"]
    assert len(changes) == len(learned)
    for image in changes:
        assert image.get_clim() == pytest.approx((-(high - low) / 2, (high - low) / 2))


def test_the_counterpart_of_a_lone_training_is_none(trained):
    assert counterpart(trained["MaPLe"]) is None
    assert counterpart(trained["CoOp"]) == trained["SAR_CoOp"].resolve()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no trained prompt in nowhere"),
        (["{CoOp}", "--root", "elsewhere"], "elsewhere"),
        (["{CoOp}", "--output", "{a_file}"], "give another --output"),
    ],
)
def test_what_cannot_be_inspected_is_said(trained, arguments, message, capsys):
    a_file = next(trained["CoOp"].glob("*/model.pth.tar-*"))
    words = [word.format(**trained, a_file=a_file) for word in arguments]
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", *words])
    assert end.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--temperature", "0"), ("--temperature", "nan"), ("--top", "0")]
)
def test_numbers_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", "folder", *words])
    assert end.value.code == 2
    assert f"Invalid value for '{words[0]}'" in capsys.readouterr().err


def test_an_unknown_subset_is_refused(trained):
    with pytest.raises(SARError, match="expected one of new, base, all, novel"):
        embeddings(read_training(trained["CoOp"]), "unseen")
