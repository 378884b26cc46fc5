"""The concepts of the pocket CLIP: emoji names of five groups, near-duplicates merged.

Names, keywords and groups come from emojibase-data (MIT), which repackages Unicode CLDR. Several
emoji show one thing ("dog", "dog face"; four mailboxes): as separate classes they could only be
told apart by guessing, so they become one concept with several source pictures.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

GROUPS = ("animals-nature", "food-drink", "objects", "travel-places", "activities")
DEMO_DATASETS = {
    "DemoAnimals": "animals-nature",
    "DemoFood": "food-drink",
    "DemoObjects": "objects",
    "DemoTravel": "travel-places",
}

# kept name -> emoji labels shown as the same thing
MERGED: dict[str, tuple[str, ...]] = {
    "monkey": ("monkey face",),
    "dog": ("dog face", "guide dog", "service dog"),
    "cat": ("cat face", "black cat"),
    "tiger": ("tiger face",),
    "horse": ("horse face",),
    "cow": ("cow face",),
    "pig": ("pig face",),
    "mouse": ("mouse face",),
    "rabbit": ("rabbit face",),
    "dragon": ("dragon face",),
    "camel": ("two-hump camel",),
    "whale": ("spouting whale",),
    "baby chick": ("front-facing baby chick",),
    "mushroom": ("brown mushroom",),
    "clover": ("shamrock", "four leaf clover"),
    "apple": ("red apple", "green apple"),
    "ice cream": ("soft ice cream",),
    "beer mug": ("clinking beer mugs",),
    "fork and knife": ("fork and knife with plate",),
    "globe": (
        "globe showing Europe-Africa",
        "globe showing Americas",
        "globe showing Asia-Australia",
    ),
    "cityscape": ("cityscape at dusk",),
    "sunrise": ("sunrise over mountains",),
    "house": ("house with garden",),
    "bullet train": ("high-speed train",),
    "tram": ("tram car",),
    "bus": ("oncoming bus",),
    "police car": ("oncoming police car",),
    "taxi": ("oncoming taxi",),
    "automobile": ("oncoming automobile",),
    "wheelchair": ("manual wheelchair", "motorized wheelchair"),
    "traffic light": ("horizontal traffic light", "vertical traffic light"),
    "speedboat": ("motor boat",),
    "ship": ("passenger ship",),
    "airplane": ("small airplane", "airplane departure", "airplane arrival"),
    "hourglass": ("hourglass done", "hourglass not done"),
    "gibbous moon": ("waxing gibbous moon", "waning gibbous moon"),
    "half moon": ("first quarter moon", "last quarter moon"),
    "crescent moon": (
        "waxing crescent moon",
        "waning crescent moon",
        "first quarter moon face",
        "last quarter moon face",
    ),
    "new moon": ("new moon face",),
    "full moon": ("full moon face",),
    "sun": ("sun with face",),
    "star": ("glowing star",),
    "sun behind cloud": ("sun behind small cloud", "sun behind large cloud"),
    "cloud with lightning": ("cloud with lightning and rain",),
    "umbrella": ("umbrella with rain drops",),
    "snowman": ("snowman without snow",),
    "speaker": (
        "muted speaker",
        "speaker low volume",
        "speaker medium volume",
        "speaker high volume",
    ),
    "bell": ("bell with slash",),
    "musical note": ("musical notes",),
    "mobile phone": ("mobile phone with arrow",),
    "battery": ("low battery",),
    "compact disc": ("optical disk", "dvd"),
    "camera": ("camera with flash",),
    "magnifying glass": ("magnifying glass tilted left", "magnifying glass tilted right"),
    "book": ("closed book", "green book", "blue book", "orange book"),
    "notebook": ("notebook with decorative cover",),
    "page": ("page with curl", "page facing up"),
    "newspaper": ("rolled-up newspaper",),
    "banknote": ("yen banknote", "dollar banknote", "euro banknote", "pound banknote"),
    "chart increasing": ("chart increasing with yen",),
    "envelope": ("e-mail", "incoming envelope", "envelope with arrow"),
    "mailbox": (
        "closed mailbox with raised flag",
        "closed mailbox with lowered flag",
        "open mailbox with raised flag",
        "open mailbox with lowered flag",
    ),
    "file folder": ("open file folder",),
    "calendar": ("tear-off calendar", "spiral calendar"),
    "pushpin": ("round pushpin",),
    "paperclip": ("linked paperclips",),
    "padlock": ("locked", "unlocked", "locked with pen", "locked with key"),
    "key": ("old key",),
    "ticket": ("admission tickets",),
    "medal": (
        "sports medal",
        "military medal",
        "1st place medal",
        "2nd place medal",
        "3rd place medal",
    ),
}
# Pictures of other concepts put together, or hardly a picture of what the name says.
DROPPED = {
    "houses",
    "hammer and pick",
    "hammer and wrench",
    "cooking",
    "reminder ribbon",
    "globe with meridians",
    "construction",
}


@dataclass
class Concept:
    """One class name with its keywords, group and the code points of its source pictures."""

    name: str
    group: str
    keywords: tuple[str, ...]
    codes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def plain_code(code: str) -> str:
    """Code points in lower case without the emoji-presentation selector."""
    return re.sub("-fe0f", "", code.lower())


def read_concepts(emojibase: Path) -> list[Concept]:
    """Concepts in a fixed order (by name) from an unpacked emojibase-data package."""
    entries = json.loads((emojibase / "en" / "data.json").read_text(encoding="utf-8"))
    names = json.loads((emojibase / "meta" / "groups.json").read_text(encoding="utf-8"))
    kept_name = {label: name for name, labels in MERGED.items() for label in labels}
    concepts: dict[str, Concept] = {}
    for entry in entries:
        group = names["groups"].get(str(entry.get("group")))
        label = entry["label"].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        if group not in GROUPS or label in DROPPED:
            continue
        if names["subgroups"][str(entry["subgroup"])] == "time" and (
            "o'clock" in label or label.endswith("thirty")
        ):
            continue
        name = kept_name.get(label, label)
        concept = concepts.setdefault(name, Concept(name, group, tuple(entry.get("tags", ()))))
        # The kept name's own picture comes first.
        position = 0 if label == name else len(concept.codes)
        concept.codes.insert(position, plain_code(entry["hexcode"]))
        concept.labels.insert(position, label)
    return sorted(concepts.values(), key=lambda concept: concept.name)
