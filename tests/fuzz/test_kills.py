"""Killed trainings end as those that were not killed."""

import pytest
from kills import measure


@pytest.mark.slow
def test_killed_trainings_end_in_the_same_weights() -> None:
    killed, good = measure(kills=100)
    assert killed == good == 100
