"""docs/ablation.md says what `sarclip protocol ablation` measures, in its words and its order."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from ablation_run import names, put_everything, tables
from yacs.config import CfgNode

from sar.config import add_sar_config, validate
from sar.errors import ConfigError
from sar.protocols.ablation import BASELINE, Ablation
from sar.protocols.configs import SEEDS
from sar.protocols.studies import COMPARISONS, KNOWN, STUDIES
from sar.results import collect
from sar.results.tables.ablation import ablation_tables

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ablation.md"


def not_measured(page: str) -> list[tuple[str, str]]:
    """The settings that a page names as left out."""
    _, _, found = page.partition("for want of a result on every dataset: ")
    named = found.partition(".\n")[0].split("; ") if found else []
    return [(study, setting) for study, _, setting in (name.partition(": ") for name in named)]


def test_page_and_protocol_name_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [(BASELINE, "ZeroshotCLIP"), (BASELINE, "CoOp")]
    expected += [(study, setting) for study, settings in STUDIES.items() for setting in settings]
    plan = Ablation(output=tmp_path / "output")
    put_everything(plan)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for tool, *arguments in (
        ("experiment.py", plan.output, "--experiments", tmp_path / "experiments"),
        ("ablation.py", tmp_path / "experiments" / plan.output.name, tmp_path),
    ):
        monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
        runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")
    assert (tmp_path / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    written = tables((tmp_path / "ablation.md").read_text())
    assert [names(rows) for rows in written] == [expected] * (1 + len(plan.datasets))
    whole = tables(PAGE.read_text())[0]
    assert names(whole) == [row for row in expected if row not in not_measured(PAGE.read_text())]
    seeds = {(study, setting): int(count) for study, setting, *_, count in whole}
    assert seeds.pop((BASELINE, "ZeroshotCLIP")) == 1
    assert set(seeds.values()) == {len(SEEDS)}


def test_a_variant_of_several_studies_is_one_folder() -> None:
    plan = Ablation(output=Path("output"))
    folders = [folder for names in plan.record().studies.values() for folder in names.values()]
    assert set(folders) == set(plan.variants())
    assert len(folders) > len(plan.variants())


def test_every_setting_of_every_study_is_valid_and_means_something_else() -> None:
    assert not STUDIES.keys() & COMPARISONS.keys()
    for study, settings in KNOWN.items():
        for label, change in settings.items():
            cfg = CfgNode({"TRAINER": CfgNode()})
            add_sar_config(cfg)
            cfg.merge_from_list([w for k, v in change.items() for w in (f"TRAINER.SAR.{k}", v)])
            validate(cfg.TRAINER.SAR)
            assert cfg.TRAINER.SAR.WEIGHT > 0, (study, label)
        assert len({str(change) for change in settings.values()}) == len(settings), study


def test_comparisons_run_where_they_are_asked_for() -> None:
    assert Ablation(output=Path("output")).chosen() == STUDIES
    plan = Ablation(output=Path("output"), studies=("regularizer", "control"))
    variants = plan.variants()
    assert variants["divergence_hinge_template_imagenet_weight_20.0"] == (
        *("TRAINER.SAR.DIVERGENCE", "hinge", "TRAINER.SAR.TEMPLATE", "imagenet"),
        *("TRAINER.SAR.WEIGHT", "20.0"),
    )
    assert variants["weight_1.0"] == ("TRAINER.SAR.WEIGHT", "1.0")  # trained once for all studies
    with pytest.raises(ConfigError, match="no study everything"):
        Ablation(output=Path("output"), studies=("everything",)).variants()


def test_single_settings_run_by_their_names_in_the_tables(tmp_path: Path) -> None:
    for wanted in (("kl, weight 1", "anchor, weight 2"), ("hsic, weight 2",)):
        put_everything(Ablation(output=tmp_path, settings=wanted, seeds=(1, 2)))
    asked = [
        ("regularizer", name) for name in ("kl, weight 1", "anchor, weight 2", "hsic, weight 2")
    ]
    written = ablation_tables(collect(tmp_path).records, collect(tmp_path).studies)[0]
    rows = [(row.group, row.label) for row in written.rows if row.group != BASELINE]
    assert rows == asked
    assert not any("Not here" in remark for remark in written.remarks)
    both = Ablation(output=tmp_path, settings=("none",)).chosen()
    assert both == {study: {"none": {"NOVEL": "none"}} for study in ("novel", "names")}
    within = Ablation(output=tmp_path, studies=("names",), settings=("none",))
    assert list(within.chosen()) == ["names"]
    with pytest.raises(ConfigError, match="none of the settings is in the study teacher:"):
        Ablation(output=tmp_path, studies=("names", "teacher"), settings=("none",)).jobs()
    with pytest.raises(ConfigError, match=r"no setting 'kl weight 1'; did you mean kl, weight 1"):
        Ablation(output=tmp_path, settings=("kl, weight 1", "kl weight 1")).jobs()
    with pytest.raises(ConfigError, match=r"no setting '\?'; there are base classes only \| "):
        Ablation(output=tmp_path, settings=("?",)).jobs()


def test_a_control_is_no_regularizer_under_another_name() -> None:
    regularizers = COMPARISONS["regularizer"]
    again = [
        change for change in COMPARISONS["control"].values() if change in regularizers.values()
    ]
    assert again == [regularizers["kl, weight 1"]]  # the default, which all are compared with


def test_an_option_for_every_job_is_not_lost_under_a_setting() -> None:
    def plan(setting: str) -> Ablation:
        weight = ("TRAINER.SAR.WEIGHT", "3")
        return Ablation(output=Path("output"), settings=(setting,), options=weight)

    with pytest.raises(ConfigError, match=r"TRAINER\.SAR\.WEIGHT 3 .* '1 .default.' changes"):
        plan("1 (default)").jobs()
    aligned = [job for job in plan("none").jobs() if job.trains and "SAR_CoOp" in job.flags]
    expected = ("TRAINER.SAR.WEIGHT", "3", "TRAINER.SAR.NOVEL", "none")
    assert {job.options[-4:] for job in aligned} == {expected}


def test_differences_to_any_setting(tmp_path: Path) -> None:
    put_everything(Ablation(output=tmp_path, studies=("novel", "names"), seeds=(1, 2)))
    results = collect(tmp_path)
    table = ablation_tables(results.records, results.studies, ["CoOp", "150 random words"])[0]
    rows = {(row.group, row.label): row.cells for row in table.rows}
    words, none = (rows["names", name] for name in ("150 random words", "none"))
    found = rows["names", "none - 150 random words"]["h"]
    assert found.mean == pytest.approx(none["h"].mean - words["h"].mean)
    gain = rows["names", "none - CoOp"]["h"]
    assert (gain.mean, gain.std) == (none["gain"].mean, none["gain"].std)
    assert ("novel", "150 random words - 150 random words") not in rows
    assert len(table.measured("names")) == len(KNOWN["names"])
