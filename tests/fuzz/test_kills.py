"""Killed trainings end as those that were not killed."""

import pytest
from kills import measure


@pytest.mark.slow
def test_killed_trainings_end_in_the_same_weights() -> None:
    trials = measure(kills=100)
    assert len(trials) == 100
    assert [trial.what for trial in trials if not trial.good] == []
