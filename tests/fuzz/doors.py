"""A small world, and the commands by which a file gets into the program."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import products
import result_logs
import toolbox_mini
import yaml

from sar.results.protocol import ProtocolRecord, record_protocol

DATASET = "--dataset-config-file datasets/oxford_pets.yaml"
TRAIN = f"train --root data --seed 1 --config-file data/mini.yaml {DATASET} --output-dir out"
COOP = f"{TRAIN} --trainer CoOp"
OWN = COOP.replace(DATASET, "--dataset-config-file datasets/image_csv.yaml").replace(
    "--root data", "--root data/images.csv"
)
FOLDERS = COOP.replace(DATASET, "--dataset-config-file datasets/image_folder.yaml").replace(
    "--root data", "--root data/folders"
)
SAR = f"{OWN} TRAINER.SAR.SAMPLE_SIZE 4".replace("CoOp", "SAR_CoOp")
TEST = f"{COOP} --eval-only --model-dir trained --load-epoch 1"
SPLIT = "oxford_pets/split_zhou_OxfordPets.json"
LOG = "results/train_base/dtd/shots_16/CoOp/vit_b16/seed1/log.txt"
SHOTS = "data/oxford_pets/split_fewshot/shot_1-seed_1.pkl"
PICTURE = "abyssinian_test0.png"
CHECKPOINT = "trained/prompt_learner/model.pth.tar-1"
NAMES = [name.replace("_", " ") for name in toolbox_mini.NAMES]
NOVEL = ["tabby", "poodle", "dachshund", "manx", "persian"]


@dataclass(frozen=True)
class Door:
    """One way in: the file below the world's folder, and the command that reads it."""

    name: str
    file: str
    command: str

    def tree(self, world: Path) -> Any:
        """What the file holds as it should be, if that is a tree."""
        return yaml.safe_load((world / self.file).read_text())

    @property
    def argv(self) -> list[str]:
        return self.command.split()


def write_files(world: Path) -> None:
    """The files of all ways in as they should be, but for what a training leaves."""
    data = world / "data"
    data.mkdir(parents=True)
    toolbox_mini.write_world(data)
    text = (data / "mini.yaml").read_text()
    text = text.replace(str(data), "data")
    for was, now in (("NUM_SHOTS: 4", "NUM_SHOTS: 1"), ("MAX_EPOCH: 5", "MAX_EPOCH: 1")):
        text = text.replace(was, now)
    (data / "mini.yaml").write_text(text)
    _write_table(data)
    for part, items in _split(data).items():
        for path, _, name in items:
            place = data / "folders" / part / name
            place.mkdir(parents=True, exist_ok=True)
            os.link(data / "oxford_pets" / "images" / path, place / path)
    classes = {"base": NAMES[:4], "new": NAMES[4:], "novel": NOVEL}
    (data / "classes.yaml").write_text(yaml.safe_dump(classes))
    novel = {"dataset": "Pets", "base_classes": NAMES[:4], "names": NOVEL}
    (data / "novel.json").write_text(json.dumps(novel))
    (data / "novel.txt").write_text("# names\n" + "\n".join(NOVEL))
    (data / "novel.csv").write_text("name,of\n" + "\n".join(f"{name},pet" for name in NOVEL))
    (data / "novel.yaml").write_text(yaml.safe_dump(classes))
    (data / "templates.txt").write_text("a photo of a {}.\na drawing of a {}.\n")
    (data / "templates.json").write_text('["a photo of a {}.", "a drawing of a {}."]')
    (data / "pets.yaml").write_text('DATASET: {NAME: "OxfordPets"}\n')
    _write_results(world / "results")
    products.write(data)


def _split(data: Path) -> dict[str, list[tuple[str, int, str]]]:
    parts: dict[str, list[tuple[str, int, str]]] = json.loads((data / SPLIT).read_text())
    return parts


def _write_table(data: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    for part, items in _split(data).items():
        for path, _, name in items:
            writer.writerow((f"oxford_pets/images/{path}", name, part))
    (data / "images.csv").write_text(text.getvalue())


def _write_results(root: Path) -> None:
    """One run in CoOp's layout, trained and tested, and one more of another trainer."""
    for trainer in ("CoOp", "SAR_CoOp"):
        result_logs.put_model(root, "dtd", trainer, 1, 730, 450)
    record = ProtocolRecord("base2new", ["dtd"], ["CoOp", "SAR_CoOp"], [1], [16])
    record_protocol(root, record)


RESUME = f"{COOP} --resume trained OPTIM.MAX_EPOCH 2"
NOVEL_OF = f"{SAR} TRAINER.SAR.NOVEL"
TEMPLATE = f"{SAR} TRAINER.SAR.NOVEL none TRAINER.SAR.TEMPLATE"
PETS = COOP.replace("datasets/oxford_pets", "data/pets")
DOORS = {
    name: Door(name, file, command)
    for name, file, command in (
        ("configuration (YAML)", "data/mini.yaml", COOP),
        ("dataset's configuration (YAML)", "data/pets.yaml", PETS),
        ("split (JSON)", f"data/{SPLIT}", COOP),
        ("table (CSV)", "data/images.csv", OWN),
        ("class list (YAML)", "data/classes.yaml", OWN),
        *(
            (f"novel names ({kind})", f"data/novel.{end}", f"{NOVEL_OF} data/novel.{end}")
            for kind, end in (("JSON", "json"), ("text", "txt"), ("CSV", "csv"), ("YAML", "yaml"))
        ),
        *(
            (f"templates ({kind})", f"data/templates.{end}", f"{TEMPLATE} data/templates.{end}")
            for kind, end in (("JSON", "json"), ("text", "txt"))
        ),
        ("checkpoint, tested", CHECKPOINT, TEST),
        ("checkpoint, resumed", CHECKPOINT, RESUME),
        ("checkpoint, to start from", CHECKPOINT, f"{COOP} MODEL.INIT_WEIGHTS {CHECKPOINT}"),
        ("checkpoint, inspected", CHECKPOINT, "inspect trained --root data"),
        ("pointer to a checkpoint", "trained/prompt_learner/checkpoint", RESUME),
        ("weights of CLIP", "data/clip.pt", COOP),
        ("shots (pickle)", SHOTS, COOP),
        ("picture", f"data/oxford_pets/images/{PICTURE}", TEST),
        ("log", LOG, "results results"),
        ("protocol.json", "results/protocol.json", "results results"),
        *products.doors(COOP),
    )
}
"""The ways in, by name."""


def copy(world: Path, folder: Path) -> None:
    """The world in `folder`; nothing in it may be changed in place."""
    shutil.copytree(world, folder, copy_function=os.link, dirs_exist_ok=True)
