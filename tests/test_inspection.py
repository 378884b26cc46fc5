"""What `sarclip inspect` measures, on embeddings with known relations and on trained models."""

import json
import shutil
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toolbox_mini import arguments, write_world

from sar import cli
from sar.alignment import similarity_alignment_loss
from sar.errors import SARError
from sar.inspection.cli import counterpart
from sar.inspection.figure import draw
from sar.inspection.models import embeddings
from sar.inspection.relations import NEIGHBOURS, cluster_order, compare, similarities

METHODS = ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC")
SHALLOW = [  # the miniature CLIP has one layer
    word
    for key in (
        "MAPLE.PROMPT_DEPTH",
        "PROMPTSRC.PROMPT_DEPTH_TEXT",
        "PROMPTSRC.PROMPT_DEPTH_VISION",
    )
    for word in (f"TRAINER.{key}", "1")
]


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
            "OPTIM.MAX_EPOCH",
            "1",
            *SHALLOW,
        ]
        if trainer == "SAR_CoOp":
            argv += ["TRAINER.SAR.NOVEL", "words:5"]
        with pytest.raises(SystemExit) as end:
            cli.main(["train", *argv])
        assert not end.value.code
    return folders


@pytest.mark.parametrize("trainer", METHODS)
def test_every_method_can_be_inspected(trained, trainer):
    found = embeddings(trained[trainer])
    assert found.trainer == trainer
    assert len(found.names) == len(found.learned) == len(found.reference) == 3
    assert torch.isfinite(found.learned).all()
    with_base = embeddings(trained[trainer], "all")
    assert with_base.names[-3:] == found.names
    # CoCoOp's prompts depend on the test images, which are others here.
    tolerance = 1e-2 if trainer == "CoCoOp" else 1e-5
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
        (["{CoOp}", "--output", "{a_file}"], "cannot be written to"),
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
    assert "not a number above 0" in capsys.readouterr().err


def test_an_unknown_subset_is_refused(trained):
    with pytest.raises(SARError, match="expected one of new, base, all"):
        embeddings(trained["CoOp"], "novel")
