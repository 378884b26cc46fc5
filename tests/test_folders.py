"""Output folders and protocol.json: what is written is what is read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar.errors import ConfigError, DataError
from sar.results.folders import RunKey, locate
from sar.results.protocol import ProtocolRecord, read_protocol, record_protocol

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_+]{0,12}", fullmatch=True)
KEYS = st.builds(RunKey, NAMES, NAMES, NAMES, st.integers(1, 64), st.integers(1, 9))


@given(KEYS, st.sampled_from(["", "weight_0.25"]))
def test_folders_are_read_back(key: RunKey, variant: str):
    key = RunKey(key.dataset, key.trainer, key.cfg, key.shots, key.seed, variant)
    root = Path("/out/here")
    folders = {"all": key.all_classes_folder(), "evaluation": key.evaluation_folder()}
    folders |= {p: key.base_to_new_folder(p) for p in ("train_base", "test_base", "test_new")}
    for part, folder in folders.items():
        place = locate(root / folder, variants=root if variant else None)
        assert place is not None
        assert (place.key, place.part) == (key, part)


def test_layout_of_the_existing_scripts():
    for path, part, dataset in (
        ("output/imagenet/CoOp/vit_b16_ep50_16shots/nctx16_cscFalse/seed1", "all", "imagenet"),
        ("output/evaluation/MaPLe/c2_16shots/dtd/seed1", "evaluation", "dtd"),
        ("output/evaluation/CoOp/rn50_16shots/nctx16_ctpend/dtd/seed2", "evaluation", "dtd"),
    ):
        place = locate(Path(path))
        assert place is not None
        assert (place.part, place.key.dataset) == (part, dataset)


def protocol(**changes) -> ProtocolRecord:
    fields = {"protocol": "few-shot", "datasets": ["a"], "trainers": ["CoOp"], "seeds": [1]}
    return ProtocolRecord(**{**fields, "shots": [16], **changes})


def test_several_starts_add_up(tmp_path):
    changes = [{"datasets": [f"d{i}"], "seeds": [i], "shots": [2**i]} for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda change: record_protocol(tmp_path, protocol(**change)), changes))
    found = read_protocol(tmp_path)
    assert found is not None
    assert sorted(found.datasets) == [f"d{i}" for i in range(5)]
    assert (found.seeds, found.shots) == ([0, 1, 2, 3, 4], [1, 2, 4, 8, 16])


def test_folder_of_another_protocol_is_refused(tmp_path):
    record_protocol(tmp_path, protocol(protocol="cross-dataset", source="imagenet"))
    with pytest.raises(ConfigError, match=r"cross-dataset.*choose another --output"):
        record_protocol(tmp_path, protocol())
    with pytest.raises(ConfigError, match="source imagenet, not demo_food"):
        record_protocol(tmp_path, protocol(protocol="cross-dataset", source="demo_food"))
    assert read_protocol(tmp_path / "empty") is None
    (tmp_path / "protocol.json").write_text(json.dumps({"protocol": "x", "shards": 3}))
    with pytest.raises(DataError, match=r"cannot read .*protocol\.json.*shards"):
        read_protocol(tmp_path)
