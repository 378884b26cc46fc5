"""The model card of an exported classifier: what it is, how it was made, what it was tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from sar import __version__
from sar.classifier.recipe import Recipe, Result
from sar.results import read_run
from sar.toolbox.config import dataset_title


def model_card(recipe: Recipe) -> str:
    """Markdown, with the front matter that model hubs read."""
    cfg = recipe.cfg
    facts = [
        ("method", cfg.TRAINER.NAME),
        ("CLIP", cfg.MODEL.BACKBONE.NAME),
        ("hand-crafted prompt", recipe.template),
    ]
    if recipe.fitted:
        facts.append(("fitted on held-out pictures", recipe.fitted))
    classes = [_listed("Known by name only", recipe.classes)]
    if recipe.learned:
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        facts += [
            ("trained on", dataset_title(cfg)),
            ("pictures per class", str(shots) if shots > 0 else "all"),
            ("epochs", str(cfg.OPTIM.MAX_EPOCH)),
            ("seed", str(seed) if seed >= 0 else "none"),
        ]
        base = [name for name in recipe.classes if name in recipe.base]
        new = [name for name in recipe.classes if name not in recipe.base]
        classes = [_listed("Trained on", base), _listed("Known by name only", new)]
    return (
        "\n\n".join(
            [
                "---\nlibrary_name: sarclip\npipeline_tag: zero-shot-image-classification\n---",
                f"# {cfg.TRAINER.NAME} for {len(recipe.classes)} classes",
                "Labels pictures by the classes below. Classes can be added by their names, "
                "without training.",
                '```python\nfrom sar import Classifier\n\nclassifier = Classifier.load("FOLDER")\n'
                'classifier.predict("picture.jpg")\n```',
                "## How it was made",
                tabulate(facts, headers=("", ""), tablefmt="github", disable_numparse=True),
                "## Classes",
                *classes,
                "## Results",
                _results(recipe),
                "## What it was not tested on",
                "- Classes that are in no row above, such as those added later; and base and new "
                "classes together, in one label space: `sarclip evaluate` measures both.\n"
                "- Pictures of another kind than the test set's.\n"
                f"- Pictures that show none of the classes: {_of_no_class(recipe)}",
                *([recipe.misfit] if recipe.misfit else []),
                f"Written by sarclip {__version__}.",
            ]
        )
        + "\n"
    )


def _of_no_class(recipe: Recipe) -> str:
    if not recipe.negatives:
        return "it names one of them all the same."
    return (
        f'it says "unknown" where the classes have less than {recipe.threshold:.4f} of the '
        f"probability beside {len(recipe.negatives)} other names. How often that is right, "
        "`sarclip evaluate --unknown` measures."
    )


def _listed(title: str, names: Sequence[str]) -> str:
    return f"{title} ({len(names)}): {', '.join(names) or 'none'}."


def _results(recipe: Recipe) -> str:
    if not (found := results_of(recipe)):
        return "None are known."
    rows = [(test, f"{score.accuracy:.2f}", score.total) for test, score in found]
    return tabulate(
        rows, ("test", "accuracy (%)", "pictures"), tablefmt="github", disable_numparse=True
    )


def results_of(recipe: Recipe) -> tuple[Result, ...]:
    """From the logs of a training and, in base-to-new's folders, of the tests of its model."""
    if (run := recipe.run) is None:
        return recipe.results
    tests = [("after the training", run, True)]
    parts = run.absolute().parts
    for at, part in enumerate(parts):
        if part == "train_base":
            new = Path(*parts[:at], "test_new", *parts[at + 1 :])
            tests.append(("new classes, by themselves", new, False))
    found = [(test, read_run(folder, trained=trained).score) for test, folder, trained in tests]
    return tuple(Result(test, score) for test, score in found if score is not None)
