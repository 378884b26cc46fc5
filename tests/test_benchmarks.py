"""The benchmarks measure what they say."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from measuring import NAMES, SavedForBackward, encode_77, spread
from parts import Parts

from sar.encoding import encode_prompts
from sar.toolbox.clip import CLIP, tokenize


@pytest.mark.parametrize("deep", [0, 2])
@pytest.mark.parametrize("groups", [(), (2,)])
def test_both_text_encoders_give_the_same(groups, deep):
    """Features, and gradients of prompts and deep prompts."""
    torch.manual_seed(0)
    model = CLIP(32, 32, 1, 64, 32, 77, 49408, 64, 1, 4).requires_grad_(False)
    tokens = tokenize([f"X X {name}." for name in spread(NAMES, 5)])
    prompts = model.token_embedding(tokens).expand(*groups, -1, -1, -1).clone()[..., :20, :]
    prompts.requires_grad_()
    deep_prompts = [torch.randn(2, 64, requires_grad=True) for _ in range(deep)]
    results = []
    for encode, shared in ((encode_77, 0), (encode_prompts, 3)):
        eot = tokens.argmax(dim=1)
        features = encode(model, prompts, eot, shared=shared, deep_prompts=deep_prompts)
        gradients = torch.autograd.grad(features.square().sum(), [prompts, *deep_prompts])
        # The shared positions' gradient belongs to all classes together.
        first, *others = gradients
        results.append([features, first[..., :3, :].sum(dim=-3), first[..., 3:, :], *others])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() < 1e-4 * expected.norm()


def test_memory_counts_each_storage_once_and_no_weights():
    weight, x = torch.nn.Parameter(torch.ones(10, 10)), torch.ones(10, 10, requires_grad=True)
    with SavedForBackward([weight]) as saved:
        y = x @ weight  # keeps x and the weight
        with saved.part():
            z = y.exp()  # keeps z
        z.square().sum()  # keeps z again
    assert (saved.total, saved.partial) == (800, 400)


def test_aape_benchmark_runs(capsys):
    import aape

    aape.main(
        ["--parts", "classes", "--quick", "--images", "20", "--classes", "3", "--repeats", "1"]
    )
    assert "| AAPE feature, written out |" in capsys.readouterr().out


@pytest.mark.slow
def test_what_aape_costs(capsys, monkeypatch):
    import aape

    monkeypatch.setattr(aape, "METHODS", {"AAPE feature": ("AAPE",)})  # each takes three processes
    small = ["--images", "4", "--frames", "2", "--classes", "3", "--repeats", "1"]
    aape.main(["--parts", "methods", "--quick", *small, "--shots", "1", "--epochs", "1"])
    *_, row = capsys.readouterr().out.strip().splitlines()
    method, learned, left, *measured = (cell.strip() for cell in row.strip("|").split("|"))
    assert (method, learned, left) == ("AAPE feature", "85,848", "11,736")
    assert len(measured) == 4
    assert all(float(cell) > 0 for cell in measured)


@pytest.mark.slow
def test_step_benchmark_runs(capsys):
    import step

    step.main(["--quick", "--methods", "MaPLe", "--batch-size", "1"])
    printed = capsys.readouterr().out
    assert "SAR_MaPLe, all classes" in printed
    assert "SAR_MaPLe: text " in printed


@pytest.mark.slow
def test_parts_of_a_step(capsys):
    """Only the first training reads and encodes pictures; SAR's text side is the larger one."""
    import spent

    spent.main(["--quick", "--steps", "1"])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    first, again, aligned = ([float(cell) for cell in row[1:]] for row in rows)
    assert first[0] > 0 < first[1]
    assert again[:2] == aligned[:2] == [0, 0]
    text = spent.PARTS.index("text encoder")
    assert aligned[text] > again[text] > 0
    assert all(row[-1] == pytest.approx(sum(row[:-1]), abs=0.01) for row in (first, again, aligned))


@pytest.mark.slow
def test_compiled_benchmark_runs(capsys, monkeypatch):
    import compiled

    monkeypatch.delitem(compiled.WAYS, "compiled")  # takes minutes
    compiled.main(["--quick", "--steps", "1"])
    assert "| channels_last |" in capsys.readouterr().out


def test_parts_stand_alone(tmp_path, capsys):
    """One that fails is kept as such, one after the limit is left out, the others are there."""
    record = Parts(tmp_path / "new" / "found.json", 60, {"device": "none"})
    record.run("ratio", "one", lambda: [{"of": 1, "value": 1 / 1}])
    record.run("ratio", "none", lambda: [{"of": 0, "value": 1 / 0}])
    record.run("ratio", "two", lambda: [{"of": 2, "value": 1 / 2}])
    record.limit = 0
    record.run("ratio", "late", lambda: [])
    record.print_tables()
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    one, none, two, late = found["parts"]
    assert (found["device"], one["rows"], two["rows"]) == (
        "none",
        [{"of": 1, "value": 1.0}],
        [{"of": 2, "value": 0.5}],
    )
    assert "rows" not in none
    assert "ZeroDivisionError" in none["error"]
    assert "left_out" in late
    table = capsys.readouterr().out.partition("## ratio")[2]
    assert "|    2 |     0.5 |" in table
    assert "none: ZeroDivisionError: division by zero" in table


def gpu_run(tmp_path, *options):
    """The parts of benchmarks/gpu.py on the CPU, with tiny shapes: those without an error."""
    import gpu

    output = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--tiny", "--output", str(output), *options])
    parts = json.loads(output.read_text())["parts"]
    assert [part["error"] for part in parts if "error" in part] == []
    return {(part["kind"], part["of"]): part["rows"] for part in parts}


def test_gpu_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SAR_CACHE", "off")
    kinds = ["parity", "imagenet", "evaluation", "decoding"]
    found = gpu_run(tmp_path, "--methods", "MaPLe", "--parts", *kinds)
    assert list(dict.fromkeys(kind for kind, _ in found)) == kinds
    plain, aligned = found["parity", "MaPLe"]
    for row in (plain, aligned):  # the CPU against itself
        assert (row["fp32: loss off by"], row["gradient off by"]) == (0, 0)
        assert row["gradient's cosine"] > 0.9
    assert all(row["images/s"] for row in found["decoding", ""])


@pytest.mark.slow
def test_whole_gpu_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SAR_CACHE", "off")
    found = gpu_run(tmp_path)
    assert found["torchrun", ""][0]["ok"]
    assert found["protocol", ""][0]["ok"]
    for method in ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC"):
        assert [row["fp32: loss off by"] for row in found["parity", method]] == [0, 0]
        assert len(found["step", method]) == 5


@pytest.mark.slow
def test_captioning_benchmark_runs(tmp_path, monkeypatch, capsys):
    import captioning

    from sar.tasks.drawings import concepts

    food = [one for one in concepts() if one.datasets[0] == "DemoFood"]
    for module in ("captioned", "asked"):
        monkeypatch.setattr(f"sar.tasks.{module}.concepts", lambda: [*food[:2], *food[-2:]])
    captioning.main(["--work", str(tmp_path), "--seeds", "1", "2"])
    printed = capsys.readouterr().out
    for table in ("captions", "0 shots", "1 shots", "4 shots"):
        assert f"\n{table}\n" in printed
    assert printed.count("| image and AAPE |") == 4
