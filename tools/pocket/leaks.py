"""Pretraining drawings that show a demo drawing under another name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from copies import likeness
from torch import Tensor

LEAK = 0.95  # correlation of ink above which two drawings are one picture


def leaked(roles: Sequence[str], features: Tensor, batch: int = 1024) -> list[int]:
    """Numbers of the pretraining drawings that are copies of a demo drawing of any name."""
    demo = torch.tensor([n for n, role in enumerate(roles) if role in ("pool", "test", "shift")])
    seen = torch.tensor([n for n, role in enumerate(roles) if role == "pretrain"])
    held = features[demo].bfloat16()
    near = [likeness(features[part].bfloat16(), held).amax(1) for part in seen.split(batch)]
    highest = torch.cat(near)
    close = seen[highest.float() > LEAK - 0.02]  # half precision finds them, single decides
    held = features[demo].float()
    exact = [likeness(features[part].float(), held).amax(1) for part in close.split(batch)]
    return close[torch.cat(exact) > LEAK].tolist() if exact else []
