"""Causal self-attention of rows in the order of `layout`: two ways to the same result.

On a CPU, `WrittenOut` attends to the shared rows where they are. scaled_dot_product_attention would
need them copied for each class, and takes up to twice the time there.

On an accelerator small operations cost the time of their launch, whatever they compute. `Fused` has
a quarter as many: the shared rows are copied in front of each class, and one kernel serves a
bucket.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sar.encoding.layout import Layout

Attention = Callable[[Tensor], Tensor]
"""Queries, keys and values (G, T, 3, heads, e) of all rows -> (G, T, heads * e)."""


def build_attention(layout: Layout) -> Attention:
    """The quicker one where the layout's tensors are."""
    return (WrittenOut if layout.source.device.type == "cpu" else Fused)(layout)


class WrittenOut:
    """Matrix products, softmax and masks."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        device = layout.source.device
        self.future = [  # (S, S), True where a key stands behind the query
            torch.ones(s, s, dtype=torch.bool, device=device).triu(1) for _, s in layout.sizes
        ]

    def __call__(self, qkv: Tensor) -> Tensor:
        buckets = [part.permute(2, 0, 3, 1, 4) for part in qkv.split(self.layout.rows, 1)]
        _, keys, values = buckets[0].unbind()  # (G, heads, P, e)
        prefix_keys, prefix_values = keys.transpose(2, 3).flatten(0, 1), values.flatten(0, 1)
        given = [(prefix_keys[..., :0], prefix_values[:, :0])]
        given += [(prefix_keys, prefix_values)] * (len(buckets) - 1)
        attended = [self._attend(i, bucket, *given[i]) for i, bucket in enumerate(buckets)]
        return torch.cat(attended, dim=1)

    def _attend(self, i: int, qkv: Tensor, prefix_keys: Tensor, prefix_values: Tensor) -> Tensor:
        """A bucket (3, G, heads, n*S, e), prefix (G*heads, e, P) and (G*heads, P, e).

        Returns (G, n*S, heads*e). Matrix products are of `torch.bmm`, on as few copies as it needs:
        einsum takes a sixth longer for what are the same numbers.
        """
        n, length = self.layout.sizes[i]
        q, k, v = qkv.unbind()  # (G, heads, n*S, e)
        groups, heads, rows, e = q.shape
        many = groups * heads * n
        q = q.contiguous()
        v = v.reshape(many, length, e)
        k = k.unflatten(2, (n, length)).transpose(3, 4).reshape(many, e, length)
        to_prefix = torch.bmm(q.view(groups * heads, rows, e), prefix_keys)
        to_own = torch.bmm(q.view(many, length, e), k)
        to_own = to_own.masked_fill(self.future[i], float("-inf"))
        shared = prefix_keys.shape[2]
        scores = torch.cat([to_prefix.view(many, length, shared), to_own], dim=-1) * e**-0.5
        on_prefix, on_own = scores.softmax(dim=-1).split([shared, length], dim=-1)
        out = torch.bmm(on_prefix.reshape(groups * heads, rows, shared), prefix_values)
        out = out.view(many, length, e) + torch.bmm(on_own, v)
        return out.view(groups, heads, rows, e).transpose(1, 2).flatten(2)


class Fused:
    """scaled_dot_product_attention, with the shared rows in front of every class."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, qkv: Tensor) -> Tensor:
        prefix, *others = qkv.split(self.layout.rows, 1)
        _, *buckets = self.layout.sizes
        attended = [
            self._attend(prefix, part, n) for (n, _), part in zip(buckets, others, strict=True)
        ]
        whole = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
        return whole.index_select(1, self.layout.attended)

    def _attend(self, prefix: Tensor, own: Tensor, n: int) -> Tensor:
        """(G, P, 3, heads, e), (G, n*S, 3, heads, e) -> (G, n*(P+S), heads*e), prefix included."""
        repeated = prefix.unsqueeze(1).expand(-1, n, -1, -1, -1, -1)
        rows = torch.cat([repeated, own.unflatten(1, (n, -1))], dim=2)  # (G, n, P+S, 3, heads, e)
        q, k, v = (part.transpose(1, 2) for part in rows.flatten(0, 1).unbind(2))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (G*n, heads, P+S, e)
        return out.transpose(1, 2).flatten(2).unflatten(0, (-1, n)).flatten(1, 2)
