"""configs/trainers against the field's published settings, and against the checkouts' own files."""

from pathlib import Path
from typing import Any

import pytest
from hosts_at_hand import CHECKOUTS, HOSTS, needs_checkouts

from sar.protocols.configs import settings
from sar.toolbox.clip import find_backbone

CONFIGS = Path(__file__).parent.parent / "configs" / "trainers"
WORDS = "a photo of a"
# What every published configuration has; PRINT_FREQ and the like are compared with the checkouts.
COMMON = {
    "INPUT.INTERPOLATION": "bicubic",
    "INPUT.TRANSFORMS": ["random_resized_crop", "random_flip", "normalize"],
    "DATALOADER.TEST.BATCH_SIZE": 100,
    "OPTIM.NAME": "sgd",
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": "1e-5",
}
GPA = ("TRAINER.PROMPTSRC.GPA_MEAN", "TRAINER.PROMPTSRC.GPA_STD")
DEPTHS = ("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT")
SRC = {
    **{f"TRAINER.PROMPTSRC.N_CTX_{side}": 4 for side in ("VISION", "TEXT")},
    "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT": 25,
    "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT": 10,
}
# File: learning rate, epochs, batch size, further keys.
TABLE: dict[str, tuple[float, int, int, dict[str, Any]]] = {
    "CoOp/vit_b16_ctxv1": (0.002, 200, 32, {"TRAINER.COOP.CTX_INIT": WORDS}),
    "CoOp/vit_b16_ep50_ctxv1": (0.002, 50, 32, {"TRAINER.COOP.CTX_INIT": WORDS}),
    "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1": (0.002, 10, 1, {"TRAINER.COCOOP.CTX_INIT": WORDS}),
    "KgCoOp/vit_b16_ep100_ctxv1": (
        *(0.002, 100, 128),
        {"TRAINER.COOP.CTX_INIT": WORDS, "TRAINER.COOP.W": 8.0},
    ),
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx": (
        *(0.0035, 5, 4),
        {"TRAINER.MAPLE.N_CTX": 2, "TRAINER.MAPLE.PROMPT_DEPTH": 9},
    ),
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets": (
        *(0.0026, 2, 4),
        {"TRAINER.MAPLE.N_CTX": 2, "TRAINER.MAPLE.PROMPT_DEPTH": 3},
    ),
    "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx": (
        *(0.0025, 20, 4),
        SRC | dict.fromkeys(DEPTHS, 9) | dict(zip(GPA, (15, 1), strict=True)),
    ),
    "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets": (
        *(0.0025, 20, 4),
        SRC | dict.fromkeys(DEPTHS, 3) | dict(zip(GPA, (6, 10), strict=True)),
    ),
}
# What the published shell scripts set beside these files, or KgCoOp's code in place of them.
COOPS = {
    "TRAINER.COOP.CSC": False,
    "TRAINER.COOP.CLASS_TOKEN_POSITION": "end",
    "TRAINER.COOP.PREC": "fp16",
}
BESIDE = {
    "CoOp": COOPS | {"TRAINER.COOP.N_CTX": 16},
    "KgCoOp": COOPS | {"TRAINER.COOP.W": 8.0, "TRAINER.COOP.CTX_INIT": WORDS},
}


@pytest.mark.parametrize("file", TABLE)
def test_published_values(file: str) -> None:
    rate, epochs, batch, more = TABLE[file]
    expected = {
        **COMMON,
        "OPTIM.LR": rate,
        "OPTIM.MAX_EPOCH": epochs,
        "DATALOADER.TRAIN_X.BATCH_SIZE": batch,
        "MODEL.BACKBONE.NAME": "ViT-B/16",
        **more,
    }
    found = settings([CONFIGS / f"{file}.yaml"])
    assert {key: found[key] for key in expected} == expected


@needs_checkouts
@pytest.mark.parametrize("method", ["CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC"])
def test_files_are_those_of_the_checkout(method: str) -> None:
    """Every key, but for those that a `ctxv1` context does without."""
    checkout = Path(HOSTS, CHECKOUTS.get(method, "CoOp"), "configs", "trainers", method)
    compared = 0
    for file in sorted((CONFIGS / method).glob("*.yaml")):
        if file.stem in ("pocket", "protocols"):
            continue
        theirs = settings([checkout / file.name])
        clip = find_backbone(theirs["MODEL.BACKBONE.NAME"])
        assert theirs.pop("INPUT.SIZE") == str((clip.resolution, clip.resolution))
        assert theirs.pop("INPUT.PIXEL_MEAN") == list(clip.mean)
        assert theirs.pop("INPUT.PIXEL_STD") == list(clip.std)
        theirs |= BESIDE.get(method, {})
        if WORDS in theirs.values() and method in ("CoOp", "CoCoOp", "KgCoOp"):
            theirs.pop(f"TRAINER.{'COCOOP' if method == 'CoCoOp' else 'COOP'}.N_CTX", None)
        assert settings([file]) == theirs, file.name
        compared += 1
    assert compared >= 2
