"""experiments/ agrees with itself, and the pages' tables with it."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ablation_run import tables

from sar.protocols.cli import main
from sar.results.folders import RunKey, locate
from sar.results.statistics import harmonic_mean

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
FOLDERS = sorted(path for path in EXPERIMENTS.iterdir() if path.is_dir() and path.name[0] != "_")
CHOSEN_ON = ("demo_objects", "demo_travel")
ROUNDED = pytest.approx(0, abs=2e-4)  # four decimals, of which two were added

Rows = list[dict[str, Any]]


def read(folder: Path, name: str) -> Rows:
    rows: Rows = json.loads((folder / name).read_text())
    return rows


def commands() -> dict[str, str]:
    """Folder -> the command that the page names."""
    lines = (EXPERIMENTS / "README.md").read_text().splitlines()
    row = re.compile(r"\| `([\w.-]+)` \| .+ \| `(sarclip protocol [^`]+)` \| .*\|")
    return {found[1]: found[2] for line in lines if (found := row.match(line))}


def test_every_folder_is_named_with_its_command() -> None:
    named = commands()
    assert [folder.name for folder in FOLDERS] == sorted(named)
    assert len(FOLDERS) > 5
    for folder in FOLDERS:
        given = shlex.split(named[folder.name])
        assert given[given.index("--output") + 1] == f"output/{folder.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_commands_give_the_records(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tests of a command's dry run are the records, no more and no less."""
    monkeypatch.chdir(ROOT)
    _, _, command, *arguments = shlex.split(commands()[folder.name])
    main([command, "--dry-run", *arguments])
    output = ROOT / "output" / folder.name
    planned = set()
    for path in re.findall(r"--output-dir (\S+)", capsys.readouterr().out):
        place = locate(ROOT / path, output if command == "ablation" else None)
        assert place
        if place.part in ("all", "test_new", "evaluation"):
            planned.add(place.key)
    kinds = RunKey.__annotations__
    recorded = {
        RunKey(**{k: v for k, v in record.items() if k in kinds})
        for record in read(folder, "results.json")
    }
    assert recorded == planned


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_records(folder: Path) -> None:
    records = read(folder, "results.json")
    runs = [{k: v for k, v in r.items() if not isinstance(v, float)} for r in records]
    assert records
    assert all(runs.count(run) == 1 for run in runs)
    for record in records:
        if "h" in record:
            assert record["h"] - harmonic_mean(record["base"], record["new"]) == ROUNDED


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_summaries_are_those_of_the_records(folder: Path) -> None:
    """Of the rows of single datasets, from which averages and differences follow."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in read(folder, "results.json"):
        label = re.sub("_averaged_", ", averaged ", record["trainer"])
        for column in ("base", "new", "h"):
            if column in record:
                key = (record["dataset"], record.get("variant", ""), label, column)
                found[key].append(record[column])
    transfers = "accuracy" in read(folder, "results.json")[0]
    checked = 0
    for entry in read(folder, "summary.json"):
        key = (entry["group"], "", entry["label"], entry["column"])
        if entry["kind"] == "measured" and key in found:
            assert entry["seeds"] == len(found[key])
            assert entry["mean"] - statistics.mean(found[key]) == ROUNDED
            if entry["seeds"] > 1:
                assert entry["std"] - statistics.stdev(found[key]) == ROUNDED
            checked += 1
    ablates = any(variant for _, variant, _, _ in found)
    assert checked == (0 if transfers or ablates else len(found))


@pytest.mark.parametrize("name", ["ablation", "regularizers"])
def test_ablations_average_the_records(name: str) -> None:
    """SAR_CoOp's rows of the average over datasets: the mean over all records of a variant."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in read(EXPERIMENTS / name, "results.json"):
        found[record["variant"]].append(record["base"])
    means = {variant: statistics.mean(values) for variant, values in found.items()}
    averages = [
        entry
        for entry in read(EXPERIMENTS / name, "summary.json")
        if "average of" in entry["table"]
        and (entry["kind"], entry["column"], entry["seeds"]) == ("measured", "base", 3)
    ]
    assert len(averages) > 15
    for entry in averages:
        if entry["group"] != "baseline":
            assert any(entry["mean"] - mean == ROUNDED for mean in means.values()), entry


