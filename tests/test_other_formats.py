"""A classifier for other programs: ONNX, open_clip's zero-shot matrix; pushed to a hub and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import shop
import torch
from hub_server import serve
from safetensors import safe_open

from sar import Classifier, cli
from sar.classifier.predictor import UNKNOWN
from sar.errors import ConfigError, DataError, WeightsError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def sarclip(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, words)))
    return int(str(end.value.code or 0))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module", params=["CoOp", "SAR_MaPLe"])
def run(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return shop.train(root, tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.slow
def test_onnx_gives_the_same_logits(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any number of pictures, of added classes, too; what it takes is in its metadata."""
    file, test = tmp_path / "shop.onnx", root / "test"
    words = ("--onnx", "--pictures", test, "--add", "shoe")
    assert sarclip("export", run, "--to", file, *words) == 0
    assert "onnxruntime gives the same logits, within" in capsys.readouterr().out
    classifier = Classifier.load(run)
    classifier.add_classes(["shoe"])
    session = onnxruntime.InferenceSession(file)
    said = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert said["names"] == list(classifier.classes)
    assert tuple(said["size"]) == tuple(classifier.recipe.cfg.INPUT.SIZE)
    assert (said["method"], said["clip"]) == (classifier.method, "pocket")
    images = torch.cat(list(classifier.batches(test)))
    for some in (images, images[:1]):
        (found,) = session.run(["logits"], {"pictures": some.numpy()})
        np.testing.assert_allclose(found, classifier.logits(some).numpy(), atol=1e-3)
    assert sarclip("export", run, "--to", file, *words) == 1
    assert sarclip("export", run, "--to", tmp_path / "other.onnx", "--onnx") == 2


def test_the_zero_shot_matrix(run: Path, root: Path, tmp_path: Path) -> None:
    """What open_clip's zero-shot code multiplies gives the classifier's logits."""
    file, classifier = tmp_path / "shop.safetensors", Classifier.load(run)
    words = ("export", run, "--to", file, "--format", "open_clip")
    if classifier.prompts_images:
        assert sarclip(*words) == 1
        assert not file.exists()
        return
    assert sarclip(*words) == 0
    with safe_open(file, "pt") as saved:
        weights = saved.get_tensor("zeroshot_weights")
        said = {key: json.loads(value) for key, value in saved.metadata().items()}
    assert said["names"] == list(classifier.classes)
    assert weights.shape[1] == len(said["names"])
    from sar.toolbox.clip import load_clip

    images = torch.cat(list(classifier.batches(root / "test")))
    with torch.no_grad():
        features = load_clip(said["clip"]).model.encode_image(images)
    features /= features.norm(dim=-1, keepdim=True)
    ours = said["logit_scale"] * features @ weights
    torch.testing.assert_close(ours, classifier.logits(images), atol=1e-3, rtol=0)


def test_the_matrix_has_what_was_fitted(root: Path) -> None:
    """Negative labels in a matrix of their own: another program tells the same as unknown."""
    from sar.classifier.zero_shot_weights import zero_shot_weights

    classifier = Classifier.zero_shot("pocket", ["cup", "shoe"])
    images = torch.cat(list(classifier.batches(root / "test")))
    classifier.calibrate(images, torch.arange(len(images)) % 2)
    classifier.know_unknown(images[:6], ["mule", "zebra", "kite"], keep=0.5)
    file = root / "matrix.safetensors"
    file.write_bytes(zero_shot_weights(classifier))
    with safe_open(file, "pt") as saved:
        plain, negative = (
            saved.get_tensor(key) for key in ("zeroshot_weights", "negative_weights")
        )
        said = {key: json.loads(value) for key, value in saved.metadata().items()}
    assert said["negatives"] == ["mule", "zebra", "kite"]
    from sar.toolbox.clip import load_clip

    with torch.no_grad():
        features = load_clip(said["clip"]).model.encode_image(images)
    features /= features.norm(dim=-1, keepdim=True)
    logits = said["logit_scale"] * features @ torch.cat([plain, negative], dim=1)
    known = logits.softmax(dim=1)[:, :2].sum(dim=1)
    expected = classifier.output_of_batch(images)
    told = [guesses[0].name == UNKNOWN for guesses in classifier.guesses(expected)]
    sure = abs(known - said["threshold"]) > 1e-5
    assert 0 < sum(told) < len(told)
    assert ((known < said["threshold"]) == torch.tensor(told))[sure].all()
    torch.testing.assert_close(
        (logits[:, :2] / said["temperature"]).softmax(dim=1),
        classifier.probabilities(expected),
        atol=1e-4,
        rtol=0,
    )


