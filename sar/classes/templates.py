"""Hand-crafted prompt templates, one per data set.

Source: the templates published with CoOp (Zhou et al., IJCV 2022), keyed by the names under which
the data sets are registered. Data sets without a template of their own get the generic one.
"""

from pathlib import Path

GENERIC = "a photo of a {}."

_TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}


def template_for(dataset_name: str) -> str:
    """The hand-crafted template of a data set, with one ``{}`` for the class name.

    `dataset_name` is the registered name (``cfg.DATASET.NAME``, e.g. ``"OxfordPets"``); any name
    that has no template of its own gets ``"a photo of a {}."``.
    """
    return _TEMPLATES.get(dataset_name, GENERIC)


def imagenet_templates() -> list[str]:
    """The templates of PromptSRC's text teacher, each with one ``{}`` for the class name."""
    text = Path(__file__).with_name("imagenet_templates.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]
