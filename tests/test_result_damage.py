"""One bad file costs one line: what else was found is kept, and no reader hangs or fills memory."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_logs import (
    eval_log,
    put,
    put_ablation,
    put_model,
    result_block,
    run_dir,
    training_log,
)

from sar.errors import DataError
from sar.protocols.jobs import SETTINGS_FILE, Job, State
from sar.results import collect, problems_text, read_run, to_text
from sar.results.folders import RunKey, locate
from sar.results.protocol import PROTOCOL_FILE, ProtocolRecord, read_protocol
from sar.results.provenance import read_provenance
from sar.results.report import render_report
from sar.results.starts import LARGEST, parse

# --- logs ------------------------------------------------------------------------------------

WORDS = (
    *("evaluate on the ", "evaluat", "Do evaluation on ", "epoch [", "epoch: [1/", "(epoch = "),
    *(
        "Loading weights (epoch",
        "loss ",
        "=> result\n",
        "* total: ",
        "* correct: 1",
        "* accuracy: ",
    ),
    *("MAX_EPOCH: ", "seed: ", "NUM_SHOTS: ", "--- log continued", "Saving a.pkl", " ", "1", "²"),
    *("# classes ", "# test ,", "Error: ", "\x00", "\u2028", "%\n", "'", "* accuracy: "),
)


@pytest.mark.parametrize("word", WORDS)
def test_no_line_however_long_takes_long(tmp_path: Path, word: str) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    folder = run_dir(tmp_path, "train_base", "food", "CoOp", 2)
    put(folder, "epoch [1/2] loss " + word * (210_000 // len(word)) + "\n" + word)
    place = locate(folder)
    assert place is not None
    began = time.process_time()
    results = collect(tmp_path)
    read_provenance(place)
    assert time.process_time() - began < 2
    assert [record.key.seed for record in results.records] == [1]
    assert [problem.directory for problem in results.problems] == [folder]


@pytest.mark.parametrize("number", ["²", "9" * 6000, "-1", "1_000", "0x10", "1e5", "٣", "", "nan"])
def test_numbers_that_are_none_stop_nothing(tmp_path: Path, number: str) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    odd = training_log(700).replace("MAX_EPOCH: 2", f"MAX_EPOCH: {number}")
    odd = odd.replace("epoch [2/2]", f"# classes {number}\nepoch [{number}/{number}]")
    put(run_dir(tmp_path, "train_base", "food", "CoOp", 2), odd)
    model = run_dir(Path("output"), "train_base", "food", "CoOp", 2)
    test = eval_log(500, model=model).replace("(epoch = 2)", f"(epoch = {number})")
    put(run_dir(tmp_path, "test_new", "food", "CoOp", 2), test)
    results = collect(tmp_path)
    assert [record.values["base"] for record in results.records] == [70.0, 70.0]
    assert render_report(results)
    for key in ("total", "correct"):
        folder = put(tmp_path / "one", training_log(810))
        text = (folder / "log.txt").read_text()
        value = text.partition(f"* {key}: ")[2].partition("\n")[0]
        put(folder, text.replace(f"* {key}: {value}", f"* {key}: {number}"))
        assert read_run(folder, trained=True).reason.startswith(("damaged", "truncated"))


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf", "NaN"])
def test_a_training_that_ended_without_a_finite_loss_has_no_result(tmp_path, loss):
    reason = read_run(put(tmp_path, training_log(loss=loss)), trained=True).reason
    assert reason == f"training loss is {loss}"


@given(st.lists(st.sampled_from([*WORDS, "\n", "\n", *result_block(81, 100).splitlines(True)])))
@settings(max_examples=200, deadline=None)
def test_any_text_has_starts(words: list[str]) -> None:
    for start in parse("".join(words)):
        for block in start.blocks:
            assert block.truncated or start.score(block)
        assert start.missing(True, start.progress)


def test_a_file_that_is_no_log_is_not_read(tmp_path: Path) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    folder = put(run_dir(tmp_path, "train_base", "food", "CoOp", 2), "")
    with (folder / "log.txt").open("wb") as file:
        file.truncate(LARGEST + 1)
    results = collect(tmp_path)
    assert len(results.records) == 1
    assert "too much for a log" in problems_text(results)


# --- protocol.json and settings.json ---------------------------------------------------------

WRONG = (
    *("", "[]", "null", "5", '"x"', "{}", "[" * 100_000, "9" * 6000, "\x00", '{"a": 1}'),
    '{"protocol": 5, "datasets": [], "trainers": [], "seeds": [], "shots": []}',
    '{"protocol": "x", "datasets": "food", "trainers": [], "seeds": [], "shots": []}',
    '{"protocol": "x", "datasets": [1], "trainers": [], "seeds": [], "shots": []}',
    '{"protocol": "x", "datasets": [], "trainers": null, "seeds": [], "shots": []}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": ["1"], "shots": []}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [true], "shots": []}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [], "shots": {"a": 1}}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [], "shots": [], "variants": []}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [], "shots": [], "variants": '
    '{"weight_4": "x"}}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [], "shots": [], "studies": '
    '{"weight": {"4": 4}}}',
    '{"protocol": "x", "datasets": [], "trainers": [], "seeds": [], "shots": [], "imports": [[]]}',
)


@pytest.mark.parametrize("text", WRONG)
def test_a_damaged_protocol_file_is_one_line_and_the_runs_count(tmp_path: Path, text: str) -> None:
    put_model(tmp_path / "good", "food", "CoOp", 1, 700, 500)
    put_model(tmp_path / "bad", "pets", "CoOp", 1, 700, 500)
    put(tmp_path / "bad", text, PROTOCOL_FILE)
    with pytest.raises(DataError, match=r"cannot read .*protocol\.json.*remove it"):
        read_protocol(tmp_path / "bad")
    results = collect(tmp_path)
    assert [record.key.dataset for record in results.records] == ["pets", "food"]
    (problem,) = results.problems
    assert problem.directory == tmp_path / "bad" / PROTOCOL_FILE
    assert "\n" not in problem.reason
    assert len(problem.reason) < 600
    assert render_report(results)


def test_a_protocol_file_of_the_right_types_is_read_as_it_is(tmp_path: Path) -> None:
    put_ablation(tmp_path)
    record = read_protocol(tmp_path)
    assert isinstance(record, ProtocolRecord)
    assert json.loads((tmp_path / PROTOCOL_FILE).read_text()) == vars(record)


def test_variants_of_an_ablation_stay_apart_without_its_protocol_file(tmp_path: Path) -> None:
    put_ablation(tmp_path)
    before = {(r.key, r.values["h"]) for r in collect(tmp_path).records}
    (tmp_path / PROTOCOL_FILE).write_text("[]")
    results = collect(tmp_path)
    assert {(r.key, r.values["h"]) for r in results.records} == before
    assert {record.protocol for record in results.records} == {"ablation"}


@pytest.mark.parametrize("text", [w for w in WRONG if not w.startswith("{")])
def test_damaged_settings_are_a_conflict(tmp_path: Path, text: str) -> None:
    job = Job("job", put(tmp_path / "run", training_log()), trains=True, subset="base")
    put(job.output, text, SETTINGS_FILE)
    assert job.state() is State.CONFLICT
    assert "settings.json is damaged" in job.conflict()
    (job.output / SETTINGS_FILE).unlink()
    (job.output / SETTINGS_FILE).mkdir()
    assert job.state() is State.CONFLICT


@pytest.mark.parametrize("text", [*WRONG, '{"dataset": 1, "classes": [], "models": {"a": 5}}'])
def test_damaged_files_beside_a_run_cost_the_report_nothing(tmp_path: Path, text: str) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    folder = run_dir(tmp_path, "train_base", "food", "CoOp", 1)
    put(folder, "<svg/>", "inspect.svg")
    put(folder, text, "inspect.json")
    put(folder, text, "novel_report.json")
    put(folder, text, "command.txt")
    (tmp_path / "inspect_folder.svg").mkdir()
    assert "70.0" in render_report(collect(tmp_path))


# --- checkpoints -----------------------------------------------------------------------------


def bomb(kind: str) -> bytes:
    """A pickle of some bytes that asks for gigabytes."""
    if kind == "memo":
        return b"\x80\x02}r" + struct.pack("<I", 150_000_000) + b"."
    if kind == "bytearray":
        return b"\x80\x05\x96" + struct.pack("<Q", 2_500_000_000) + b"abc."
    if kind == "nested":
        return b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    text = b"a" * (48 << 20)  # names that are one long text
    return b"\x80\x02}X\x0a\x00\x00\x00classnamesX" + struct.pack("<I", len(text)) + text + b"s."


READING = """
import json, resource, sys, time
from pathlib import Path
from sar.results.folders import locate
from sar.results.provenance import read_provenance

