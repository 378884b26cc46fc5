"""Draw docs/idea.png: class similarities under hand-crafted, CoOp's and SAR_CoOp's prompts.

    python tools/plot_idea.py output/base2new demo_food 1

Uses the prompts that a finished main job has trained (dataset, seed) and the pocket CLIP.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from torch.nn import functional as F

from sar.encoding import encode_prompts, encode_tokens
from sar.toolbox.clip import load_clip, tokenize
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data import build_dataset
from sar.toolbox.train import register_builtin
from sar.toolbox.utils import load_checkpoint

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]


def learned_context(output: Path, dataset: str, trainer: str, seed: int) -> Tensor:
    """(n_ctx, d) context of the last checkpoint of a finished training."""
    folder = output / "train_base" / dataset / "shots_16" / trainer / "pocket" / f"seed{seed}"
    files = sorted(folder.glob("prompt_learner/model.pth.tar-*"), key=lambda f: int(f.suffix[5:]))
    if not files:
        raise SystemExit(f"no trained prompts in {folder}; run scripts/sar/base2new.sh first")
    return load_checkpoint(str(files[-1]))["state_dict"]["ctx"]


def similarities(features: Tensor) -> Tensor:
    unit = F.normalize(features, dim=-1)
    return unit @ unit.T


@torch.no_grad()
def matrices(output: Path, dataset: str, seed: int) -> tuple[list[str], dict[str, Tensor]]:
    clip_model = load_clip("pocket")
    cfg = get_cfg_default()
    cfg.merge_from_file(str(ROOT / "configs" / "datasets" / f"{dataset}.yaml"))
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.VERBOSE = "new", False
    register_builtin()
    names = build_dataset(cfg).classnames
    reference = tokenize([f"a photo of a {name}." for name in names])
    found = {
        "hand-crafted": similarities(
            encode_tokens(clip_model, clip_model.token_embedding, reference)
        )
    }
    bare = tokenize([f"{name}." for name in names])
    embedded = clip_model.token_embedding(bare)
    for trainer in ("CoOp", "SAR_CoOp"):
        context = learned_context(output, dataset, trainer, seed)
        room = embedded.shape[1] - len(context)
        shared = context.expand(len(names), -1, -1)
        prompts = torch.cat([embedded[:, :1], shared, embedded[:, 1:room]], 1)
        eot = bare.argmax(-1) + len(context)
        features = encode_prompts(clip_model, prompts, eot, shared=1 + len(context))
        found[trainer] = similarities(features)
    return names, found


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw docs/idea.png.")
    parser.add_argument("output", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("seed", type=int)
    parser.add_argument("--file", type=Path, default=ROOT / "docs" / "idea.png")
    args = parser.parse_args()
    names, found = matrices(args.output, args.dataset, args.seed)
    reference = found["hand-crafted"]
    # Similar classes next to each other: order by the graph Laplacian's second eigenvector.
    affinity = (reference / 0.1).exp()
    laplacian = torch.diag(affinity.sum(1)) - affinity
    order = torch.linalg.eigh(laplacian).eigenvectors[:, 1].argsort()
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.6), constrained_layout=True)
    off_diagonal = ~torch.eye(len(names), dtype=torch.bool)
    for axis, (title, matrix) in zip(axes, found.items(), strict=True):
        shown = matrix[order][:, order].clone()
        shown.fill_diagonal_(float("nan"))
        image = axis.imshow(shown, vmin=-0.3, vmax=0.7, cmap="viridis", interpolation="nearest")
        agreement = torch.corrcoef(torch.stack([reference[off_diagonal], matrix[off_diagonal]]))[
            0, 1
        ]
        axis.set_title(
            title if title == "hand-crafted" else f"{title} (correlation {agreement:.2f})"
        )
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(image, ax=axes, shrink=0.8, label="cosine similarity")
    figure.suptitle(f"How similar the {len(names)} unseen classes of {args.dataset} are, by prompt")
    figure.savefig(args.file, dpi=110)
    print(f"wrote {args.file}")


if __name__ == "__main__":
    main()
