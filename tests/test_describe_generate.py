"""`sarclip describe generate`: what it asks, keeps and continues.

The client, the file and the loop are those of `sarclip novel generate` (test_novel_generate.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Behaviour, ChatServer, completion, error, rejects, says, serving

from sar import cli
from sar.asking.endpoint import Endpoint
from sar.asking.loop import ask
from sar.asking.order import Order
from sar.classes.descriptions import load_descriptions, of_every, read_descriptions
from sar.describe.generate import DescriptionFile
from sar.errors import SARError

BASE = ["abyssinian", "american_bulldog", "Basset Hound"]
NEW = ["persian", "crane (bird)"]


def shown(request: dict[str, Any]) -> list[str]:
    return re.findall("^- (.*)$", request["messages"][-1]["content"], re.MULTILINE)


def good(request: dict[str, Any]) -> Any:
    """As many sentences as are asked for, decided by the seed."""
    found = re.search(r"Write (\d+) different", request["messages"][-1]["content"])
    assert found
    numbers = range(int(found.group(1)))
    described = [
        {
            "name": name.upper(),
            "sentences": [f"A {name} no. {request['seed']} {i}." for i in numbers],
        }
        for name in shown(request)
    ]
    return completion(json.dumps({"descriptions": described}))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789abcdef")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with serving() as server:
        server.always = good
        yield server


def generated(server: ChatServer, folder: Path, **settings: Any) -> tuple[dict[str, Any], str]:
    """The file afterwards, and the error, if any."""
    defaults: dict[str, Any] = {"dataset": "Mine", "groups": [BASE, NEW], "count": 3, "portion": 2}
    order = Order(output=folder / "Mine.json", **(defaults | settings))
    problem = ""
    try:
        file = DescriptionFile(order, "tiny")
        ask(file, Endpoint("tiny", server.url, 10, 0), lambda line, kept: None)
    except SARError as caught:
        problem = str(caught)
        assert "\n" not in problem
    return json.loads(order.output.read_text()) if order.output.exists() else {}, problem


def test_classes_are_described_portion_by_portion(server: ChatServer, tmp_path: Path) -> None:
    content, problem = generated(server, tmp_path)
    assert not problem
    assert content["complete"]
    assert [shown(request) for request in server.requests] == [
        ["abyssinian"],
        ["american bulldog", "Basset Hound"],
        ["persian", "crane (bird)"],  # base and new classes are never shown together
    ]
    texts = [request["messages"][-1]["content"] for request in server.requests]
    assert not any("Mine" in text for text in texts)
    assert list(content["descriptions"]) == content["classes"] == BASE + NEW
    assert content["requests"][1] | {"problems": []} == content["requests"][1]
    assert content["requests"][1]["asked"] == content["requests"][1]["kept"] == 6
    schema = server.requests[0]["response_format"]["json_schema"]
    assert schema["strict"]
    assert schema["schema"]["additionalProperties"] is False
    found = of_every([*NEW, *BASE], *load_descriptions(str(tmp_path / "Mine.json"), "Mine"))
    assert found[0] == content["descriptions"]["persian"]
    assert all(len(set(sentences)) == 3 for sentences in found)


def test_only_fitting_sentences_of_classes_asked_for_are_kept(
    server: ChatServer, tmp_path: Path
) -> None:
    sentences = ["A cat,  with fur.", "a CAT with fur!", " ", "?", "big " * 80, "Green eyes."]
    described = [
        {"name": "Abyssinians", "sentences": sentences},
        {"name": "siamese", "sentences": ["A cat."]},
    ]
    server.script = [says(json.dumps({"descriptions": described}))]
    content, problem = generated(server, tmp_path, groups=[["abyssinian"]])
    assert not problem
    first, second = content["requests"]
    assert (first["asked"], first["answered"], first["kept"]) == (3, 7, 2)
    assert content["descriptions"]["abyssinian"][:2] == ["A cat, with fur.", "Green eyes."]
    assert second["asked"] == 1  # what is missing, and not what is there
    assert '["A cat, with fur.", "Green eyes."]' in server.requests[1]["messages"][-1]["content"]


UNUSABLE: dict[str, tuple[Behaviour, str]] = {
    "not JSON": (says("Sure! A cat is small."), "malformed"),
    "no list": (says('{"descriptions": {"abyssinian": ["a"]}}'), "off the schema"),
    "another key": (
        says('{"descriptions": [{"class": "abyssinian", "sentences": ["a"]}]}'),
        "off the schema",
    ),
    "empty list": (says('{"descriptions": []}'), "an empty list of descriptions"),
    "refused": (says(None, refusal="No."), "refused"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_answers_are_asked_again(server: ChatServer, tmp_path: Path, case: str) -> None:
    behaviour, word = UNUSABLE[case]
    server.script = [behaviour]
    content, problem = generated(server, tmp_path)
    assert not problem
    assert content["complete"]
    assert word in content["requests"][0]["problems"][0]


def test_after_an_answer_that_was_cut_off_half_as_much_is_asked(
    server: ChatServer, tmp_path: Path
) -> None:
    server.script = [says("{", "length")] * 2
    content, problem = generated(server, tmp_path, groups=[BASE], portion=3, count=4)
    assert not problem
    assert [len(shown(request)) for request in server.requests] == [3, 1, 1, 3]
    assert [request["asked"] for request in content["requests"]] == [2, 12]
    assert {len(sentences) for sentences in content["descriptions"].values()} == {4}


def test_a_portion_that_brings_nothing_does_not_stop_the_others(
    server: ChatServer, tmp_path: Path
) -> None:
    def refusing(request: dict[str, Any]) -> Any:
        return completion(None, refusal="No.") if shown(request) == ["a"] else good(request)

    server.always = refusing
    content, problem = generated(server, tmp_path, groups=[["a", "b", "c"]], portion=1, rounds=2)
    assert set(content["descriptions"]) == {"b", "c"}
    assert "6 of 9 descriptions are in" in problem
    assert "refused" in problem


def test_an_interrupted_work_goes_on(server: ChatServer, tmp_path: Path) -> None:
    whole, _ = generated(server, tmp_path)
    (tmp_path / "Mine.json").unlink()
    server.script = [good, error(401)]
    part, problem = generated(server, tmp_path)
    assert "3 of 15 descriptions are in" in problem
    assert not part["complete"]
    assert generated(server, tmp_path) == (whole, "")
    sent = len(server.requests)
    more, problem = generated(server, tmp_path, count=4)
    assert not problem
    assert len(server.requests) == sent + 3
    assert {len(sentences) for sentences in more["descriptions"].values()} == {4}
    assert more["descriptions"]["persian"][:3] == whole["descriptions"]["persian"]
    _, problem = generated(server, tmp_path, groups=[BASE])
    assert "another classes" in problem


def test_endpoints_without_structured_output(server: ChatServer, tmp_path: Path) -> None:
    def plain(request: dict[str, Any]) -> Any:
        given = rejects("response_format")(request) if "response_format" in request else None
        return given or good(request)

    server.always = plain
    content, problem = generated(server, tmp_path)
    assert not problem
    assert not content["requests"][0]["structured"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "classes.yaml",
            "base: [owl, beagle]\nnew: [samoyed]\nnovel: [siamese]\n",
            [["owl", "beagle"], ["samoyed"], ["siamese"]],
        ),
        (
            "novel.json",
            '{"base_classes": ["owl"], "names": ["siamese", "Owls", "manx"]}',
            [["owl"], ["siamese", "manx"]],
        ),
        ("mine.txt", "owl\n\nbeagle\n", [["owl", "beagle"]]),
    ],
)
def test_the_command(server, tmp_path, monkeypatch, capsys, name, text, expected) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    options = ["--classes", name, "--model", "tiny", "--base-url", server.url, "--count", "2"]
    with pytest.raises(SystemExit) as done:
        cli.main(["describe", "generate", *options])
    assert done.value.code == 0, capsys.readouterr().err
    assert [shown(request) for request in server.requests] == expected
    file = f"descriptions/{Path(name).stem}.json"
    number = sum(map(len, expected))
    assert f"{2 * number} of {2 * number} descriptions are in {file}" in capsys.readouterr().out
    assert len(read_descriptions(file)) == number


def test_dry_run_needs_neither_key_nor_endpoint(monkeypatch, capsys) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SystemExit) as done:
        cli.main(["describe", "generate", "--dataset", "DemoFood", "--dry-run"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert "- apple\n" in printed
    assert "DemoFood" not in printed
    assert "for 5 descriptions of each of 43 classes" in printed
