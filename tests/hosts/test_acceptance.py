"""The SAR plug-in inside the real checkouts, as docs/hosts.md claims it (see acceptance.py)."""

from pathlib import Path

import pytest
from acceptance import BEGIN, DOCUMENT, END, NO, merged
from checks import CHECKS, Tried, checks_of, trials
from hosts_at_hand import HOSTS as FOLDER
from hosts_at_hand import needs_dassl
from records import HOSTS, Host
from tabulate import tabulate
from world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(Path(FOLDER).resolve(), tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=HOSTS.values(), ids=lambda host: host.trainer)
def tried(request: pytest.FixtureRequest, world: World) -> list[Tried]:
    if missing := world.missing(request.param):
        pytest.skip(missing)
    return trials(world, request.param)


CLAIMS = {check.title: check for host in HOSTS.values() for check in checks_of(host)}


@needs_dassl
@pytest.mark.slow
@pytest.mark.parametrize("title", CLAIMS)
def test_claim(tried: list[Tried], title: str) -> None:
    check, host = CLAIMS[title], tried[0].host
    if check not in checks_of(host):
        pytest.skip(f"{host.trainer} is {'refused' if host.refused else 'not refused'}")
    asked = [trial for trial in tried if check.when(trial)]
    if not asked:
        pytest.skip(host.no_resume or f"{host.trainer} is not tried on two toolboxes")
    for trial in asked:
        assert check.holds(trial), trial.toolbox


def test_a_checkout_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "mine" / "sub" / "train.py").touch()
    world = World.__new__(World)
    world.hosts = tmp_path
    host = Host("X", "mine/sub", "x.yaml", "")
    assert host.repository == "mine"
    assert world.missing(host) == ""
    other = Host("X", "other", "x.yaml", "", dassl=("Dassl.pytorch",))
    assert world.missing(other) == (f"{tmp_path} has no other/train.py and no Dassl.pytorch/dassl")


def names_in(table: str) -> list[str]:
    """The first cells of its rows, without the header."""
    return [line.split(" ")[1] for line in table.splitlines() if line.startswith("| ")][1:]


def test_a_partial_run_keeps_the_other_rows() -> None:
    first, second, *others = HOSTS
    rows = [[name, "a checkout", "embedded", "?", *["yes"] * len(CHECKS)] for name in HOSTS]
    old = tabulate(rows[2:], [""] * len(rows[0]), tablefmt="github")
    changed = [*rows[3][:4], *["**no**"] * len(CHECKS)]
    written = merged(f"above {BEGIN}\n{old}\n{END} below", [changed, rows[0]])
    assert written.startswith(f"above {BEGIN}")
    assert written.endswith(f"{END} below")
    assert names_in(written) == [first, *others]
    assert second not in names_in(written)
    assert written.count("**no**") == len(CHECKS)
    assert merged(written, [changed]) == written


def test_the_table_is_of_the_records_and_without_failure() -> None:
    written = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert names_in(written) == list(HOSTS)
    assert NO not in written
