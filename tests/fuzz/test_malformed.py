"""Malformed inputs over all ways in: each is one clear line, or accepted for a reason."""

from __future__ import annotations

import pytest
from measure import SEED, measure


@pytest.mark.slow
def test_each_malformed_input_is_one_line_or_accepted_for_a_reason() -> None:
    found = list(measure(SEED))
    bad = [f"{trial.verdict}: {trial.what}" for trial in found if not trial.good]
    assert not bad, "\n".join(bad)
    assert len(found) >= 700
