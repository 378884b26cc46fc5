"""What goes wrong with exported classifiers, known pictures, descriptions and adapters."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from products import CAPTIONED, DESCRIBE, EVALUATE, FITTED, PICTURE, TEST
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from text_cases import Edit, behind, replaced
from torch import Tensor

Tensors = dict[str, Tensor]
FileMutation = Callable[[Path, random.Random], None]

KNOWN: Mapping[str, Edit] = {
    "semicolons": lambda text: text.replace(",", ";"),
    "no header": lambda text: text.partition("\n")[2],
    "a header of another program": replaced("path,label", "filename,class"),
    "an empty label": replaced(",beagle", ","),
    "a label of blanks": replaced(",beagle", ",  "),
    "a very long label": replaced(",beagle", "," + "long " * 100),
    "a label that CLIP reads as another": replaced(",beagle", ",Beagle"),
    "a line twice": lambda text: text + text.splitlines()[1] + "\n",
    "a line twice, with ./": lambda text: f"{text}./{text.splitlines()[1]}\n",
    "a line twice, around": lambda text: f"{text}folders/../{text.splitlines()[1]}\n",
    "a picture with two labels": lambda text: text + text.splitlines()[1].rpartition(",")[0] + ",x\n",
    "a picture that is not there": behind("none.png,beagle\n"),
    "a folder as a picture": behind("folders,beagle\n"),
    "no rows": lambda text: "path,label\n",
    "too many fields": replaced(",beagle", ",beagle,test"),
    "an unknown part": lambda text: _with_column(text, "split", ["test", "tset"]),
    "training alone": lambda text: _with_column(text, "split", ["train"]),
    "Split in place of split": lambda text: _with_column(text, "Split", ["test", "train"]),
    "set in place of split": lambda text: _with_column(text, "set", ["test", "train"]),
    "an unknown column": lambda text: _with_column(text, "x", ["1"]),
    "a zero byte in a path": behind("a\0b.png,beagle\n"),
}  # fmt: skip
DESCRIBED: Mapping[str, Edit] = {
    "a class without a description": lambda text: text.replace("beagle", "zebra"),
    "a class in two spellings": lambda text: text + text.replace("beagle", "Beagle"),
    "a sentence of 2,000 words": replaced("a small beagle.", "word " * 2000),
    "a sentence of 100 words": replaced("a small beagle.", "word " * 100),
    "no separator": lambda text: text.replace(":", " ").replace(",", " "),
    "no name": replaced("beagle", ""),
    "bytes that are no text": replaced("a small beagle.", "\udcff"),
    "a zero byte in a sentence": replaced("a small beagle.", "a\0b"),
    "comments alone": lambda text: "# nothing\n",
}
LINES: Mapping[str, Mapping[str, Edit]] = {
    "known pictures (CSV)": KNOWN,
    "descriptions (.txt)": DESCRIBED,
    "descriptions (.csv)": {
        **DESCRIBED,
        "no header": lambda text: text.partition("\n")[2],
        "a header of another program": replaced("class,description", "a,b"),
        "a field more": replaced("a small beagle.", "a small beagle.,x"),
    },
}
"""By the way in."""


def _with_column(text: str, name: str, values: list[str]) -> str:
    header, *rows = text.splitlines()
    cells = [f"{row},{values[i % len(values)]}" for i, row in enumerate(rows)]
    return "\n".join([f"{header},{name}", *cells, ""])


def _changed(change: Callable[[Tensors, str], Tensors]) -> FileMutation:
    """Of the tensors in a file: what `change` makes of them and the name of one."""

    def mutate(file: Path, rng: random.Random) -> None:
        tensors = load_file(file)
        with safe_open(file, framework="pt") as opened:
            hashes = opened.metadata()
        floating = [name for name, value in tensors.items() if value.is_floating_point()]
        name = rng.choice(sorted(floating))
        file.unlink()
        save_file({k: v.contiguous() for k, v in change(tensors, name).items()}, file, hashes)

    return mutate


TENSORS: Mapping[str, FileMutation] = {
    "not a number": _changed(lambda all, name: {**all, name: all[name] * float("nan")}),
    "infinity": _changed(lambda all, name: {**all, name: all[name] + float("inf")}),
    "another shape": _changed(lambda all, name: {**all, name: torch.zeros(3, 5)}),
    "a row less": _changed(lambda all, name: {**all, name: all[name][:-1]}),
    "no dimensions": _changed(lambda all, name: {**all, name: torch.tensor(1.0)}),
    "whole numbers": _changed(lambda all, name: {**all, name: all[name].long()}),
    "truth values": _changed(lambda all, name: {**all, name: all[name] > 0}),
    "other numbers": _changed(lambda all, name: {**all, name: all[name] + 0.5}),
    "the classes in another order": _changed(lambda all, name: {k: v.flip(0) for k, v in all.items()}),
    "one missing": _changed(lambda all, name: {k: v for k, v in all.items() if k != name}),
    "one more": _changed(lambda all, name: {**all, "more": torch.zeros(2)}),
    "one under another name": _changed(lambda all, name: {k.replace(name, f"{name}2"): v for k, v in all.items()}),
    "nothing": _changed(lambda all, name: {}),
}  # fmt: skip
"""Of a file of safetensors."""

WORDS: Mapping[str, str] = {
    **{
        f"{command} of {what}": f"{command} {model} {TEST}"
        for command in ("predict", "evaluate")
        for what, model in (
            ("nothing", "none"),
            ("a file", "data/clip.pt"),
            ("a folder without a training", "data"),
            ("a path that is too long", "x/" * 3000),
            ("a home that nobody has", "~nobodyhasthis/x"),
        )
    },
    **{
        f"{command} with {what}": f"{command} trained {TEST} {more}"
        for command in ("predict", "evaluate")
        for what, more in (
            ("a CLIP that is not there", "--clip none.pt"),
            ("another CLIP", "--clip pocket"),
            ("a CLIP that is a picture", f"--clip {PICTURE}"),
            ("classes that are not there", "--classes none.txt"),
            ("classes in a binary", "--classes data/clip.pt"),
            ("classes in a picture", f"--classes {PICTURE}"),
            ("a class without a name", "--add="),
            ("a class twice", "--add zebra --add Zebra"),
            ("a class that is there", "--add beagle"),
            ("a class with a long name", f"--add {'long-' * 100}"),
            ("no held-out pictures", "--calibrate --held-out none"),
            ("held-out pictures of no class", "--calibrate --held-out data/oxford_pets"),
            ("negative names that are classes", "--unknown --held-out data/folders/val --novel data/names.txt"),
            ("negative names that are not there", "--unknown --held-out data/folders/val --novel none.txt"),
            ("negative names in a picture", f"--unknown --held-out data/folders/val --novel {PICTURE}"),
        )
    },
    "predict no pictures": "predict trained data/oxford_pets/none",
    "predict an empty name": "predict trained ",
    "predict texts": "predict trained data/images.csv",
    "predict into a folder": f"predict trained {TEST} --csv data",
    "predict below a file": f"predict trained {TEST} --json data/clip.pt/x.json",
    "predict no classes": f"predict trained {TEST} --top 0",
    "predict less than no classes": f"predict trained {TEST} --top -3",
    "sort into a file": f"predict trained {TEST} --sort-into data/clip.pt",
    "sort below a file": f"predict trained {TEST} --sort-into data/clip.pt/x",
    "evaluate no pictures": "evaluate trained none",
    "evaluate a picture": f"evaluate trained {PICTURE}",
    "evaluate loose pictures": f"evaluate trained {TEST}/beagle",
    "evaluate into a file": f"{EVALUATE} --output data/clip.pt",
    "export nothing": "export none --to new",
    "export to what is there": "export trained --to data",
    "export below a file": "export trained --to data/clip.pt/x",
    "export to a name that is too long": f"export trained --to {'x' * 300}",
    "export ONNX without pictures": "export trained --to x.onnx --onnx",
    "export ONNX with no pictures": "export trained --to x.onnx --onnx --pictures none",
    "export a format that is none": "export trained --to x --format keras",
    "export an export to itself": "export exported --to exported",
    "check nothing": "data check none",
    "check a picture": f"data check {PICTURE}",
    "check an empty name": "data check=",
    "check with classes that are not there": "data check data/images.csv --classes none.yaml",
    "captions that are not there": CAPTIONED.replace("captions", "none"),
    "captions of no split": f"{CAPTIONED} --split none",
    "captions of an empty split": f"{CAPTIONED} --split=",
    "captions' images that are not there": f"{CAPTIONED} --images none",
    "a demo of no style": CAPTIONED.replace("data/captions.json", "demo:none"),
    "captions with another CLIP": CAPTIONED.replace("data/clip.pt", "pocket"),
    "captions with a training of CoOp": CAPTIONED.replace("--aape adapter", "--aape trained"),
    "captions with no adapter": CAPTIONED.replace("--aape adapter", "--aape data"),
    "figures of captions into a folder": f"{CAPTIONED} --output data",
    "an adapter of one epoch less": "retrieval train data/captions.json --clip data/clip.pt --output new --epochs 0",
    "an adapter with a rate that is no number": "retrieval train data/captions.json --clip data/clip.pt --output new --lr nan",
    "an adapter with a rate without end": "retrieval train data/captions.json --clip data/clip.pt --output new --lr inf",
    "an adapter with a great rate": "retrieval train data/captions.json --clip data/clip.pt --output new --lr 1e30",
    "an adapter with a weight without end": "retrieval train data/captions.json --clip data/clip.pt --output new --reward-weight inf",
    "an adapter with a weight that is no number": "retrieval train data/captions.json --clip data/clip.pt --output new --distill-weight nan",
    "an adapter with a negative seed": "retrieval train data/captions.json --clip data/clip.pt --output new --seed -1 --epochs 1",
    "an adapter with a huge seed": f"retrieval train data/captions.json --clip data/clip.pt --output new --seed {'9' * 30}",
    "an adapter into a file": "retrieval train data/captions.json --clip data/clip.pt --output data/clip.pt",
    "describe nothing": "describe generate --dry-run",
    "describe two things": f"{DESCRIBE} --dataset OxfordPets --dry-run",
    "describe an unknown dataset": "describe generate --dataset none --dry-run",
    "describe without a model": "describe generate --classes data/names.txt",
    "describe by nobody": f"{DESCRIBE} --output new.json",
    "describe by no address": f"{DESCRIBE.replace('http://127.0.0.1:9/v1', 'zzz')} --output new.json",
    "describe into a folder": f"{DESCRIBE} --output data",
    "describe below a file": f"{DESCRIBE} --output data/clip.pt/x.json",
    "describe no times": f"{DESCRIBE} --dry-run --count 0",
    "unknown names among the classes": FITTED.replace("data/novel.txt", "data/names.txt"),
}  # fmt: skip
"""What is wrong with a command line of these commands."""
