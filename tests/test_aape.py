"""The trainer AAPE: zero-shot CLIP before the first step, no descriptions after the last."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toolbox_mini import NAMES, arguments, make_cfg
from torch import Tensor

from sar.classes.reference_prompts import REPORT
from sar.classifier import predictor
from sar.config import add_sar_config
from sar.errors import ConfigError, DataError, WeightsError
from sar.host import register
from sar.toolbox.engine import build_trainer
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import main, setup_cfg
from sar.toolbox.trainers.aape import COMBINATIONS
from sar.toolbox.utils import set_random_seed

combinations = pytest.mark.parametrize("combine", COMBINATIONS)
BASE, NEW = NAMES[:4], NAMES[4:]


def options(world: Path, **settings: Any) -> list[str]:
    given = {"DESCRIPTIONS": world / "descriptions.json"} | settings
    return [str(word) for key, value in given.items() for word in (f"TRAINER.AAPE.{key}", value)]


def built(world: Path, trainer: str = "AAPE", *more: str, **settings: Any) -> Any:
    register_builtin()
    register()
    argv = [*arguments(world, world / "none", trainer=trainer), *options(world, **settings), *more]
    cfg = setup_cfg(parse_arguments(argv), add_sar_config)
    set_random_seed(1)
    return build_trainer(cfg)


@torch.no_grad()
def logits(trainer: Any) -> Tensor:
    trainer.set_model_mode("eval")
    with trainer.model.text_encoded_once() if trainer.get_model_names() else torch.no_grad():
        found = trainer.predictions(trainer.test_loader, "test")
        return torch.cat([output for output, _ in found])


def trained(world: Path, steps: int = 6, trainer: str = "AAPE", *more: str, **settings: Any) -> Any:
    quick = ("OPTIM.NAME", "adam", "OPTIM.LR", "0.02", "OPTIM.WARMUP_EPOCH", "-1")
    made = built(world, trainer, *quick, *more, **settings)
    made.before_train()
    made.set_model_mode("train")
    made.num_batches = 100
    batch = next(iter(made.train_loader_x))
    for made.batch_idx in range(steps):
        made.forward_backward(batch)
    return made


@combinations
def test_before_the_first_step_it_is_zero_shot_clip_bit_for_bit(world: Path, combine: str) -> None:
    expected = logits(built(world, "ZeroshotCLIP"))
    trainer = built(world, COMBINE=combine)
    assert torch.equal(logits(trainer), expected)
    images = torch.cat([batch["img"] for batch in trainer.test_loader])
    found = trainer.model(images)  # with gradients, through the text encoder
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@combinations
def test_generated_embeddings_of_other_images_change_predictions(world: Path, combine: str) -> None:
    """A linear combination would add the same to all logits of an image."""
    trainer = trained(world, COMBINE=combine)
    before = logits(trainer).softmax(dim=1)
    generator = trainer.model.prompt_learner.generator
    generator.register_forward_hook(lambda module, args, output: output.roll(1, dims=0))
    after = logits(trainer).softmax(dim=1)
    assert (after - before).abs().max() > 1e-3
    assert not torch.allclose(before, logits(built(world, "ZeroshotCLIP")).softmax(dim=1))


@combinations
def test_logits_are_those_of_the_class_weights(world: Path, combine: str) -> None:
    trainer = trained(world, COMBINE=combine)
    found = logits(trainer)
    images = torch.cat([batch["img"] for batch in trainer.test_loader])
    model = trainer.model
    with torch.no_grad():
        weights = model.class_features(images)
        features = model.encode_images(images)
    torch.testing.assert_close(weights.norm(dim=-1), torch.ones(weights.shape[:2]))
    expected = model.logit_scale.exp() * torch.einsum("bd,bcd->bc", features, weights)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("limit", ["PAIRS_AT_A_TIME", "PROMPTS_AT_A_TIME"])
def test_images_in_parts_give_the_same(
    world: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine = "feature" if limit.startswith("PAIRS") else "token"
    trainer = trained(world, COMBINE=combine)
    expected = logits(trainer)
    monkeypatch.setattr(f"sar.toolbox.trainers.aape_model.{limit}", 8)
    torch.testing.assert_close(logits(trainer), expected, atol=1e-4, rtol=1e-4)


@combinations
def test_the_free_average(world: Path, combine: str) -> None:
    plain, none = (
        trained(world, 6, "AAPE", "TEST.LEARNED_SHARE", share, COMBINE=combine)
        for share in ("1", "0")
    )
    zero_shot = logits(built(world, "ZeroshotCLIP"))
    torch.testing.assert_close(logits(none), zero_shot, atol=1e-4, rtol=1e-4)
    half = trained(world, 6, "AAPE", "TEST.LEARNED_SHARE", "0.5", COMBINE=combine)
    images = torch.cat([batch["img"] for batch in half.test_loader])
    with torch.no_grad():
        weights = plain.model.class_features(images) + plain.model.prompt_learner.text_features
        features = plain.model.encode_images(images)
    cosines = torch.cosine_similarity(features.unsqueeze(1), weights, dim=-1)
    expected = plain.model.logit_scale.exp() * cosines
    torch.testing.assert_close(logits(half), expected, atol=1e-4, rtol=1e-4)


def test_a_seed_has_the_batches_of_every_other_method(world: Path) -> None:
    states = []
    for trainer in ("AAPE", "ZeroshotCLIP"):
        built(world, trainer)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("aggregator", ["attention", "mlp", "mean", "random"])
@pytest.mark.parametrize(("reward", "distance"), [("cosine", "l2"), ("contrastive", "cosine")])
def test_a_step_of_every_kind(world: Path, aggregator: str, reward: str, distance: str) -> None:
    trainer = trained(world, 0, AGGREGATOR=aggregator, REWARD=reward, DISTANCE=distance)
    trainer.batch_idx = 0
    reported = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert reported.keys() >= {"loss", "distance", "reward"}
    moved = trainer.model.prompt_learner.aggregator.parameters()
    assert all(parameter.grad is not None for parameter in moved)


def test_the_terms_of_the_loss(world: Path) -> None:
    """Cross-entropy + DISTILL_WEIGHT * distance + REWARD_WEIGHT * reward."""
    trainer = trained(world, 3, DISTILL_WEIGHT=3.0, REWARD_WEIGHT=0.5)
    batch = next(iter(trainer.train_loader_x))
    with torch.no_grad():
        ours, _, _ = trainer.model(batch["img"])
        entropy = torch.nn.functional.cross_entropy(ours, batch["label"])
    found = trainer.forward_backward(batch)
    expected = entropy.item() + 3 * found["distance"] + 0.5 * found["reward"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_summary_learns_from_the_reward_alone(world: Path) -> None:
    """The distance moves the generator, not the summary that it is measured to."""
    aggregator = trained(world, 1, REWARD_WEIGHT=0.0).model.prompt_learner.aggregator
    assert not any(parameter.grad.any() for parameter in aggregator.parameters())


def test_a_random_aggregator_goes_on_where_it_was(world: Path, tmp_path: Path) -> None:
    argv = options(world, AGGREGATOR="random")
    for folder, epochs in (("whole", "3"), ("cut", "1"), ("cut", "3")):
        schedule = ["OPTIM.LR_SCHEDULER", "single_step", "OPTIM.MAX_EPOCH", epochs]
        run = arguments(world, tmp_path / folder, trainer="AAPE")
        main([*run, *argv, *schedule, "OPTIM.STEPSIZE", "(9,)"])
    whole, cut = (
        torch.load(tmp_path / folder / "prompt_learner" / "model.pth.tar-3", weights_only=True)
        for folder in ("whole", "cut")
    )
    assert whole["state_dict"].keys() == cut["state_dict"].keys()
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, cut["state_dict"][name]), name


def opened(call: Any) -> set[str]:
    """Names of the files that `call` opens."""
    found: set[str] = set()
    watching = True

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(args[0], str):
            found.add(Path(args[0]).name)

    sys.addaudithook(audit)
    call()
    watching = False
    return found


def test_a_test_opens_no_description_and_training_reads_those_of_its_classes(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of new classes, of which there is no description anywhere."""
    file = tmp_path / "mine.json"
    described = {name: [f"a {name}.", f"the small {name}."] for name in BASE}
    file.write_text(json.dumps(described | {"a moth": ["It flies."]}))
    output = tmp_path / "run"
    argv = [*arguments(world, output, trainer="AAPE"), *options(world, DESCRIPTIONS=file)]
    assert file.name in opened(lambda: main(argv))
    line = "2 descriptions for each of the 4 classes it is trained on"
    assert line in capsys.readouterr().out
    report = json.loads((output / f"{REPORT}.json").read_text())
    assert report["descriptions"] == {name.replace("_", " "): s for name, s in described.items()}
    assert report["classes_left_out"] == 1
    assert "moth" not in (output / f"{REPORT}.txt").read_text()
    assert line in (output / f"{REPORT}.txt").read_text()

    file.unlink()
    monkeypatch.setitem(sys.modules, "openai", None)  # whoever imports it fails
    test = [*arguments(world, tmp_path / "new", trainer="AAPE"), *options(world, DESCRIPTIONS=file)]
    test += ["--eval-only", "--model-dir", str(output), "--load-epoch", "5"]
    files = opened(lambda: main([*test, "DATASET.SUBSAMPLE_CLASSES", "new"]))
    assert "model.pth.tar-5" in files
    assert file.name not in files
    data = {name for name in files if ".py" not in name}
    assert not any(REPORT in name or "descriptions" in name for name in data)
    assert "=> result" in (tmp_path / "new" / "log.txt").read_text()


