"""The embedded default: demo datasets and pocket CLIP as they are shipped."""

import json
import re
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from yacs.config import CfgNode

import sar
from sar.classes.novel_names import novel_names
from sar.encoding import encode_tokens
from sar.errors import DataError, WeightsError
from sar.toolbox.clip import tokenize
from sar.toolbox.clip.pocket import POCKET_FILE, RESOLUTION, load_pocket
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import build_dataset, build_transform
from sar.toolbox.data.datasets import demo

DATASETS = (
    *("DemoFood", "DemoLeisure", "DemoNature", "DemoObjects", "DemoOffice", "DemoScience"),
    "DemoTravel",
)


PAGE = Path(__file__).parents[1] / "docs" / "pocket-clip.md"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def config(root: Path, name: str, subsample: str = "all", seed: int = 1) -> CfgNode:
    cfg = get_cfg_default()
    cfg.VERBOSE = False
    cfg.SEED = seed
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(root), name
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS = subsample, 16
    cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION = (RESOLUTION, RESOLUTION), "bicubic"
    cfg.INPUT.PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073]
    cfg.INPUT.PIXEL_STD = [0.26862954, 0.26130258, 0.27577711]
    cfg.INPUT.TRANSFORMS = ("normalize",)
    return cfg


@pytest.mark.parametrize("name", DATASETS)
def test_names(name: str) -> None:
    classes = demo.class_names(name)
    assert 40 <= len(classes) <= 120
    assert classes == sorted(classes)
    assert len({c.lower() for c in classes}) == len(classes)
    half = (len(classes) + 1) // 2
    assert len(novel_names("shipped", name, classes[:half])) >= 70
    shipped = json.loads(
        (Path(demo.__file__).parents[3] / "classes" / "novel" / f"{name}.json").read_text()
    )
    assert shipped["base_classes"] == classes[:half]


@pytest.mark.parametrize("name", DATASETS)
def test_independent_drawings_by_different_sets(name: str) -> None:
    with zipfile.ZipFile(demo.ARCHIVES / f"{name}.zip") as archive:
        sources = json.loads(archive.read("sources.json"))
        assert set(sources) == {n for n in archive.namelist() if n.endswith(".webp")}
    sets: dict[str, set[str]] = {"pool": set(), "test": set()}
    drawn: dict[str, list[str]] = {}
    for path, source in sources.items():
        part, label, _ = path.split("/")
        if part in sets:
            sets[part].add(source.split(":")[0])
            drawn.setdefault(f"{part}/{label}", []).append(source)
    assert not sets["pool"] & sets["test"]
    assert len(drawn) == 2 * len(demo.class_names(name))
    assert all(8 <= len(set(found)) == len(found) <= 16 for found in drawn.values())
    text = (demo.ARCHIVES / "LICENSES.md").read_text()
    assert all(f"(`{prefix}`)" in text for group in sets.values() for prefix in group)


def test_licences_of_the_archives_are_named() -> None:
    """In the README how many files are under each; in LICENSES.md those of every set."""
    table = (demo.ARCHIVES / "LICENSES.md").read_text()
    found = re.findall(r"^\|.*\(`([^`]+)`\) \|.+\| ([\w.-]+) \|[^|]+\|$", table, re.MULTILINE)
    licence_of: dict[str, str] = dict(found)
    counts: Counter[str] = Counter()
    for name in DATASETS:
        with zipfile.ZipFile(demo.ARCHIVES / f"{name}.zip") as archive:
            sources = json.loads(archive.read("sources.json"))
        counts.update(licence_of[source.split(":")[0]] for source in sources.values())
    readme = (PAGE.parents[1] / "README.md").read_text()
    said = " ".join(readme.partition("\n## Licences\n")[2].split())
    assert f"of {counts.total():,} files" in said
    for licence, count in counts.items():
        assert f"{count:,} {licence}" in said
    assert set(licence_of.values()) == set(counts)
    project = (PAGE.parents[1] / "pyproject.toml").read_text()
    assert f'license = "MIT AND {" AND ".join(sorted(set(counts) - {"MIT"}))}"' in project


def test_base_and_new_halves(root: Path) -> None:
    dataset = build_dataset(config(root, "DemoFood", "base"))
    labels = [item.label for item in dataset.train_x]
    counts = {labels.count(label) for label in set(labels)}
    assert min(counts) >= 8
    assert max(counts) <= 16
    new = build_dataset(config(root, "DemoFood", "new"))
    assert not set(dataset.classnames) & set(new.classnames)
    assert dataset.classnames + new.classnames == demo.class_names("DemoFood")


