"""`Classifier`: every method's logits are those of `sarclip train --eval-only`; classes change."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import shop
import torch
from PIL import Image
from torch import Tensor

from sar import Classifier
from sar.classes.identity import prompt_name
from sar.errors import ConfigError, DataError, WeightsError
from sar.toolbox.evaluation import Classification

BASE, NEW = ([prompt_name(name) for name in names] for names in (shop.BASE, shop.NEW))
ALL = [*BASE, *NEW]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_pictures(tmp_path_factory.mktemp("shop"))


class Trained(NamedTuple):
    trainer: str
    folder: Path
    root: Path

    def tested(self, folder: Path, subset: str) -> Tensor:
        """The logits of `sarclip train --eval-only` on the test pictures of a subset."""
        found: list[Tensor] = []
        process = Classification.process
        words = ("--eval-only", "--model-dir", str(self.folder), "--load-epoch", "2")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Classification,
                "process",
                lambda self, mo, gt: (found.append(mo.cpu()), process(self, mo, gt))[1],
            )
            subset_words = ("DATASET.SUBSAMPLE_CLASSES", subset)
            shop.train(self.root, folder, self.trainer, *words, *subset_words)
        return torch.cat(found)


@pytest.fixture(scope="module", params=shop.TRAINERS)
def trained(
    request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    return Trained(request.param, shop.train(pictures, folder, request.param), pictures)


def files_of(root: Path, names: tuple[str, ...]) -> list[Path]:
    return [file for name in names for file in sorted((root / "test" / name).iterdir())]


def test_logits_are_those_of_an_evaluation(trained: Trained, tmp_path: Path) -> None:
    """Bit for bit: of the base classes and of all; with classes added and removed."""
    state = torch.get_rng_state()
    classifier = Classifier.load(trained.folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert classifier.method == trained.trainer
    assert list(classifier.classes) == BASE
    for subset, names in (("base", BASE), ("all", ALL)):
        classifier.set_classes(names)
        expected = trained.tested(tmp_path / subset, subset)
        found = classifier.logits(files_of(trained.root, (*shop.BASE, *shop.NEW)[: len(names)]))
        assert found.shape == (3 * len(names), len(names))
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected), subset
    classifier.set_classes(BASE)
    classifier.add_classes(shop.NEW)
    files = files_of(trained.root, (*shop.BASE, *shop.NEW))
    assert torch.equal(classifier.logits(files), expected)
    assert (list(classifier.base_classes), list(classifier.new_classes)) == (BASE, list(shop.NEW))
    classifier.remove_classes(["red_apple", "yellow_lemon"])
    assert classifier.classes == ("cup", "forget-me-not", "shoe")
    assert torch.allclose(classifier.logits(files), expected[:, [1, 2, 4]], atol=1e-4)


def test_class_features_are_those_that_logits_come_from(trained: Trained) -> None:
    classifier = Classifier.load(trained.folder)
    files = files_of(trained.root, shop.BASE)
    logits = classifier.logits(files)
    if trained.trainer.endswith(("CoCoOp", "AAPE")):
        with pytest.raises(ConfigError, match="depend on the picture"):
            classifier.class_features()
        features = classifier.class_features(files)
        assert features.shape[:2] == (len(files), len(BASE))
        assert not torch.allclose(features[0], features[1])
    else:
        features = classifier.class_features()
        assert features.shape == (len(BASE), 192)
    assert torch.allclose(features.norm(dim=-1), torch.ones(()), atol=1e-5)
    trainer = classifier._trainer
    if trainer.text_only:
        images = torch.stack([classifier.transform(Image.open(file)) for file in files])
        with torch.no_grad():
            encoded = trainer.model.encode_images(images)
            scale = trainer.model.logit_scale.exp()
        cosines = (features * encoded.unsqueeze(1)).sum(dim=-1)
        assert torch.allclose(scale * cosines, logits, atol=1e-3)
    assert torch.equal(classifier.logits(files), logits)


@pytest.fixture(scope="module")
def coop(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.train(pictures, tmp_path_factory.mktemp("CoOp"), "CoOp")


def test_pictures_in_any_form(coop: Path, pictures: Path) -> None:
    classifier = Classifier.load(coop)
    files = files_of(pictures, shop.BASE)
    images = [Image.open(file) for file in files]
    expected = classifier.logits(files)
    folders = [pictures / "test" / name for name in shop.BASE]
    batch = torch.stack([classifier.transform(image.convert("RGB")) for image in images])
    for given in ([str(file) for file in files], folders, images, batch):
        assert torch.equal(classifier.logits(given), expected)
    assert torch.equal(classifier.logits(files[0], 1), classifier.logits([images[0]], 1))
    assert len(classifier.logits(pictures)) == 5 * (2 + 3)
    assert classifier.logits([]).shape == (0, 3)
    assert classifier.predict([]) == []

    ranked = classifier.predict(files, top=2)
    chances = expected.softmax(dim=1)
    for row, guesses in zip(chances, ranked, strict=True):
        assert [guess.probability for guess in guesses] == row.sort(descending=True).values[
            :2
        ].tolist()
        assert guesses[0].name == BASE[int(row.argmax())]
    assert [len(guesses) for guesses in classifier.predict(files[:2])] == [3, 3]


def test_wrong_pictures(coop: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(coop)
    with pytest.raises(DataError, match="there is no picture or folder nowhere"):
        classifier.predict("nowhere")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"cannot read image .*broken\.png"):
        classifier.predict(tmp_path)
    with pytest.raises(DataError, match=r"expected \(N, 3, 40, 40\), as"):
        classifier.logits(torch.zeros(2, 3, 32, 32))
    (tmp_path / "broken.png").rename(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="holds no pictures"):
        classifier.predict(tmp_path)


def test_wrong_classes_change_nothing(coop: Path) -> None:
    classifier = Classifier.load(coop)
    for change, given, message in (
        (classifier.add_classes, ["cup"], "'cup' is there twice"),
        (classifier.add_classes, ["red apple"], "'red apple' is there twice"),
        (classifier.add_classes, [" "], "names that say something"),
        (classifier.add_classes, ["word " * 80], "CLIP takes 77 tokens"),
        (classifier.remove_classes, ["shoe"], "no class 'shoe'; the classes are red apple, cup"),
        (classifier.remove_classes, BASE, "at least one class"),
        (classifier.set_classes, "cup", "expected a list of names"),
        (classifier.add_classes, ["Cup"], "are one class to CLIP"),
        (classifier.set_classes, ["shoe", "Shoe"], "are one class to CLIP"),
    ):
        with pytest.raises(ConfigError, match=message):
            change(given)
        assert list(classifier.classes) == BASE


def test_class_specific_contexts(pictures: Path, tmp_path: Path) -> None:
    words = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "")
    classifier = Classifier.load(shop.train(pictures, tmp_path, "CoOp", *words))
    logits = classifier.logits(pictures)
    with pytest.raises(ConfigError, match="'shoe' cannot be added: each class has a context"):
        classifier.add_classes(["shoe"])
    classifier.set_classes([BASE[2], BASE[0]])
    assert torch.allclose(classifier.logits(pictures), logits[:, [2, 0]], atol=1e-4)


def test_zero_shot_is_the_toolbox_own(pictures: Path, tmp_path: Path) -> None:
    classifier = Classifier.zero_shot("pocket", BASE)
    assert classifier.base_classes == ()
    run = Trained("ZeroshotCLIP", tmp_path, pictures)
    files = files_of(pictures, shop.BASE)
    assert torch.equal(classifier.logits(files, 4), run.tested(tmp_path, "base"))
    features = classifier.class_features()
    classifier.add_classes(NEW)
    assert torch.allclose(classifier.class_features()[:3], features, atol=1e-6)
    other = Classifier.zero_shot("pocket", BASE, "a drawing of a {}, in ink.")
    assert not torch.allclose(other.class_features(), features, atol=1e-2)
    with pytest.raises(ConfigError, match=r"expected one \{\} in it"):
        Classifier.zero_shot("pocket", BASE, "a photo")
    with pytest.raises(ConfigError, match="expected one of pocket"):
        Classifier.zero_shot("packet", BASE)


def test_it_needs_no_pictures_of_the_training(tmp_path: Path) -> None:
    root = shop.write_pictures(tmp_path / "shop")
    folder = shop.train(root, tmp_path / "run", "MaPLe")
    file = Image.open(root / "test" / "cup" / "0.png").copy()
    expected = Classifier.load(folder).logits(file)
    root.rename(tmp_path / "gone")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert torch.equal(Classifier.load(tmp_path / "moved").logits(file), expected)


def test_folders_without_a_training(tmp_path: Path, coop: Path) -> None:
    with pytest.raises(WeightsError, match="no trained prompt in"):
        Classifier.load(tmp_path)
    with pytest.raises(WeightsError, match=r"no trained prompt in .*, such as /"):
        Classifier.load(coop.parent)
    with pytest.raises(WeightsError, match=r"no checkpoint at .*tar-7"):
        Classifier.load(coop, epoch=7)


def test_another_clip_is_refused(tmp_path: Path, coop: Path) -> None:
    from safetensors.torch import load_file, save_file

    from sar.toolbox.clip.pocket import POCKET_FILE, load_pocket

    assert POCKET_FILE.is_file()
    state = {name: value.clone() for name, value in load_pocket().state_dict().items()}
    state["text_projection"] += 1
    save_file(state, tmp_path / "other.safetensors")
    assert load_file(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError):
        Classifier.load(coop, clip=str(tmp_path / "other.safetensors"))


def test_importing_sar_imports_no_torch() -> None:
    code = "import sys, sar; sys.exit('torch' in sys.modules or not hasattr(sar, '__version__'))"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError, match="Classifer"):
        exec("from sar import Classifer")
