"""Trees of settings and their dotted keys."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sar.settings.trees import dotted

KEYS = st.text("ABC_1", min_size=1, max_size=3)
LEAVES = st.none() | st.integers() | st.text() | st.lists(st.integers())


def test_order_and_empty_nodes() -> None:
    tree = {"B": 1, "A": {"Y": [2], "X": {"Z": ""}, "NONE": {}}, "C": None}
    assert list(dotted(tree).items()) == [("B", 1), ("A.Y", [2]), ("A.X.Z", ""), ("C", None)]


@given(st.dictionaries(KEYS, st.recursive(LEAVES, lambda node: st.dictionaries(KEYS, node))))
def test_every_key_leads_to_its_leaf(tree: dict[str, Any]) -> None:
    def count(node: Any) -> int:
        return sum(map(count, node.values())) if isinstance(node, dict) else 1

    leaves = dotted(tree)
    assert len(leaves) == count(tree)
    for key, leaf in leaves.items():
        node: Any = tree
        for part in key.split("."):
            node = node[part]
        assert node == leaf