place = locate(Path(sys.argv[1]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, began = peak(), time.process_time()
classes = read_provenance(place).classes
print(json.dumps([classes, time.process_time() - began, peak() - before]))
"""


@pytest.mark.parametrize("kind", ["memo", "bytearray", "nested", "text"])
def test_checkpoints_that_blow_up_are_not_unpacked(tmp_path: Path, kind: str) -> None:
    put_model(tmp_path, "food", "CoOp", 1, 700, 500)
    folder = run_dir(tmp_path, "train_base", "food", "CoOp", 1) / "prompt_learner"
    folder.mkdir()
    file = folder / "model.pth.tar-2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if kind == "text" else 0) as archive:
        archive.writestr("model/data.pkl", bomb(kind))
    # In a process of its own: the peak of this one may be any.
    found = subprocess.run(
        [sys.executable, "-c", READING, str(folder.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    classes, seconds, kib = json.loads(found.stdout)
    assert classes == []
    assert seconds < 5
    assert kib < 40_000


# --- results.csv -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1"])
def test_names_that_spreadsheets_calculate_are_text(tmp_path: Path, name: str) -> None:
    put_model(tmp_path, name, name, 1, 700, 500)
    (row,) = csv.DictReader(to_text(collect(tmp_path), "csv").splitlines())
    assert (row["dataset"], row["trainer"], row["base"]) == (f"'{name}", f"'{name}", "70.0")
    (record,) = json.loads(to_text(collect(tmp_path), "json"))
    assert record["dataset"] == name


def test_other_names_are_as_they_are(tmp_path: Path) -> None:
    put_model(tmp_path, "a-b=c", "CoOp", 1, 700, 500)
    (row,) = csv.DictReader(to_text(collect(tmp_path), "csv").splitlines())
    assert row["dataset"] == "a-b=c"
    assert collect(tmp_path).records[0].key == RunKey("a-b=c", "CoOp", "vit_b16", 16, 1)
