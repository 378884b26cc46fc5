"""`sarclip novel generate` against a real HTTP server that misbehaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import (
    Behaviour,
    ChatServer,
    asked,
    completion,
    error,
    good,
    late,
    parts_of,
    rejects,
    says,
    serving,
)
from hypothesis import given
from hypothesis import strategies as st

from sar import cli
from sar.asking.endpoint import Endpoint
from sar.asking.loop import ask
from sar.asking.order import Order, portions
from sar.classes.novel_names import novel_names
from sar.errors import SARError
from sar.novel.generate import Names, NovelFile
from sar.novel.question import MOST, estimate, number_to_ask, quota

ROOT = Path(__file__).parent.parent
BASE = ["abyssinian", "american_bulldog", "Basset Hound", "persian", "crane (bird)"]
KEY = "sk-secret-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def generated(
    server: ChatServer, folder: Path, timeout: float = 10, retries: int = 2, **settings: Any
) -> tuple[dict[str, Any], str]:
    """The file afterwards, and the error, if any."""
    defaults: dict[str, Any] = {"dataset": "Mine", "groups": [BASE], "count": 6, "portion": 3}
    order = Order(output=folder / "Mine.json", **(defaults | settings))
    problem = ""
    try:
        ask(
            NovelFile(order, "tiny"),
            Endpoint("tiny", server.url, timeout, retries),
            lambda line, kept: None,
        )
    except SARError as error:
        problem = str(error)
        assert "\n" not in problem
    content = json.loads(order.output.read_text()) if order.output.exists() else {}
    assert [path.name for path in folder.iterdir()] in ([], ["Mine.json"])  # nothing half written
    assert KEY not in json.dumps(content) + problem
    return content, problem


def test_names_are_asked_portion_by_portion_and_recorded(
    server: ChatServer, tmp_path: Path
) -> None:
    content, problem = generated(server, tmp_path)
    assert not problem
    assert content["complete"]
    assert len(content["names"]) == len(set(content["names"])) == content["wanted"] == 6
    assert content["base_classes"] == BASE
    assert [request["seed"] for request in content["requests"]] == [1, 2]
    assert [request["seed"] for request in server.requests] == [1, 2]
    assert sum(request["kept"] for request in content["requests"]) == 6
    assert all(request["input_tokens"] == 11 for request in content["requests"])
    first, second = (request["messages"][-1]["content"] for request in server.requests)
    assert "- american bulldog\n" in first
    assert "crane" not in first
    assert "crane" in second
    assert content["names"][0] in second  # what is taken is not asked for again
    assert "Mine" not in first  # from the dataset's name a model could recall its new classes
    assert server.requests[0]["response_format"]["json_schema"]["strict"]
    assert server.authorization == {f"Bearer {KEY}"}
    assert novel_names(str(tmp_path / "Mine.json"), "Mine", BASE) == content["names"]


def test_other_spellings_of_classes_are_left_out(server: ChatServer, tmp_path: Path) -> None:
    answer = ["Basset-Hounds", "hound, basset", "Persian cat", "cranes", "The Abyssinians"]
    answer += ["foxes", "Fox", "the fox", "hot dog", "Hotdogs", "crêpe", "crepes", "?!", " "]
    answer += ["x" * 61, "two\nlines", "berry", "berries", "red_panda"]
    server.always = says(json.dumps({"names": answer}))
    content, problem = generated(server, tmp_path, count=50)
    assert content["names"] == ["foxes", "hot dog", "crêpe", "two lines", "berry", "red panda"]
    assert "6 of 50 names" in problem
    assert not content["complete"]


TRANSPORT: dict[str, list[Behaviour]] = {
    "rate limit": [error(429, Retry_After="0.3")],
    "server errors": [error(500), error(503)],
    "gateway sends HTML": [lambda r: (502, {"Content-Type": "text/html"}, b"<html>bad</html>")],
    "timeout": [late(1.5)],
    "lost connection": [lambda r: (0, {}, b"")],
}


@pytest.mark.parametrize("case", TRANSPORT)
def test_what_fails_on_the_way_is_sent_again(server: ChatServer, tmp_path: Path, case: str) -> None:
    server.script = list(TRANSPORT[case])
    content, problem = generated(server, tmp_path, timeout=0.7 if case == "timeout" else 10)
    assert not problem
    assert len(content["names"]) == 6
    assert len(server.requests) == 2 + len(TRANSPORT[case])
    assert server.requests[0] == server.requests[1]
    if case == "rate limit":
        assert server.times[1] - server.times[0] >= 0.3


UNUSABLE: dict[str, tuple[Behaviour, str]] = {
    "not JSON": (says("Sure! Siamese, Burmese."), "malformed"),
    "cut JSON without a reason": (says('{"names": ["a", "b}'), "malformed"),
    "broken JSON": (says('{"names": ["a",, "b"]}'), "malformed"),
    "truncated": (says('{"names": ["a", "b', "length"), "cut off"),
    "refused": (says(None, refusal="I cannot help with that."), "refused"),
    "filtered": (says("", "content_filter"), "refused"),
    "another key": (says('{"classes": ["a"]}'), "off the schema"),
    "more keys": (says('{"names": ["a"], "note": "b"}'), "off the schema"),
    "numbers": (says('{"names": [1, 2]}'), "off the schema"),
    "nothing": (says(None), "empty"),
    "empty list": (says('{"names": []}'), "empty list"),
    "no choices": (lambda r: (200, {"Content-Type": "application/json"}, b"{}"), "malformed"),
    "a web page": (lambda r: (200, {"Content-Type": "text/html"}, b"<p>hi</p>"), "malformed"),
    "broken reply": (lambda r: (200, {"Content-Type": "application/json"}, b'{"ch'), "malformed"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_answers_are_asked_again(server: ChatServer, tmp_path: Path, case: str) -> None:
    behaviour, word = UNUSABLE[case]
    server.script = [behaviour]
    content, problem = generated(server, tmp_path)
    assert not problem
    assert len(content["names"]) == 6
    first = content["requests"][0]
    assert len(first["problems"]) == 1
    assert word in first["problems"][0]
    assert server.requests[0]["seed"] != server.requests[1]["seed"] == first["seed"]
    if case == "truncated":
        assert asked(server.requests[1]) == asked(server.requests[0]) // 2


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_bounded_number_of_times(server: ChatServer, tmp_path: Path, case: str) -> None:
    behaviour, word = UNUSABLE[case]
    server.script = [good]
    server.always = behaviour
    content, problem = generated(server, tmp_path, count=60, attempts=2)
    kept = content["requests"][0]["kept"]
    assert 0 < kept == len(content["names"])
    assert f"{kept} of 60 names" in problem
    assert word in problem
    assert not content["complete"]
    # After the good answer two more requests: every class was shown without any new name.
    assert len(server.requests) == 1 + 2 * 2
    server.always = good
    content, problem = generated(server, tmp_path, count=60)
    assert not problem
    assert content["complete"]
    assert len(set(content["names"])) == 60


def test_endpoints_without_structured_output(server: ChatServer, tmp_path: Path) -> None:
    server.always = rejects("response_format")
    content, problem = generated(server, tmp_path)
    assert not problem
    assert [request["structured"] for request in content["requests"]] == [False, False]
    assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert all("seed" in request for request in server.requests)


def test_endpoints_that_know_no_seed(server: ChatServer, tmp_path: Path) -> None:
    plain = rejects("response_format", "seed")

    def fenced(request: dict[str, Any]) -> Any:
        if "seed" in request or "response_format" in request:
            return plain(request)
        names = [f"beast {len(server.requests)} {i}" for i in range(asked(request))]
        return completion(f"Here you are:\n```json\n{json.dumps({'names': names})}\n```")

    server.always = fenced
    content, problem = generated(server, tmp_path)
    assert not problem
    assert len(content["names"]) == 6
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "refuses the key"),
        (error(403, f"{KEY} is blocked"), "refuses the key"),
        (error(404, "no such model"), "knows no model 'tiny'"),
        (error(400, f"bad request from {KEY}"), "rejects the request"),
        (error(429, "quota", Retry_After="0.01"), "gives no answer, retried 1 times"),
        (error(503, f"down {KEY}", Retry_After="0.01"), "gives no answer"),
        (error(429, "come back tomorrow", Retry_After="86400"), "come back tomorrow"),
    ],
)
def test_without_an_answer_the_work_stops_and_can_go_on(
    server: ChatServer, tmp_path: Path, behaviour: Behaviour, words: str
) -> None:
    server.script = [good]
    server.always = behaviour
    content, problem = generated(server, tmp_path, retries=1)
    assert words in problem
    assert "3 of 6 names" in problem
    assert len(content["names"]) == content["requests"][0]["kept"] == 3
    server.always = good
    whole, problem = generated(server, tmp_path)
    assert not problem
    assert whole["names"][:3] == content["names"]
    assert len(whole["names"]) == 6


def test_a_model_that_repeats_itself_ends_the_work(server: ChatServer, tmp_path: Path) -> None:
    server.always = says('{"names": ["siamese", "burmese"]}')
    content, problem = generated(server, tmp_path)
    assert content["names"] == ["siamese", "burmese"]
    assert len(server.requests) == 3
    assert "2 of 6 names" in problem


@pytest.mark.parametrize("spelled", [KEY, "".join(f"\\u{ord(letter):04x}" for letter in KEY)])
def test_an_answer_that_holds_the_key(server: ChatServer, tmp_path: Path, spelled: str) -> None:
    server.always = says(f'{{"names": ["cat {spelled}", "dogfish"]}}')
    content, _ = generated(server, tmp_path)
    assert "cat [key]" in content["names"]


def test_what_a_model_thinks_first_is_no_answer(server: ChatServer, tmp_path: Path) -> None:
    def thinking(request: dict[str, Any]) -> Any:
        names = json.dumps({"names": [f"beast {i}" for i in range(asked(request))]})
        return completion('<think>{"names": ["Siamese", ...]}?</think>\n' + names)

    server.always = thinking
    content, problem = generated(server, tmp_path, count=4, portion=5)
    assert not any(request["problems"] for request in content["requests"])
    assert content["names"] == [f"beast {i}" for i in range(4)], problem


def test_many_problems_are_a_short_error(server: ChatServer, tmp_path: Path) -> None:
    server.always = lambda request: completion(f"No. {request['seed']}" + "!" * 200)
    content, problem = generated(server, tmp_path)
    assert "malformed answer (6x)" in problem
    assert len(problem) < 300
    assert sum(len(request["problems"]) for request in content["requests"]) == 6


def test_files_of_others_are_not_touched(server: ChatServer, tmp_path: Path) -> None:
    file = tmp_path / "Mine.json"
    for text, words in [
        ('{"dataset": "Mine", "names": ["siamese"]}', "not made by this command"),
        ('["siamese"]', "not made by this command"),
        ('{"names": [', "cannot read"),
    ]:
        file.write_text(text)
        order = Order("Mine", [BASE], 6, file)
        with pytest.raises(SARError, match=words):
            NovelFile(order, "tiny")
        assert file.read_text() == text
    file.unlink()
    generated(server, tmp_path)
    before = file.read_bytes()
    _, problem = generated(server, tmp_path, seed=2, groups=[BASE[:-1]])
    assert "another base_classes, seed" in problem
    assert file.read_bytes() == before


def test_more_names_can_be_asked_for_later(server: ChatServer, tmp_path: Path) -> None:
    few, _ = generated(server, tmp_path)
    sent = len(server.requests)
    generated(server, tmp_path)
    assert len(server.requests) == sent  # complete: nothing to ask
    more, problem = generated(server, tmp_path, count=20)
    assert not problem
    assert len(more["names"]) == 20
    assert more["names"][:6] == few["names"]


def test_a_folder_that_cannot_be_written(server: ChatServer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(SARError, match="cannot be written"):
        NovelFile(Order("Mine", [BASE], 6, blocked / "Mine.json"), "tiny")


@pytest.mark.parametrize(
    ("key", "url", "words"),
    [
        ("", None, "OPENAI_API_KEY is empty"),
        ("schlüssel", None, "not a key"),
        ("two\nlines", None, "not a key"),
        (KEY, "localhost:8000/v1", "--base-url cannot be used: localhost:8000/v1 .* http://"),
        (KEY, "ftp://localhost", "--base-url cannot be used"),
    ],
)
def test_settings_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, key: str, url: str | None, words: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(SARError, match=words) as error:
        Endpoint("tiny", url, retries=0).ask([{"role": "user", "content": "x"}], 1, Names)
    assert not key or key not in str(error.value)


def test_a_local_server_needs_no_key(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    content, problem = generated(server, tmp_path)
    assert not problem
    assert content["complete"]


@given(st.integers(1, 300), st.integers(1, 60))
def test_portions_hold_every_class_once(n: int, size: int) -> None:
    classes = [str(i) for i in range(n)]
    parts = portions(classes, size)
    assert [name for part in parts for name in part] == classes
    lengths = {len(part) for part in parts}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 600), st.integers(1, 12))
def test_a_plan_reaches_its_count(count: int, n_portions: int) -> None:
    missing, requests = count, 0
    while missing > 0:
        wanted = quota(missing, requests, n_portions)
        assert 1 <= number_to_ask(wanted) <= MOST
        missing -= min(wanted, int(number_to_ask(wanted) * 0.8))
        requests += 1
    assert missing == 0
    expected = estimate([["siamese"]] * n_portions, count)
    assert expected.requests == requests
    assert expected.output_tokens > count


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.yaml", "base: [abyssinian, beagle]\nnew: [samoyed]\nnovel: [siamese]\n"),
        ("novel.json", '{"base_classes": ["abyssinian", "beagle"], "names": ["siamese"]}'),
        ("base.txt", "abyssinian\n\nbeagle\n"),
    ],
)
def test_of_a_file_the_base_classes_alone_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit):
        cli.main(["novel", "generate", "--classes", str(tmp_path / name), "--dry-run"])
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert shown == ["- abyssinian", "- beagle"]


def command(*arguments: str) -> list[str]:
    # A suite started in the background ignores SIGINT, and hands that on.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sar.cli import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", code, "novel", "generate", *arguments]


def start(server: ChatServer, folder: Path, *more: str) -> "subprocess.Popen[str]":
    options = ["--model", "tiny", "--base-url", server.url, "--classes", "mine.txt", *more]
    (folder / "mine.txt").write_text("\n".join(BASE))
    return subprocess.Popen(
        command("--count", "30", "--portion", "1", *options),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_at_request(number: int, server: ChatServer, folder: Path, sign: signal.Signals) -> str:
    """Sends `sign` to a process while its request `number` waits for an answer; its output."""
    server.requests.clear()
    server.script = [good] * (number - 1) + [late(60)]
    process = start(server, folder)
    deadline = time.monotonic() + 60
    while len(server.requests) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sign)
    out, err = process.communicate(timeout=120)
    assert process.returncode == (130 if sign == signal.SIGINT else -sign)
    assert "Traceback" not in err
    return out + err


def test_two_that_write_one_file_are_one_too_many(server: ChatServer, tmp_path: Path) -> None:
    server.script = [late(60)]
    first = start(server, tmp_path)
    deadline = time.monotonic() + 60
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    second = start(server, tmp_path)
    _, said = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert f"novel/mine.json is in use by process {first.pid} " in said
    assert len(server.requests) == 1


def test_a_process_that_is_stopped_goes_on_where_it_was(server: ChatServer, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    process = start(server, whole)
    printed, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "30 of 30 names are in novel/mine.json" in printed
    expected = json.loads((whole / "novel" / "mine.json").read_text())

    file = cut / "novel" / "mine.json"
    for sign, number in ((signal.SIGKILL, 2), (signal.SIGINT, 3)):
        printed += stop_at_request(number, server, cut, sign)
        kept = json.loads(file.read_text())
        assert kept["names"] == expected["names"][: len(kept["names"])]
        assert kept["requests"] == expected["requests"][: len(kept["requests"])]
        assert not kept["complete"]
    assert len(kept["requests"]) == 1 + 2
    assert f"{len(kept['names'])} of 30 names are in novel/mine.json" in printed

    server.requests.clear()
    process = start(server, cut)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(file.read_text()) == expected
    assert len(server.requests) == len(expected["requests"]) - 3
    assert {p.name for p in file.parent.iterdir()} == {"mine.json", ".mine.json.lock"}
    assert KEY not in printed + out + err + file.read_text()


def test_an_endpoint_that_is_down_is_one_line_and_exit_status_1(
    server: ChatServer, tmp_path: Path
) -> None:
    server.always = error(401, f"wrong key {KEY}")
    process = start(server, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: 127.0.0.1 refuses the key in OPENAI_API_KEY")
    assert "Traceback" not in err
    assert KEY not in out + err


def test_dry_run_needs_neither_key_nor_endpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(SystemExit) as done:
        cli.main(["novel", "generate", "--dataset", "OxfordPets", "--dry-run"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert "- egyptian mau\n" in printed  # a base class
    assert "maine coon" not in printed  # a new one
    assert "OxfordPets" not in printed
    assert "for 200 novel names from 19 base classes" in printed
    assert "output tokens" in printed


# --- answers without an end ------------------------------------------------------------------


@pytest.mark.parametrize(
    "drip",
    [
        parts_of(b'{"id": "1", ', again=b" ", every=0.05),
        parts_of(b"HTTP/1.0 200 OK\r\n", again=b"X-A: b\r\n", every=0.05, status=-1),
    ],
    ids=["body", "headers"],
)
def test_an_answer_that_drips_is_late_like_any_other(
    server: ChatServer, tmp_path: Path, drip: Behaviour
) -> None:
    server.script = [good]
    server.always = drip
    began = time.monotonic()
    content, problem = generated(server, tmp_path, timeout=1, retries=0)
    assert "gives no answer" in problem
    assert time.monotonic() - began < 10
    assert len(content["names"]) == 3  # what the first answer brought is kept


def test_an_answer_that_never_ends_is_cut_off_and_asked_for_again(
    server: ChatServer, tmp_path: Path
) -> None:
    server.script = [parts_of(again=b"[" * 2**20)]
    content, problem = generated(server, tmp_path)
    assert not problem
    assert content["complete"]
    # Older clients of openai send the request again themselves.
    assert content["requests"][0]["problems"] in ([], ["malformed reply: more than 16 MB"])


@pytest.mark.parametrize(
    "nested",
    [
        says("{" * 200_000),
        says("{" * 200_000 + "}"),
        says('{"names": ' + "[" * 200_000 + "]" * 200_000 + "}"),
        parts_of(b"[" * 200_000),
        parts_of(b"[" * 200_000 + b"]" * 200_000),
        parts_of(b'{"choices": [{"index": ' + b"9" * 6000 + b"}]}"),
    ],
)
def test_an_answer_that_nests_is_malformed_at_once(
    server: ChatServer, tmp_path: Path, nested: Behaviour
) -> None:
    server.script = [nested]
    began = time.monotonic()
    content, problem = generated(server, tmp_path)
    assert not problem
    assert time.monotonic() - began < 5
    assert content["requests"][0]["problems"][0].startswith("malformed")
