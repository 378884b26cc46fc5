"""How far one distribution over classes is from another, given logits."""

import torch.nn.functional as F
from torch import Tensor


def row_kl(target: Tensor, ours: Tensor, reduction: str = "batchmean") -> Tensor:
    """KL(softmax(target) || softmax(ours)) of the rows of two matrices (R, C) of logits.

    reduction: "batchmean" is the mean over the rows, "sum" their sum; "none" keeps the terms of
    these sums, (R, C).
    """
    learned, expected = F.log_softmax(ours, dim=1), F.log_softmax(target, dim=1)
    return F.kl_div(learned, expected, log_target=True, reduction=reduction)