def test_an_export_has_what_a_test_uses(world: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    main([*arguments(world, output, trainer="AAPE"), *options(world)])
    classifier = predictor.Classifier.load(output)
    assert not any("aggregator" in name for name in classifier.recipe.learned)
    assert {name.split(".")[1] for name in classifier.recipe.learned} == {
        "generator",
        "combination",
    }
    with pytest.raises(ConfigError, match="depend on the picture"):
        classifier.class_features()
    classifier.set_classes([*BASE, "a new cat"])
    assert classifier.logits(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_no_description_is_read_where_nothing_is_distilled(world: Path) -> None:
    trainer = trained(world, 1, DISTILL_WEIGHT=0.0, DESCRIPTIONS="nowhere.json")
    assert trainer._references is None


def test_so_many_descriptions_of_each_class(world: Path) -> None:
    features, present = trained(world, 0, PROMPTS=1)._references
    assert features.shape == (4, 1, 32)
    assert present.all()
    features, present = trained(world, 0)._references
    assert features.shape == (4, 2, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"AGGREGATOR": "sum"}, r"AAPE\.AGGREGATOR is 'sum'; expected one of attention, mlp, mean"),
        ({"REWARD": "l2"}, r"AAPE\.REWARD is 'l2'; expected one of cosine, contrastive"),
        ({"DISTANCE": "kl"}, r"AAPE\.DISTANCE is 'kl'; expected one of cosine, l2"),
        ({"COMBINE": "linear"}, r"AAPE\.COMBINE is 'linear'; expected one of feature, gate, token"),
        ({"HEADS": 5}, r"AAPE\.HEADS is 5; expected a divisor of 32"),
        ({"HEADS": 0}, r"AAPE\.HEADS is 0; expected a whole number from 1"),
        ({"PROMPTS": -1}, r"AAPE\.PROMPTS is -1; expected a whole number from 0"),
        ({"DISTILL_WEIGHT": -1.0}, r"AAPE\.DISTILL_WEIGHT is -1\.0; expected a finite number from"),
        ({"PREC": "fp8"}, r"AAPE\.PREC is 'fp8'"),
    ],
)
def test_settings_that_nothing_can_work_with(
    world: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        built(world, **settings)


def test_a_class_without_a_description_is_named(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(json.dumps({name: ["Four legs."] for name in BASE[1:]}))
    with pytest.raises(DataError, match=r"describes 3 of 4 classes.*abyssinian"):
        trained(world, 0, DESCRIPTIONS=file)


def test_weights_of_another_combination_are_refused(world: Path, tmp_path: Path) -> None:
    main([*arguments(world, tmp_path / "run", trainer="AAPE"), *options(world)])
    other = [*arguments(world, tmp_path / "test", trainer="AAPE"), *options(world, COMBINE="gate")]
    with pytest.raises(WeightsError, match="COMBINE 'feature', and this run has 'gate'"):
        main([*other, "--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "5"])


@combinations
def test_what_is_aligned_are_the_class_weights_of_the_mean_embedding(
    world: Path, combine: str
) -> None:
    """Of one image, those by which it is classified."""
    novel = ("TRAINER.SAR.NOVEL", "words:5", "DATALOADER.TRAIN_X.BATCH_SIZE", "1")
    made = trained(world, 4, "SAR_AAPE", *novel, COMBINE=combine)
    view = made._injection.alignment.view
    assert len(view) == 4 + 5
    image = next(iter(made.train_loader_x))["img"]
    with torch.no_grad():
        features = made.model.encode_images(image)
        expected = made.model.class_features(image)[0]
        found = view(features)
        both = view(torch.cat([features, -features]))
    torch.testing.assert_close(torch.nn.functional.normalize(found[:4], dim=-1), expected)
    assert not torch.allclose(both, found)


def test_cfg_of_the_pocket_and_of_vit_b16() -> None:
    for name in ("pocket", "vit_b16_ep20"):
        file = f"configs/trainers/AAPE/{name}.yaml"
        cfg = make_cfg(["--trainer", "AAPE", "--config-file", file, "DATASET.NAME", "MiniPets"])
        assert cfg.TRAINER.AAPE.COMBINE == "feature"
