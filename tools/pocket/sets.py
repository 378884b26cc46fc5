"""The icon sets of the package @iconify/json: which are used, who drew them, which belong together.

Only permissive licences are used (the package states one for every set). Sets of brands, flags,
file types and programming languages are left out; their names tell which names of the other sets
are brands. Sets by one hand, or copied from each other, form a *family* and are dealt together.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "@iconify/json", "2.2.535"
PERMISSIVE = (
    *("MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "Unlicense"),
    *("CC-BY-3.0", "CC-BY-4.0"),
)
BRANDS = (
    *("bxl", "cib", "fa-brands", "fa6-brands", "fa7-brands", "logos", "selfhst", "simple-icons"),
    *("streamline-logos", "thesvg", "thesvg-color", "devicon", "devicon-plain", "file-icons"),
    *("skill-icons", "unjs", "cryptocurrency", "cryptocurrency-color", "token", "token-branded"),
)
LEFT_OUT = (  # flags, file types, cloud products, care labels, and sets without things
    *("cif", "circle-flags", "flag", "flagpack", "catppuccin", "material-icon-theme"),
    *("vscode-icons", "gcp", "k8s", "nonicons", "codicon", "geo", "svg-spinners", "ginetex"),
)
# Sets drawn once and shipped in several styles or editions: first the family, then its hands.
# One drawing of a hand counts once, whatever its style.
FAMILIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "boxicons": (("boxicons",), ("bx", "bxs")),
    "emojione": (("emojione", "emojione-monotone"),),
    "fluent": (("fluent", "fluent-color"),),
    "fluent-emoji": (("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast"),),
    "font-awesome": (
        *(("fa-regular", "fa-solid"), ("fa6-regular", "fa6-solid"), ("fa7-regular", "fa7-solid")),
        ("la",),
    ),
    "glyphs": (("glyphs", "glyphs-poly"),),
    "heroicons": (("heroicons-outline", "heroicons-solid"), ("heroicons",)),
    "icon-park": (("icon-park", "icon-park-outline", "icon-park-solid", "icon-park-twotone"),),
    "icons8": (("flat-color-icons",), ("icons8",), ("wpf",)),
    "ionicons": (("ion",), ("famicons",)),
    "lucide": (("lucide",), ("lucide-lab",), ("feather",), ("vadivam",), ("mynaui",)),
    "map-icons": (("maki",), ("osmic",), ("pinhead",), ("roentgen",), ("temaki",)),
    "material": (("ic",), ("material-symbols", "material-symbols-light"), ("mdi",)),
    "mono-icons": (("mi", "mono-icons"),),
    "noto": (("noto",), ("noto-v1",)),
    "pepicons": (("pepicons", "pepicons-pencil", "pepicons-pop", "pepicons-print"),),
    "pixelarticons": (("majesticons",), ("pixelarticons",)),
    "streamline": (
        ("streamline", "streamline-color"),
        ("streamline-block",),
        ("streamline-cyber", "streamline-cyber-color"),
        ("streamline-flex", "streamline-flex-color"),
        ("streamline-freehand", "streamline-freehand-color"),
        ("streamline-kameleon-color",),
        ("streamline-pixel",),
        ("streamline-plump", "streamline-plump-color"),
        ("streamline-sharp", "streamline-sharp-color"),
        ("streamline-stickies-color",),
        ("streamline-ultimate", "streamline-ultimate-color"),
        ("covid",),
        ("guidance",),
    ),
    "unicons": (("uil", "uim", "uis", "uit"),),
}


@dataclass(frozen=True)
class IconSet:
    """One set: its drawings as SVG bodies, and who made them under which licence."""

    prefix: str
    title: str
    author: str
    url: str
    licence: str
    version: str
    family: str
    hand: str
    coloured: bool
    data: dict[str, Any]

    def svg(self, name: str) -> str:
        """A whole SVG of one drawing; black ink where the set has no colours of its own."""
        icon, data = self.data["icons"][name], self.data
        width, height = (icon.get(side, data.get(side, 16)) for side in ("width", "height"))
        left, top = (icon.get(side, data.get(side, 0)) for side in ("left", "top"))
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" color="black">{icon["body"]}</svg>'
        )

    def categories(self) -> dict[str, list[str]]:
        """The categories that the set itself names, per drawing."""
        found: dict[str, list[str]] = {}
        for category, names in self.data.get("categories", {}).items():
            for name in names:
                found.setdefault(name, []).append(category)
        return found


def unpack(cache: Path) -> Path:
    """Folder of the unpacked package, downloaded once with `npm pack`."""
    target = cache / f"iconify-json-{VERSION}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        answer = subprocess.run(
            ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"],
            cwd=cache,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(cache / answer.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(target.with_suffix(".new"), filter="data")
        target.with_suffix(".new").rename(target)
    return target / "package"


def read_sets(package: Path) -> Iterator[IconSet]:
    """The sets that are used, in the order of their prefixes."""
    collections = json.loads((package / "collections.json").read_text(encoding="utf-8"))
    place = {
        prefix: (family, hand[0])
        for family, hands in FAMILIES.items()
        for hand in hands
        for prefix in hand
    }
    for prefix, info in sorted(collections.items()):
        licence = info["license"].get("spdx")
        if licence not in PERMISSIVE or prefix in BRANDS or prefix in LEFT_OUT:
            continue
        file = package / "json" / f"{prefix}.json"
        family, hand = place.get(prefix, (prefix, prefix))
        yield IconSet(
            prefix=prefix,
            title=info["name"],
            author=info["author"]["name"],
            url=info["author"].get("url", ""),
            licence=licence,
            version=info.get("version", ""),
            family=family,
            hand=hand,
            coloured=bool(info.get("palette")),
            data=json.loads(file.read_text(encoding="utf-8")),
        )


def brand_names(package: Path) -> dict[str, int]:
    """In how many of the sets of brands a name (words with spaces) stands."""
    counts: dict[str, int] = {}
    for prefix in BRANDS:
        data = json.loads((package / "json" / f"{prefix}.json").read_text(encoding="utf-8"))
        names = {name.replace("-icon", "").replace("-", " ") for name in data["icons"]}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return counts
