"""Protocols as lists of jobs: which there are, with which settings, and what is wrong input."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest

from sar.errors import ConfigError, StorageError
from sar.protocols import configs
from sar.protocols.ablation import Ablation
from sar.protocols.all_classes import CrossDataset, DomainGeneralization, FewShot
from sar.protocols.base2new import BaseToNew
from sar.protocols.cli import PLANS, main
from sar.results.folders import locate
from sar.settings.dataset_records import in_group


def test_jobs_of_the_main_job():
    jobs = BaseToNew(output=Path("out")).jobs()
    assert len(jobs) == len({job.output for job in jobs}) == 2 * (2 + 2 * 3 * 2)
    outputs = [job.output for job in jobs]
    for job in jobs:
        assert not job.needs or outputs.index(job.needs) < outputs.index(job.output)
    zero_shot = [str(j.output) for j in jobs if "Zeroshot" in str(j.output) and "food" in j.title]
    assert zero_shot == [
        f"out/{part}/demo_food/shots_16/ZeroshotCLIP/pocket/seed1"
        for part in ("test_base", "test_new")
    ]


def test_load_epoch_follows_the_configuration():
    def load_epoch(*options: str) -> int:
        plan = BaseToNew(
            output=Path("out"), datasets=["demo_food"], trainers=["SAR_CoOp"], options=options
        )
        words = plan.jobs()[1].argv()
        return int(words[words.index("--load-epoch") + 1])

    file = configs.config_path("trainers", "SAR_CoOp", "pocket")
    assert load_epoch() == configs.setting("OPTIM.MAX_EPOCH", [file])
    assert load_epoch("OPTIM.MAX_EPOCH", "7", "OPTIM.MAX_EPOCH", "9") == 9


def test_flags_come_before_options_and_sar_options_reach_sar_only():
    plain, _, sar, _ = BaseToNew(
        output=Path("out"),
        datasets=["demo_food"],
        seeds=[1],
        trainers=["CoOp", "SAR_CoOp"],
        options=["TRAINER.SAR.WEIGHT", "4", "OPTIM.LR", "0.1"],
    ).jobs()
    assert plain.argv()[-2:] == ["OPTIM.LR", "0.1"]
    assert "TRAINER.SAR.WEIGHT" not in plain.argv()
    assert "TRAINER.SAR.WEIGHT" in sar.argv()
    words = sar.argv()
    last_flag = max(i for i, word in enumerate(words) if word.startswith("--"))
    assert last_flag < words.index("DATASET.NUM_SHOTS")
    assert shlex.split(sar.command()) == ["sarclip", *sar.argv()]


def published(protocol: str, **where) -> dict[str, set[tuple[str, str]]]:
    """Trainer -> configuration and last epoch of its trainings."""
    plan = PLANS[protocol](
        output=Path("o"),
        root="/data",
        trainers=["CoOp", "SAR_CoOp", "CoCoOp", "KgCoOp", "MaPLe", "SAR_PromptSRC"],
        **where,
    )
    found: dict[str, set[tuple[str, str]]] = {}
    for job in plan.jobs():
        if job.trains:
            epochs = str(job.settings()["OPTIM.MAX_EPOCH"])
            trainer = job.flags[job.flags.index("--trainer") + 1]
            found.setdefault(trainer, set()).add((job.files[1].stem, epochs))
    return found


def test_published_configurations():
    pets = published("base2new", datasets=["oxford_pets"])
    assert pets["CoOp"] == pets["SAR_CoOp"] == {("vit_b16_ctxv1", "200")}
    assert pets["MaPLe"] == {("vit_b16_c2_ep5_batch4_2ctx", "5")}
    assert published("base2new", datasets=["imagenet"])["CoOp"] == {("vit_b16_ep50_ctxv1", "50")}
    for protocol in ("cross-dataset", "domain-generalization"):
        assert published(protocol, source="imagenet") == {
            "CoOp": {("vit_b16_ep50_ctxv1", "50")},
            "SAR_CoOp": {("vit_b16_ep50_ctxv1", "50")},
            "CoCoOp": {("vit_b16_c4_ep10_batch1_ctxv1", "10")},
            "KgCoOp": {("vit_b16_ep100_ctxv1", "100")},
            "MaPLe": {("vit_b16_c2_ep5_batch4_2ctx_cross_datasets", "2")},
            "SAR_PromptSRC": {("vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets", "20")},
        }
    few = published("few-shot", datasets=["dtd"])
    assert few["CoOp"] == {("vit_b16", "200"), ("vit_b16_ep100", "100"), ("vit_b16_ep50", "50")}
    assert few["SAR_PromptSRC"] == {("vit_b16_c2_ep50_batch4_4+4ctx_few_shot", "50")}


def test_published_options_of_few_shot_datasets():
    plan = FewShot(output=Path("o"), root="/d", datasets=["dtd", "food101"], trainers=["PromptSRC"])
    means = {
        job.title.split()[0]: job.settings()["TRAINER.PROMPTSRC.GPA_MEAN"] for job in plan.jobs()
    }
    assert means == {"dtd": 45, "food101": 30}


@pytest.mark.parametrize(
    ("kind", "source", "targets"),
    [
        (CrossDataset, "imagenet", set(in_group("all")) - {"imagenet"}),
        (CrossDataset, "demo_food", set(in_group("demo")) - {"demo_food"}),
        (
            DomainGeneralization,
            "imagenet",
            {"imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"},
        ),
        (
            DomainGeneralization,
            "demo_food",
            {f"demo_food_{style}" for style in ("line", "filled", "duotone", "colour")},
        ),
    ],
)
def test_a_model_is_trained_once_and_tested_on_every_target(kind, source, targets):
    plan = kind(output=Path("/o"), root="/d", source=source, seeds=[1, 2], trainers=["CoOp"])
    jobs = plan.jobs()
    trainings = [job for job in jobs if job.trains]
    assert [str(job.output) for job in trainings] == [
        f"/o/{source}/CoOp/{trainings[0].files[1].stem}_16shots/seed{seed}" for seed in (1, 2)
    ]
    for training in trainings:
        tests = [job for job in jobs if job.needs == training.output]
        places = [locate(job.output) for job in tests]
        assert {place.key.dataset for place in places if place} == targets
        assert {place.part for place in places if place} == {"evaluation"}
        for job in tests:
            assert job.flags[job.flags.index("--model-dir") + 1] == str(training.output)
            assert job.files[1] == training.files[1]
            assert "DATASET.NUM_SHOTS" not in job.options


def test_zero_shot_is_tested_everywhere_once():
    for kind in (CrossDataset, DomainGeneralization, FewShot, BaseToNew):
        jobs = kind(output=Path("o"), trainers=["ZeroshotCLIP"]).jobs()
        assert not any(job.trains or job.needs for job in jobs)
        assert len({(job.files[0], job.subset) for job in jobs}) == len(jobs)


def test_ablation_trains_every_variant_once():
    plan = Ablation(output=Path("/o"), datasets=["demo_food"], seeds=[1])
    jobs = plan.jobs()
    assert len(jobs) == len({job.output for job in jobs}) == len({job.title for job in jobs})
    trained = {job.output.parts[2]: job for job in jobs if job.trains}
    assert set(trained) == {"baseline", *plan.variants()}
    assert {"weight_0.25", "novel_none", "novel_words150", "weight_1.0"} < set(trained)
    assert trained["weight_0.25"].settings()["TRAINER.SAR.WEIGHT"] == 0.25
    assert "TRAINER.SAR.WEIGHT" not in trained["baseline"].settings()
    assert plan.record().variants["novel_none"] == ["TRAINER.SAR.NOVEL", "none"]
    assert {p.key.variant for job in jobs if (p := locate(job.output, Path("/o")))} == set(trained)


def test_shots_are_part_of_the_job():
    jobs = FewShot(output=Path("/o"), datasets=["demo_food"], trainers=["CoOp"], seeds=[1]).jobs()
    places = [place for job in jobs if (place := locate(job.output))]
    assert [place.key.shots for place in places] == [1, 2, 4, 8, 16]
    assert [job.settings()["DATASET.NUM_SHOTS"] for job in jobs] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "demo_foot"], "demo_food"),
        (["--trainers", "SAR_Coop"], "ZeroshotCLIP, .*CoOp"),
        (["--cfg", "vit_b61"], "pocket"),
        (["--datasets", "oxford_pets"], "--root"),
        (["OPTIM.LR"], "KEY VALUE"),
        (["--per-gpu", "2"], "--gpus"),
        (["--datasets", " , "], "'--datasets': expected one or more"),
        (["DATASET.NUM_SHOTS", "4"], "DATASET.NUM_SHOTS is set by the protocol; use --shots"),
        (["SEED", "4"], "use --seeds"),
        (["--partition", "main"], "for --launcher slurm only"),
    ],
)
def test_wrong_arguments_say_what_exists(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["base2new", "--output", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cross_dataset"], "cross-dataset"),
        (["cross-dataset", "--source", "oxford_pets", "--root", "/d"], "--targets"),
        (["cross-dataset", "--targets", "demo_foot"], "demo_food"),
        (["ablation", "--studies", "wait"], "weight"),
        (["ablation", "--settings", "kl, weight 1", "--settings", "l3"], "no setting 'l3'; .*l1"),
        (["ablation", "--trainers", "CoOp"], "SAR_X"),
    ],
)
def test_wrong_arguments_of_the_protocols(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        main(arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match=r"cannot write .*out.*choose another --output"):
        main(["base2new", "--output", str(tmp_path / "out")])


def test_the_source_is_no_target(tmp_path):
    given = {"output": tmp_path, "trainers": ["CoOp"], "seeds": [1]}
    plan = CrossDataset(source="demo_food", targets=["demo_food", "demo_travel"], **given)
    assert [job.title.partition(": ")[2] for job in plan.jobs()] == [
        "train all",
        "test demo_travel",
    ]
    assert plan.record().datasets == ["demo_travel"]


def test_a_seed_given_twice_is_one(tmp_path, capsys):
    main(["few-shot", "--seeds", "1 01", "--shots", "4,4", "--trainers", "CoOp", "--dry-run"])
    assert capsys.readouterr().out.count("sarclip train") == 2


@pytest.mark.parametrize(("epochs", "said"), [("1", 1), ("2", 0)])
def test_trainings_that_are_all_warm_up_are_told_of_once(epochs, said, capsys):
    main(["base2new", "--dry-run", "OPTIM.MAX_EPOCH", epochs])
    assert capsys.readouterr().out.count("the whole training is warm-up") == said


def test_a_test_has_no_warm_up(capsys):
    main(["base2new", "--trainers", "ZeroshotCLIP", "--dry-run", "OPTIM.MAX_EPOCH", "1"])
    assert "warm-up" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["base2new", "few-shot", "cross-dataset"])
@pytest.mark.parametrize(
    ("trainers", "idle", "refusal"),
    [
        ("ZeroshotCLIP", "--averaged 0.5", "--averaged would have no effect: nothing is trained"),
        ("CoOp,ZeroshotCLIP", "--averaged 0.5", ""),
        ("ZeroshotCLIP,CoOp", "TRAINER.SAR.WEIGHT 2", r"TRAINER\.SAR\.WEIGHT would .* SAR_CoOp"),
        ("CoOp,SAR_CoOp", "TRAINER.SAR.WEIGHT 2", ""),
        ("CoOp", "DATASET.TITLE mine", r"DATASET\.TITLE would .* one's own"),
    ],
)
def test_what_no_job_would_take_is_refused(protocol, trainers, idle, refusal, capsys):
    argv = [protocol, "--trainers", trainers, "--dry-run", *idle.split()]
    with pytest.raises(ConfigError, match=refusal) if refusal else contextlib.nullcontext():
        main(argv)
    assert ("sarclip train" in capsys.readouterr().out) == (not refusal)


@pytest.mark.parametrize("protocol", ["few-shot", "cross-dataset", "domain-generalization"])
def test_true_new_classes_need_some_that_are_not_trained_on(protocol, capsys):
    oracle = ["--trainers", "CoOp,SAR_CoOp", "--dry-run", "TRAINER.SAR.NOVEL", "oracle"]
    with pytest.raises(ConfigError, match=f"NOVEL oracle takes the new .* {protocol} has none"):
        main([protocol, *oracle])
    assert capsys.readouterr().out == ""
    main(["base2new", *oracle])
    assert "TRAINER.SAR.NOVEL oracle" in capsys.readouterr().out


def test_an_error_says_where_the_settings_of_a_sar_trainer_are_from():
    theirs = r"of SAR_CoOp \(its settings are CoOp's, and TRAINER\.SAR\.\* by KEY VALUE\) 'x'"
    with pytest.raises(ConfigError, match=theirs):
        configs.config_path("trainers", "SAR_CoOp", "x")
    with pytest.raises(ConfigError, match="there is no configuration of CoOp 'x'"):
        configs.config_path("trainers", "CoOp", "x")
    with pytest.raises(
        ConfigError, match=r"trainers/Nope in .*, that of .* which SAR_Nope extends"
    ):
        configs.check_trainer("SAR_Nope")


def test_ones_own_pictures_take_their_title(tmp_path, capsys):
    where = ["--datasets", "image_folder", "--root", str(tmp_path), "--trainers", "CoOp"]
    main(["base2new", *where, "--dry-run", "DATASET.TITLE", "mine"])
    assert "mine CoOp seed1: train base" in capsys.readouterr().out


@pytest.mark.parametrize("seed", ["0", "-1", "one", "1,x"])
def test_wrong_seed(seed):
    with pytest.raises(ConfigError, match="whole number from 1 up"):
        main(["base2new", f"--seeds={seed}"])


@pytest.mark.parametrize("plan", [BaseToNew, CrossDataset, DomainGeneralization, FewShot, Ablation])
@pytest.mark.parametrize("word", ["True", "true"])
def test_class_specific_contexts_are_for_protocols_that_test_their_classes(plan, word):
    trainer = "SAR_CoOp" if plan is Ablation else "CoOp"
    jobs = plan(
        output=Path("out"), trainers=[trainer], options=["TRAINER.COOP.CSC", word], root="data"
    ).jobs
    if plan in (DomainGeneralization, FewShot):
        assert jobs()
    else:
        with pytest.raises(ConfigError, match=r"TRAINER\.COOP\.CSC gives each class a context"):
            jobs()
    other = plan(
        output=Path("out"),
        trainers=[trainer.replace("CoOp", "CoCoOp")],
        options=["TRAINER.COOP.CSC", word],
        root="data",
    )
    assert other.jobs()  # CoCoOp has no such setting
