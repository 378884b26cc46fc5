"""Malformed inputs over all ways in: each is one clear line, or accepted for a reason."""

from __future__ import annotations

from collections import Counter

import pytest
from measure import SEED, measure
from running import Verdict


@pytest.mark.slow
def test_each_malformed_input_is_one_line_or_accepted_for_a_reason() -> None:
    found = list(measure(SEED))
    counts: Counter[Verdict] = Counter(verdict for _, verdict, _ in found)
    bad = [f"{verdict.value}: {case}" for case, verdict, _ in found if not verdict.good]
    assert not bad, "\n".join(bad)
    assert counts.total() >= 700