@pytest.mark.parametrize("name", DATASETS)
def test_kin_stand_on_both_sides(name: str) -> None:
    order = demo.kin_order(name)
    assert sorted(order) == list(range(len(order)))
    base = set(order[: (len(order) + 1) // 2])
    with zipfile.ZipFile(demo.ARCHIVES / f"{name}.zip") as archive:
        described = json.loads(archive.read("classes.json"))
    for group in described["kin"]:
        inside = sum(described["classes"].index(member) in base for member in group)
        assert abs(2 * inside - len(group)) <= 1


def test_seed_draws_the_shots(root: Path) -> None:
    drawn = [
        [item.impath for item in build_dataset(config(root, "DemoFood", seed=seed)).train_x]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_shifted_styles_share_labels(root: Path) -> None:
    plain = build_dataset(config(root, "DemoFood"))
    shifted = build_dataset(config(root, "DemoFoodLine"))
    assert shifted.classnames == plain.classnames
    assert 0 < len(shifted.test) < len(plain.test)
    assert all(item.classname == plain.lab2cname[item.label] for item in shifted.test)


@pytest.mark.parametrize("name", DATASETS)
def test_sizes_of_the_shifted_styles(name: str) -> None:
    """Duotone is nearly empty; the page says so, with the sizes of all."""
    with zipfile.ZipFile(demo.ARCHIVES / f"{name}.zip") as archive:
        paths = [path.split("/")[:2] for path in archive.namelist() if path.endswith(".webp")]
    cells = []
    for style in demo.STYLES:
        labels = [label for part, label in paths if part == style]
        images, classes = len(labels), len(set(labels))
        least = (10, 8) if style == "duotone" else (150, 40)
        assert images >= least[0], style
        assert classes >= least[1], style
        cells.append(f"{images} of {classes}")
    assert f"| {name} | {' | '.join(cells)} |" in PAGE.read_text()


def _unpack(folder: str) -> str:
    return str(demo.render("DemoFood", "line", Path(folder)))


def test_processes_may_unpack_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        folders = set(pool.map(_unpack, [str(tmp_path)] * 4))
    assert folders == {str(tmp_path / "line")}
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["line"]
    again = demo.render("DemoFood", "line", tmp_path / "again")
    for image in sorted(again.glob("*/*.png"))[:5]:
        twin = tmp_path / "line" / image.relative_to(again)
        assert image.read_bytes() == twin.read_bytes()


@pytest.mark.parametrize("change", ["missing", "new", "shortened"])
def test_images_taken_away_added_or_damaged_are_rendered_again(tmp_path: Path, change: str) -> None:
    images = demo.render("DemoFood", "line", tmp_path)
    whole = {file: file.read_bytes() for file in images.glob("*/*.png")}
    first = min(whole)
    if change == "missing":
        first.unlink()
    elif change == "new":
        first.with_name("another.png").write_bytes(whole[first])
    else:
        first.write_bytes(whole[first][:-1])
    demo.render("DemoFood", "line", tmp_path)
    assert {file: file.read_bytes() for file in images.glob("*/*.png")} == whole


def test_another_version_of_the_archive_has_its_own_images_and_shots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = demo.demo_folder("DemoFood", tmp_path)
    (tmp_path / "DemoFood.zip").write_bytes((demo.ARCHIVES / "DemoFood.zip").read_bytes() + b"\0")
    monkeypatch.setattr(demo, "ARCHIVES", tmp_path)
    assert demo.demo_folder("DemoFood", tmp_path) != here


def test_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ARCHIVES", tmp_path)
    (tmp_path / "DemoFood.zip").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"DemoFood\.zip.*reinstall"):
        demo.class_names("DemoFood")
    with pytest.raises(DataError, match="reinstall"):
        demo.render("DemoFood", "pool", tmp_path / "out")
    assert not (tmp_path / "out" / "pool").exists()


def test_pocket_recognizes_an_unseen_style(root: Path) -> None:
    """Zero-shot on icon sets never seen is far above chance (below 3 %), text and images."""
    cfg = config(root, "DemoFood")
    dataset = build_dataset(cfg)
    model: Any = load_pocket()
    transform = build_transform(cfg, is_train=False)
    items = dataset.test
    with torch.no_grad():
        images = torch.stack([transform(Image.open(item.impath)) for item in items])
        image = F.normalize(model.encode_image(images), dim=-1)
        tokens = tokenize([f"a photo of a {name}." for name in dataset.classnames])
        text = F.normalize(encode_tokens(model, model.token_embedding, tokens), dim=-1)
        torch.testing.assert_close(text, F.normalize(model.encode_text(tokens), dim=-1))
    right = (image @ text.T).argmax(1) == torch.tensor([item.label for item in items])
    assert right.float().mean() > 0.45


def test_pocket_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model = load_pocket()
    assert torch.equal(torch.rand(2), expected)
    assert not model.training


def test_data_and_weights_are_small() -> None:
    """What is committed of them: 25 MB at most, archives, descriptions and weights together."""
    package = Path(sar.__file__).parent
    files = [*package.rglob("*.zip"), *package.rglob("*.safetensors")]
    files += [*(package / "classes" / "descriptions").glob("*"), *demo.ARCHIVES.glob("LICENSE*")]
    assert sum(file.stat().st_size for file in files) < 25e6


def test_pocket_in_half_precision() -> None:
    from sar.toolbox.clip.openai import model as clip_model

    model = load_pocket()
    image = torch.rand(2, 3, RESOLUTION, RESOLUTION)
    expected = F.normalize(model.encode_image(image), dim=-1)
    clip_model.convert_weights(model)
    assert model.dtype == torch.float16
    found = F.normalize(model.encode_image(image).float(), dim=-1)
    assert (found * expected).sum(-1).min() > 0.999


def test_wrong_pocket_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no pocket CLIP weights"):
        load_pocket(tmp_path / "none.safetensors")
    stored = load_file(POCKET_FILE)
    del stored["visual.proj"]
    save_file(stored, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match="does not hold pocket CLIP weights"):
        load_pocket(tmp_path / "short.safetensors")


def test_every_dataset_has_a_configuration() -> None:
    files = (Path(demo.__file__).parents[4] / "configs" / "datasets").glob("demo_*.yaml")
    named = {yaml.safe_load(file.read_text())["DATASET"]["NAME"] for file in files}
    assert named == {
        name + style
        for name in DATASETS
        for style in ("", "Kin", "Line", "Filled", "Duotone", "Colour")
    }
