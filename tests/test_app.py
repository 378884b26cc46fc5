"""`sarclip app`: what its page shows, over its own interface and in a browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shop
import torch
from browser import CHROMIUM, browser

from sar import Classifier
from sar.classifier.predictor import Guess
from sar.classifier.showing import (
    MOST_PICTURES,
    Answer,
    Pictures,
    answers,
    bars,
    caption,
    counted,
    read_pictures,
    relations,
    relations_follow_pictures,
    variants,
    verdict,
)
from sar.errors import ConfigError

others_warn = pytest.mark.filterwarnings("default")  # gradio's parts do, of each other
NAMES = ("cup", "shoe", "yellow lemon", "red apple")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def classifier(root: Path) -> Classifier:
    """Knows a picture of none of its classes, too."""
    found = Classifier.zero_shot("pocket", NAMES)
    found.know_unknown(root / "test" / "cup", ["mule", "zebra"])
    return found


@pytest.fixture(scope="module")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    broken = tmp_path_factory.mktemp("upload") / "broken_one.png"
    broken.write_bytes(b"no picture")
    return [str(root / "test" / "cup" / "0.png"), str(broken), str(root / "test/shoe/1.png")]


def test_pictures_are_read_and_what_is_none_is_one_line(
    classifier: Classifier, files: list[str]
) -> None:
    found = read_pictures(classifier, files)
    assert found.names == ("0.png", "1.png")
    assert found.problems == ("broken_one.png cannot be read as a picture",)
    assert found.images is not None
    assert torch.equal(found.images, torch.cat(list(classifier.batches(files[::2]))))
    many = read_pictures(classifier, files[:1] * (MOST_PICTURES + 1))
    assert len(many.names) == MOST_PICTURES
    assert "33 pictures, of which the first 32" in many.problems[0]


def test_answers_are_those_of_predict(classifier: Classifier, files: list[str]) -> None:
    pictures = read_pictures(classifier, files)
    for least, rejected in ((0.0, False), (2.0, True)):
        other = variants(classifier)(NAMES)
        other.recipe = replace(other.recipe, threshold=least)
        found = answers(other, pictures, 2)
        plain = other.guesses(other.logits(files[::2]), 2)
        assert [answer.guesses for answer in found] == plain
        assert [answer.rejected for answer in found] == [rejected] * 2
        said = [guesses[0] for guesses in other.predict(files[::2])]
        if rejected:
            assert [g.probability for g in said] == [answer.unknown for answer in found]
        else:
            assert [guess.name for guess in said] == [answer.guesses[0].name for answer in found]
    assert answers(classifier, Pictures(), 2) == []
    assert answers(Classifier.zero_shot("pocket", NAMES), pictures, 9)[0].unknown is None


def test_a_variant_leaves_the_classifier_as_it_is(classifier: Classifier, root: Path) -> None:
    before = classifier.logits(root / "test")
    variant = variants(classifier)
    other = variant(("cup", "mug"))
    assert other.classes == ("cup", "mug")
    assert other is variant(("cup", "mug"))
    assert other.recipe.negatives == classifier.recipe.negatives
    assert classifier.classes == NAMES
    assert torch.equal(classifier.logits(root / "test"), before)
    fresh = Classifier.zero_shot("pocket", ["cup", "mug"])
    found, expected = (one.logits(root / "test") for one in (other, fresh))
    assert torch.allclose(found, expected, atol=1e-4)  # beside negative labels, in other batches
    for names, message in (((), "at least one class"), (("cup", "cup"), "is there twice")):
        with pytest.raises(ConfigError, match=message):
            variant(names)


def test_relations_are_those_of_the_classes(classifier: Classifier) -> None:
    features = classifier.class_features()
    figure = relations(classifier, features, Pictures())
    titles = "\n".join(axis.get_title() for axis in figure.axes)
    assert "correlation with hand-crafted 1.00" in titles  # nothing was trained
    assert "0% have another nearest class" in titles
    assert not relations_follow_pictures(classifier)
    two = variants(classifier)(NAMES[:2])
    with pytest.raises(ConfigError, match="3 classes or more"):
        relations(two, features[:2], Pictures())


@pytest.mark.slow
def test_relations_of_prompts_that_depend_on_the_picture(root: Path, tmp_path: Path) -> None:
    folder = shop.train(root, tmp_path / "run", "CoCoOp", "OPTIM.MAX_EPOCH", "1")
    classifier = Classifier.load(folder)
    classifier.know_unknown(root / "test" / "cup", ["mule", "zebra"])
    plain = Classifier.zero_shot("pocket", classifier.classes).class_features()
    assert relations_follow_pictures(classifier)
    with pytest.raises(ConfigError, match="depend on the picture"):
        relations(classifier, plain, Pictures())
    pictures = read_pictures(classifier, [str(root / "test" / "cup" / "0.png")])
    assert pictures.images is not None
    assert classifier.class_features(pictures.images).shape[:2] == (1, 3)  # without negatives
    figure = relations(classifier, plain, pictures)
    assert "CoCoOp" in "\n".join(axis.get_title() for axis in figure.axes)


def test_what_is_said_of_an_answer(classifier: Classifier) -> None:
    guesses = [Guess("red_fox", 0.75), Guess("cup", 0.25)]
    plain = Answer(guesses, None, False)
    assert caption(plain) == "red_fox: 75%"
    assert verdict(plain, classifier.recipe) == r"### red\_fox: 75.0%"
    assert bars(plain) == {"red_fox": 0.75, "cup": 0.25}
    known, unknown = Answer(guesses, 0.25, False), Answer(guesses, 0.5, True)
    limit = f"from {1 - classifier.recipe.threshold:.1%} on, a picture is unknown"
    said = verdict(known, classifier.recipe)
    assert said.startswith("### red\\_fox: 75.0%\n25.0% of the probability")
    assert said.endswith(f"{limit}.")
    assert caption(unknown) == "I don't know"
    calibrated = {**classifier.recipe.fitted_with, "temperature": classifier.classes}
    recipe = replace(classifier.recipe, fitted_with=calibrated).with_classes(
        NAMES[:2], False, classifier.recipe.negatives
    )
    said = verdict(unknown, recipe)
    assert said.startswith("### I don't know\n50.0%")
    assert f"{limit}; that limit is of other classes.\nThe temperature of the" in said
    assert counted(classifier) == "4 classes: 0 trained, 4 by name alone"


def page_module() -> Any:
    pytest.importorskip("gradio")
    from sar.classifier import page

    return page


@contextmanager
def served(classifier: Classifier) -> Iterator[str]:
    """The address of the page, served by a thread."""
    import uvicorn

    page = page_module()
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = uvicorn.Config(
            page.application(classifier), log_level="warning", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@others_warn
@pytest.mark.slow
def test_two_pages_have_their_own_classes(classifier: Classifier, files: list[str]) -> None:
    page_module()
    from gradio_client import Client, handle_file

    with served(classifier) as url:
        one, other = (Client(url, verbose=False) for _ in range(2))
        state = one.predict("cup\n mug \n\nplate", api_name="/edit")[0]
        assert state == "3 classes: 0 trained, 3 by name alone"
        for client, names in ((one, {"cup", "mug", "plate"}), (other, set(NAMES))):
            found = client.predict([handle_file(file) for file in files], api_name="/look")
            problems, gallery, verdict, label = found
            assert problems == r"broken\_one.png cannot be read as a picture".replace(".", r"\.")
            assert len(gallery["value"] if isinstance(gallery, dict) else gallery) == 2
            assert verdict.startswith("### ")
            assert {one["label"] for one in label["confidences"]} == names
        said = other.predict("cup\ncup", api_name="/edit")[0]
        assert "is there twice" in said
        assert "Until then: 4 classes" in said
        assert other.predict(api_name="/relate")[0]["type"] == "matplotlib"


@others_warn
@pytest.mark.slow
def test_answers_forbid_what_comes_from_elsewhere(classifier: Classifier) -> None:
    page = page_module()
    from starlette.testclient import TestClient

    with TestClient(page.application(classifier)) as client:
        answer = client.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == page.POLICY
        assert "https://" not in page.POLICY
        config = client.get("/config").json()
        assert config["analytics_enabled"] is False
        assert [component["type"] for component in config["components"]].count("label") == 1
        assert client.get("/gradio_api/file=/etc/hostname").status_code in (403, 404)


@others_warn
@pytest.mark.slow
def test_a_port_that_is_taken(classifier: Classifier) -> None:
    page = page_module()
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"port {port} of 127.0.0.1 cannot be opened .*--port"
        ):
            page.serve(classifier, "127.0.0.1", port)


@others_warn
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no browser: needs chromium or google-chrome on PATH")
def test_the_command_in_a_browser(root: Path, files: list[str], tmp_path: Path) -> None:
    page_module()
    run = shop.train(root, tmp_path / "run", "SAR_CoOp")
    command = [sys.executable, "-m", "sar", "app", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        says = r"SAR_CoOp on pocket, 3 classes>: (http://127\.0\.0\.1:\d+)"
        found = next(filter(None, (re.search(says, line) for line in process.stdout)))
        _use(found[1], files, tmp_path)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


def _use(url: str, files: list[str], folder: Path) -> None:
    classes, verdict = '"#classes textarea"', '"#verdict h3"'
    text = "document.querySelector({})?.innerText"
    image = "document.querySelector('#relations img')?.src"
    with browser(folder / "one") as page, browser(folder / "two") as other:
        for tab, width in ((page, 390), (other, 1280)):
            tab.open(url, width)
            tab.until(f"document.querySelector({classes})?.value.startsWith('red apple')")
            tab.until(image)
            tab.upload('input[type="file"]', [Path(file) for file in files])
            tab.until(text.format(verdict))
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert "broken_one.png cannot be read" in page.evaluate(text.format('"#problems"'))
        captions = "document.querySelectorAll('#pictures .caption-label').length"
        assert page.evaluate(captions) == 2
        before = page.evaluate(image)
        page.write("#classes textarea", "a mule\na zebra\na kite\na boat")
        page.until(f"{text.format(verdict)}?.startsWith('a ')")
        assert "4 classes: 0 trained, 4 by name alone" in page.evaluate(text.format('"#state"'))
        page.until(f"{image} != {before!r}")
        assert "3 classes" in other.evaluate(text.format('"#state"'))
        assert not other.evaluate(text.format(verdict)).startswith("a ")
        page.screenshot(folder / "app.png")
        for tab in (page, other):
            outside = [u for u in tab.requests() if not u.startswith((url, "data:", "blob:"))]
            assert outside == []
            assert [said for said in tab.complaints() if '"error"' in said] == []
