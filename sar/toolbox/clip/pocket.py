"""The pocket CLIP: OpenAI's CLIP structure, small enough to be committed and to train on two cores.

Text: CLIP's tokenizer, causal transformer, EOT pooling. Image: CLIP's VisionTransformer (class
token, pre- and post-norm, so that visual prompts work as on ViT-B/16), whose patch embedding
`conv1` is a small convolutional stem instead of one large convolution; a plain patch embedding
needs far more pictures than there are. How it was trained: `docs/pocket-clip.md`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sar.errors import WeightsError
from sar.toolbox.clip.openai import CLIP

POCKET_FILE = Path(__file__).with_name("pocket.safetensors")
RESOLUTION = 40  # pixels per side of the input
GRID = 5  # patches per side
HEADS = (2, 3)  # of the image and the text transformer
SHAPE = {
    "embed_dim": 192,
    "image_resolution": RESOLUTION,
    "vision_layers": 3,
    "vision_width": 128,
    "vision_patch_size": RESOLUTION // GRID,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 192,
    "transformer_heads": HEADS[1],
    "transformer_layers": 3,
}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, inside: int, outside: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(inside, outside, 3, stride, 1)
        self.norm_a = norm(outside)
        self.conv_b = nn.Conv2d(outside, outside, 3, 1, 1)
        self.norm_b = norm(outside)
        self.shortcut: nn.Module = (
            nn.Identity()
            if stride == 1 and inside == outside
            else nn.Conv2d(inside, outside, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_a(self.conv_a(x)))
        return torch.relu(self.norm_b(self.conv_b(y)) + self.shortcut(x))


class ConvStem(nn.Module):
    """Takes the place of CLIP's `visual.conv1`: (B, 3, 40, 40) -> (B, width, 5, 5).

    `norm` is BatchNorm2d while the pocket CLIP is trained; the stored weights have it folded into
    the convolutions, so that a frozen encoder gives the same features in train and eval mode.
    """

    def __init__(self, width: int, norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 5, 2, 2)
        self.norm = norm(32)
        self.blocks = nn.Sequential(
            ResidualBlock(32, 64, 2, norm),
            ResidualBlock(64, 96, 1, norm),
            ResidualBlock(96, 192, 2, norm),
        )
        self.project = nn.Conv2d(192, width, 1)

    @property
    def weight(self) -> Tensor:
        """CLIP reads its dtype from `visual.conv1.weight`."""
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.blocks(torch.relu(self.norm(self.conv(x)))))


def build_pocket(norm: type[nn.Module] = nn.Identity) -> nn.Module:
    """A randomly initialized pocket CLIP in fp32: clip's own `CLIP` with the stem put in."""
    model = CLIP(**SHAPE)
    model.visual.conv1 = ConvStem(SHAPE["vision_width"], norm)
    return model


def expand(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The fp32 state dict of `build_pocket()` from weights at rest.

    At rest they are fp16, and the token embedding (V, d) is kept as its two factors, rows (V, r)
    and columns (r, d): a full table would be more than all the rest together.
    """
    state = {name: tensor.float() for name, tensor in stored.items()}
    rows, columns = state.pop("token_embedding.rows"), state.pop("token_embedding.columns")
    state["token_embedding.weight"] = rows @ columns
    return state


def load_pocket(file: Path = POCKET_FILE) -> nn.Module:
    """The trained pocket CLIP, fp32, eval mode, on CPU. Leaves the global random state alone.

    Raises WeightsError when the weights file is missing or does not fit.
    """
    if not file.is_file():
        raise WeightsError(
            f"no pocket CLIP weights at {file}; reinstall the package, or train them with "
            "tools/pocket/train.py"
        )
    with torch.random.fork_rng(devices=[]):
        model = build_pocket()
    try:
        model.load_state_dict(expand(load_file(file)))
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{file} does not hold pocket CLIP weights ({error}); reinstall the package"
        ) from error
    return model.eval()
