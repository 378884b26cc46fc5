"""docs/add-a-dataset.md, followed; and records that are wrong."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from pages import ROOT, files_of, follow

from sar.classes.novel_names import novel_names
from sar.classes.templates import template_for
from sar.errors import ConfigError
from sar.protocols.cli import main
from sar.settings.config_files import use_folders
from sar.settings.dataset_records import DatasetRecord, by_name, in_group, record_in, records

PAGE = "add-a-dataset.md"


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's record, in ./configs."""
    for name, text in files_of(PAGE).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    use_folders(())
    return tmp_path / "configs" / "datasets" / "shapes.yaml"


def test_a_record_in_the_working_directory_is_known(shapes: Path) -> None:
    record = by_name("Shapes")
    assert record is not None
    assert (record.config, record.file) == ("shapes", shapes)
    assert in_group("mine") == ("shapes",)
    assert template_for("Shapes") == "a picture of a {}."
    assert "pink heart" in novel_names("shipped", "Shapes", ["red circle"])


def test_a_folder_given_wins_over_the_working_directory(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "datasets"
    other.mkdir(parents=True)
    (other / "shapes.yaml").write_text("DATASET: {NAME: Shapes}\nRECORD: {embedded: true}\n")
    given = ["--trainers", "CoOp", "--seeds", "1", "--cfg", "pocket", "--dry-run"]
    main(["base2new", "--datasets", "shapes", "--configs", "other", *given])
    assert "--dataset-config-file other/datasets/shapes.yaml" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--root"):
        main(["base2new", "--datasets", "mine", *given])


def test_a_file_without_record_has_the_shipped_one(shapes: Path) -> None:
    """As in a checkout of CoOp, whose configs/ has the field's datasets."""
    own = shapes.with_name("oxford_pets.yaml")
    own.write_text('DATASET:\n  NAME: "OxfordPets"\n')
    record = by_name("OxfordPets")
    assert record is not None
    assert (record.file, record.group) == (own, "all")
    assert record.template == "a photo of a {}, a type of pet."


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{tempalte: x}", r"shapes\.yaml is wrong \(unknown: tempalte\); expected template, novel"),
        ("[a]", r"no mapping"),
        ("{images: data}", r"RECORD\.images in .* is 'data'; expected list"),
        ("{classes: many}", r"RECORD\.classes in .* is 'many'; expected number"),
        ("{reader: zip}", r"RECORD\.reader in .* is 'zip'; expected one of split, folders, table"),
    ],
)
def test_wrong_records_are_named(shapes: Path, record: str, message: str) -> None:
    shapes.write_text(f"DATASET: {{NAME: Shapes}}\nRECORD: {record}\n")
    with pytest.raises(ConfigError, match=message):
        record_in(shapes)


def test_a_folder_without_configurations_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--configs .*: expected a folder with datasets/NAME"):
        main(["base2new", "--configs", str(tmp_path)])


def test_what_records_name_exists() -> None:
    known = {record.config: record for record in records()}
    for record in known.values():
        assert set(record.domains) <= known.keys()
        assert not record.targets or in_group(record.targets)
        assert bool(record.lists) == (record.reader == "split")


def test_the_page_names_every_field() -> None:
    text = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\|.*\|$", text, re.MULTILINE))
    fields = {f.name for f in dataclasses.fields(DatasetRecord)} - {"name", "config", "file"}
    assert fields - {"embedded"} == set(re.findall(r"`(\w+)`(?=[,|]| \|)", rows)) & fields


@pytest.mark.slow
def test_commands_of_the_page(tmp_path: Path) -> None:
    shorter = {"--seeds 1": "--seeds 1 --shots 2 OPTIM.MAX_EPOCH 1"}
    said = follow(PAGE, tmp_path, shorter)
    assert re.search(r"shapes +ZeroshotCLIP +\d", said)
    assert re.search(r"SAR_CoOp - CoOp +[+-]\d", said)
    (log,) = tmp_path.glob("output/shapes/train_base/shapes/*/SAR_CoOp/*/seed1/log.txt")
    assert "shapes.yaml" in log.read_text()
