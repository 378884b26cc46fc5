"""Faults of the machine: one clear line each, or the work is done all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine import FAULTS, Fault, meet
from measure import prepare


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("machine"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting and other users take root")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_of_the_machine_is_one_line(fault: Fault, world: Path, public: Path) -> None:
    verdict, ended = meet(fault, world, public)
    assert verdict.good, (verdict, ended.status, ended.err[-2000:])
