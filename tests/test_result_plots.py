"""Figures: one for each kind of table, readable in words, the same from the same numbers."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from result_logs import filled, put_ablation, put_model, put_source, put_transfer

from sar.command_line.commands import call
from sar.errors import StorageError
from sar.results import collect
from sar.results.cli import results
from sar.results.folders import RunKey
from sar.results.plots import Plot
from sar.results.plots.gains import Gain, draw_gains
from sar.results.plots.style import panels
from sar.results.presentations import make_plots, make_tables
from sar.results.statistics import Summary


def plots(root: Path, ci95: bool = False) -> dict[str, Plot]:
    found = [plot for table in make_tables(collect(root)) for plot in make_plots(table, ci95)]
    named = {plot.name: plot for plot in found}
    assert len(named) == len(found)
    return named


def words(plot: Plot) -> set[str]:
    """The texts of a figure, which matplotlib writes as comments beside their outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    tree = ET.fromstring(plot.image("svg"), parser)
    return {e.text.strip() for e in tree.iter() if e.tag is ET.Comment and e.text}


def test_base_new_figures(tmp_path):
    found = plots(filled(tmp_path))
    assert set(found) == {"base_new", "base_new_by_dataset", "base_new_differences"}
    assert "SAR_CoOp: Base 71.00, New 56.00" in found["base_new"].alt
    assert {"Average of 2", "SAR_CoOp", "71.0", "56.0", "accuracy, %"} <= words(found["base_new"])
    assert {"animals", "food"} <= words(found["base_new_by_dataset"])
    assert {"SAR_CoOp - CoOp: New", "+10.0", "-4.0"} <= words(found["base_new_differences"])
    assert "sample standard deviation" in found["base_new"].caption
    assert "95 % confidence" in plots(tmp_path, ci95=True)["base_new"].caption


def test_differences_are_sorted_and_rounded_not_cut(tmp_path):
    for dataset, gain in (("dtd", 1.96), ("eurosat", 3.04), ("ucf101", -0.04)):
        for trainer, more in (("CoOp", 0.0), ("SAR_CoOp", gain)):
            key = RunKey(dataset, trainer, "pocket", 16, 1)
            put_source(tmp_path, key, round(10 * (50 + more)))
            put_transfer(
                tmp_path / "xd", trainer, 1, 700, {dataset: round(500 + 10 * more)}, cfg="pocket"
            )
    found = plots(tmp_path / "xd")
    texts = words(found["cross_dataset_differences"])
    assert {"+2.0", "+3.0", "+0.0"} <= texts
    assert "-0.0" not in texts


def test_transfer_few_shot_and_ablation_figures(tmp_path):
    put_transfer(tmp_path / "xd", "CoOp", 1, 710, {"dtd": 400})
    put_transfer(tmp_path / "xd", "SAR_CoOp", 1, 710, {"dtd": 420})
    for shots in (1, 2, 16):
        put_source(tmp_path / "few", RunKey("dtd", "CoOp", "pocket", shots, 1), 500 + shots)
    put_ablation(tmp_path / "ablation")
    found = plots(tmp_path)
    assert {"cross_dataset", "cross_dataset_differences", "few_shot"} <= set(found)
    assert {"imagenet (source)", "dtd", "Average of 1"} <= words(found["cross_dataset"])
    assert {"1", "2", "16", "shots per class"} <= words(found["few_shot"])
    sweep = words(found["weight_average_of_food_pets"])
    assert {"0.25", "4 (default)", "CoOp Base", "weight of the alignment loss"} <= sweep
    assert "components: base only" in words(found["variants_average_of_food_pets"])
    tradeoff = words(found["tradeoff_average_of_food_pets"])
    assert {"components", "weight", "CoOp", "H 70", "new accuracy, %"} <= tradeoff
    assert {"components: base only", "thin: deviation over seeds"} <= tradeoff  # gains in H
    assert "broad" not in " ".join(tradeoff)  # without predictions no interval is known


def test_a_gain_has_a_thin_bar_of_the_seeds_and_a_broad_one_of_the_classes():
    _, (axis,) = panels(1, 1, (4, 3))
    look = {"color": "black"}
    cells = (Summary(3, 2.0, 0.5, (-1.0, 4.0)), Summary(1, 1.0, None))
    gains = [Gain(name, cell, look, name) for name, cell in zip("ab", cells, strict=True)]
    draw_gains(axis, gains, "CoOp")
    broad = [line for line in axis.lines if line.get_linewidth() > 2]
    assert [line.get_path().vertices.tolist() for line in broad] == [[[-1.0, 0.0], [4.0, 0.0]]]
    (thin,) = (c.get_segments()[0] for c in axis.collections)  # of one seed there is none
    assert thin.tolist() == [[1.5, 0.0], [2.5, 0.0]]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_yticks()[1] > 1.5  # another group is further away than the next row


def test_dollar_signs_in_names_are_no_formula(tmp_path):
    for trainer in ("CoOp", "SAR_CoOp"):
        put_model(tmp_path, "$a_{$", trainer, 1, 700, 500)
    for plot in plots(tmp_path).values():
        assert words(plot) & {"$a_{$", "SAR_CoOp - CoOp: H"}


def test_same_numbers_same_bytes(tmp_path):
    plot = plots(filled(tmp_path))["base_new"]
    assert plot.image("svg") == plot.image("svg")


def test_command_writes_png_and_pdf(tmp_path, capsys):
    call(
        results,
        [str(filled(tmp_path / "out")), "--plots", str(tmp_path / "plots"), "--dataset", "food"],
    )
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {f"base_new{d}.{s}" for d in ("", "_differences") for s in ("png", "pdf")}
    assert (tmp_path / "plots" / "base_new.png").read_bytes().startswith(b"\x89PNG")
    assert "CoOp" in capsys.readouterr().out
    with pytest.raises(StorageError, match="cannot write"):
        call(results, [str(tmp_path / "out"), "--plots", str(tmp_path / "plots" / "base_new.png")])


@pytest.mark.parametrize("module", ["sar.results.plots", "sar.results.report"])
def test_matplotlib_jinja_and_torch_wait_until_needed(module):
    code = (
        f"import sys, {module}\n"
        "slow = {'matplotlib', 'jinja2', 'torch', 'numpy'} & sys.modules.keys()\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