def test_prompts_that_depend_on_the_picture_are_refused(root: Path, tmp_path: Path) -> None:
    from sar.classifier.onnx_file import onnx_bytes
    from sar.classifier.zero_shot_weights import zero_shot_weights

    classifier = Classifier.load(shop.train(root, tmp_path / "run", "CoCoOp"))
    with pytest.raises(ConfigError, match="depend on the picture"):
        onnx_bytes(classifier, root / "test")
    with pytest.raises(ConfigError, match="depend on the picture"):
        zero_shot_weights(classifier)


@pytest.mark.slow
def test_onnx_tells_what_is_unknown(root: Path, tmp_path: Path) -> None:
    """By a second output and a threshold; the first one is that of the classes alone."""
    from sar.classifier.onnx_file import onnx_bytes

    classifier = Classifier.zero_shot("pocket", ["cup", "shoe"])
    images = torch.cat(list(classifier.batches(root / "test")))
    least = classifier.know_unknown(images[:6], ["mule", "zebra", "kite"], keep=0.5)
    content, parity = onnx_bytes(classifier, images)
    assert parity.known is not None
    assert "the same share of the classes beside negative labels, within" in str(parity)
    session = onnxruntime.InferenceSession(content)
    said = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert (said["threshold"], said["negatives"]) == (least, ["mule", "zebra", "kite"])
    logits, known = session.run(["logits", "known"], {"pictures": images.numpy()})
    output = classifier.output_of_batch(images)
    assert logits.shape == (len(images), 2)
    np.testing.assert_allclose(logits, output[:, :2].numpy(), atol=1e-3)
    share = output.double().softmax(dim=1)[:, :2].sum(dim=1).numpy()
    np.testing.assert_allclose(known, share, atol=1e-5)
    told = [guesses[0].name == UNKNOWN for guesses in classifier.guesses(output)]
    sure = abs(share - least) > 1e-5
    assert 0 < sum(told) < len(told)
    assert ((known < said["threshold"]) == told)[sure].all()


def test_onnx_is_checked_with_pictures(root: Path) -> None:
    from sar.classifier.onnx_file import onnx_bytes

    with pytest.raises(ConfigError, match="no pictures to check"):
        onnx_bytes(Classifier.zero_shot("pocket", ["cup", "shoe"]), [])


def test_a_classifier_on_a_hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushed over HTTP to a server that answers as the hub does, and read back from there."""
    constants = pytest.importorskip("huggingface_hub.constants")
    classifier = Classifier.zero_shot("pocket", ["cup", "shoe"])
    with serve({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        url = classifier.push_to_hub("me/shop", token="hf_none")
        assert url.startswith(f"{hub.url}/me/shop")
        names = {name.rpartition("/")[2] for name in hub.files if "/resolve/main/" in name}
        assert names == {"README.md", "config.json", "classifier.safetensors"}
        card = hub.files["me/shop/resolve/main/README.md"].decode()
        assert card.startswith("---\nlibrary_name: sarclip")
        again = Classifier.from_pretrained("me/shop", token=False, cache_dir=tmp_path / "cache")
        pictures = root / "test" / "cup"
        assert again.classes == ("cup", "shoe")
        assert torch.equal(again.logits(pictures), classifier.logits(pictures))
        with pytest.raises(WeightsError, match="cannot read me/other from the hub"):
            Classifier.from_pretrained("me/other", token=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot write me/shop to the hub"):
        classifier.push_to_hub("me/shop", token="hf_none")
