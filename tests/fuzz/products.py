"""What is made from a training, CLIPs of other packages, and the commands that read them."""

# ruff: noqa: E501 (a table)
from __future__ import annotations

import csv
import json
from pathlib import Path

import toolbox_mini
from foreign_clips import open_clip_folder, transformers_folder

from sar.asking.order import Order
from sar.describe.generate import DescriptionFile

TEST = "data/folders/test"
PICTURE, HELD_OUT = (f"data/folders/{part}/beagle/beagle_{part}0.png" for part in ("test", "val"))
CHECKPOINT = "trained/prompt_learner/model.pth.tar-1"
MADE = (
    "export trained --to exported",
    "retrieval train data/captions.json --clip data/clip.pt --output adapter --epochs 1 --batch 4",
)
"""Commands that make what is read here, after a training."""
EVALUATE = f"evaluate trained {TEST}"
FITTED = f"{EVALUATE} --unknown --calibrate --held-out data/folders/val --novel data/novel.txt"
CAPTIONED = "retrieval evaluate data/captions.json --clip data/clip.pt --aape adapter"
DESCRIBE = "describe generate --classes data/names.txt --count 2 --model m --base-url http://127.0.0.1:9/v1 --retries 0"
NAMES = [name.replace("_", " ") for name in toolbox_mini.NAMES]


def doors(coop: str) -> tuple[tuple[str, str, str], ...]:
    """(name, file, command); `coop`: a training of CoOp."""
    aape = f"{coop.replace('CoOp', 'AAPE')} TRAINER.AAPE.DESCRIPTIONS data/descriptions"
    exported = f"evaluate exported {TEST}"
    other = f"{coop.replace('CoOp', 'ZeroshotCLIP')} MODEL.BACKBONE.NAME data/clips"
    return (
        ("exported description", "exported/config.json", exported),
        ("exported weights", "exported/classifier.safetensors", exported),
        ("checkpoint, evaluated", CHECKPOINT, EVALUATE),
        ("checkpoint, exported", CHECKPOINT, "export trained --to new"),
        ("known pictures (CSV)", "data/known.csv", "evaluate trained data/known.csv"),
        ("classes to tell apart (text)", "data/names.txt", f"{EVALUATE} --classes data/names.txt"),
        ("classes to tell apart (YAML)", "data/classes.yaml", f"{EVALUATE} --classes data/classes.yaml"),
        ("negative names (text)", "data/novel.txt", FITTED),
        ("picture, labelled", PICTURE, f"predict trained {TEST}"),
        ("picture, held out", HELD_OUT, FITTED),
        ("table to check (CSV)", "data/images.csv", "data check data/images.csv"),
        ("class list to check (YAML)", "data/classes.yaml", "data check data/images.csv"),
        ("picture to check", PICTURE, "data check data/folders"),
        *((f"descriptions (.{end})", f"data/descriptions.{end}", f"{aape}.{end}") for end in ("json", "txt", "csv")),
        ("classes to describe (text)", "data/names.txt", f"{DESCRIBE} --dry-run"),
        ("descriptions so far (JSON)", "data/begun.json", f"{DESCRIBE} --output data/begun.json"),
        ("captions (JSON)", "data/captions.json", CAPTIONED),
        ("adapter's record (JSON)", "adapter/adapter.json", CAPTIONED),
        ("adapter's weights", "adapter/adapter.safetensors", CAPTIONED),
        ("open_clip's configuration", "data/clips/oc/open_clip_config.json", f"{other}/oc"),
        ("open_clip's weights", "data/clips/oc/open_clip_model.safetensors", f"{other}/oc"),
        ("transformers' configuration", "data/clips/hf/config.json", f"{other}/hf"),
        ("transformers' preprocessing", "data/clips/hf/preprocessor_config.json", f"{other}/hf"),
        ("transformers' tokenizer", "data/clips/hf/tokenizer.json", f"{other}/hf"),
        ("transformers' weights", "data/clips/hf/model.safetensors", f"{other}/hf"),
    )  # fmt: skip


def write(data: Path) -> None:
    """The files of these ways in, but for what `MADE` makes, into the data folder of a world."""
    _write_texts(data)
    for name in ("oc", "hf"):
        (data / "clips" / name).mkdir(parents=True)
    open_clip_folder(data / "clips" / "oc")
    transformers_folder(data / "clips" / "hf", "siglip")
    said = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    (data / "clips" / "hf" / "preprocessor_config.json").write_text(json.dumps(said))


def _write_texts(data: Path) -> None:
    described = json.loads((data / "descriptions.json").read_text())
    rows = [(name, sentence) for name, some in described.items() for sentence in some]
    (data / "descriptions.txt").write_text("".join(f"{name}: {text}\n" for name, text in rows))
    with (data / "descriptions.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("class", "description"), *rows])
    pictures = [(path, name) for name in toolbox_mini.NAMES for path in _pictures(data, name)]
    with (data / "known.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *pictures])
    (data / "names.txt").write_text("# classes\n" + "\n".join(NAMES) + "\n")
    images = [
        {"filename": path, "split": "test", "sentences": [{"raw": f"a {name}."}, {"raw": name}]}
        for path, name in pictures
    ]
    images += [{**image, "split": "train"} for image in images]
    (data / "captions.json").write_text(json.dumps({"images": images}))
    begun = DescriptionFile(Order("names", [NAMES], 2, data / "begun.json", portion=10), "m")
    begun.content["descriptions"] = {
        name: [f"a {name} sits.", f"{name}, asleep."] for name in NAMES
    }
    begun.save()


def _pictures(data: Path, name: str) -> list[str]:
    folder = data / TEST.removeprefix("data/") / name
    return sorted(str(path.relative_to(data)) for path in folder.glob("*.png"))
