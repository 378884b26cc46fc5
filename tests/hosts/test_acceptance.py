"""The SAR plug-in inside the real checkouts, as docs/hosts.md claims it (see acceptance.py)."""

from pathlib import Path

import pytest
from acceptance import CHECKS, METHODS, Trial, World, pair
from hosts_at_hand import HOSTS, needs_dassl

pytestmark = [needs_dassl, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(Path(HOSTS).resolve(), tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=METHODS)
def trials(request: pytest.FixtureRequest, world: World) -> tuple[Trial, Trial]:
    original, embedded = pair(world, METHODS[request.param]).values()
    return original, embedded


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.title)
def test_on_the_original_dassl(trials: tuple[Trial, Trial], check) -> None:
    original, embedded = trials
    if not check.when(original):
        pytest.skip("a resumed PromptSRC run loses its average over the epochs, see docs/hosts.md")
    assert check.holds(original, embedded)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.title)
def test_on_the_embedded_toolbox(trials: tuple[Trial, Trial], check) -> None:
    original, embedded = trials
    if not check.when(embedded):
        pytest.skip("a resumed PromptSRC run loses its average over the epochs, see docs/hosts.md")
    assert check.holds(embedded, original)