@pytest.mark.parametrize(
    ("page", "place", "folder"),
    [
        ("ablation", 1, "ablation"),
        ("regularizers", 1, "regularizers"),
        ("regularizers", 2, "regularizers-report"),
    ],
)
def test_pages_say_what_was_measured(page: str, place: int, folder: str) -> None:
    known = {
        (entry["group"], entry["label"], entry["column"]): entry["mean"]
        for entry in read(EXPERIMENTS / folder, "summary.json")
        if "average of" in entry["table"]
    }
    text = (ROOT / "docs" / f"{page}.md").read_text().split("### Ablation, average of ")[place]
    (rows,) = tables(text.partition("\n### ")[0])
    assert len(rows) >= (5 if folder == "regularizers-report" else 15)
    for study, setting, *cells in rows:
        for column, cell in zip(("base", "new", "h"), cells, strict=False):
            assert float(cell.split()[0]) == pytest.approx(known[study, setting, column], abs=0.006)


def test_settings_of_aape_are_those_of_the_records() -> None:
    """The table of docs/aape.md that names where each row is from: averages over two datasets."""
    page = (ROOT / "docs" / "aape.md").read_text().partition("| setting |")[2]
    rows = tables("| setting |" + page)[0]
    assert {row[-1].strip("`") for row in rows} >= {
        folder.name for folder in FOLDERS if re.match(r"aape-(?!cross|domain)", folder.name)
    }
    for setting, *cells, folder in rows:
        trainer = {"zero-shot CLIP": "ZeroshotCLIP"}.get(setting, setting.partition(",")[0])
        trainer = trainer if trainer in ("ZeroshotCLIP", "CoOp") else "AAPE"
        records = [
            record
            for record in read(EXPERIMENTS / folder.strip("`"), "results.json")
            if record["trainer"] == trainer and record["dataset"] in CHOSEN_ON
        ]
        base, new = (statistics.mean(record[key] for record in records) for key in ("base", "new"))
        expected = [base, new, harmonic_mean(base, new)]
        assert [float(cell.split()[0]) for cell in cells] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", ["cross-dataset", "domain-generalization"])
def test_transfers_average_the_records(name: str) -> None:
    """Over the targets, without the source; of every trainer and of SAR's differences."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in read(EXPERIMENTS / name, "results.json"):
        if record["dataset"] != record["source"]:
            label = record["trainer"].replace("_averaged_", ", averaged ")
            found[label][record["seed"]].append(record["accuracy"])
    means = {
        label: {seed: statistics.mean(values) for seed, values in seeds.items()}
        for label, seeds in found.items()
    }
    checked = 0
    for entry in read(EXPERIMENTS / name, "summary.json"):
        if entry["column"] == "average":
            label, _, other = entry["label"].partition(" - ")
            values = [
                value - means[other][seed] if other else value
                for seed, value in means[label].items()
            ]
            assert entry["mean"] - statistics.mean(values) == ROUNDED
            if len(values) > 1:
                assert entry["std"] - statistics.stdev(values) == ROUNDED
            checked += 1
    assert checked == 1 + 5 * 4 + 5 * 5  # trainers and their averages; differences


def test_learning_rates_on_the_page_of_the_pocket_clip() -> None:
    text = (ROOT / "docs" / "pocket-clip.md").read_text()
    for rate, folder in (
        ("0.025", "coop-rate-0.025"),
        ("0.1 (as everywhere else)", "ablation"),
        ("0.4", "coop-rate-0.4"),
    ):
        found = {
            entry["column"]: f"{entry['mean']:.1f} ± {entry['std']:.1f}"
            for entry in read(EXPERIMENTS / folder, "summary.json")
            if entry["label"] == "CoOp" and "verage of" in entry["table"] + entry["group"]
        }
        assert f"| {rate} | {found['base']} | {found['new']} | {found['h']} |" in text
