"""Openly licensed artwork: which packages, under which licence, and how a concept is found in one.

Only Apache-2.0, MIT and CC-BY artwork is used. Packages come from the npm registry with
`npm pack`; versions are pinned so that a rebuild sees the same pictures.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from concepts import Concept, plain_code
from PIL import Image

SIZE = 64  # pixels per side of every stored picture, RGBA


@dataclass(frozen=True)
class Pack:
    """One package of pictures. `role`: pretrain, shots, test or shift (see docs/pocket-clip.md)."""

    style: str
    package: str
    version: str
    licence: str
    author: str
    role: str

    @property
    def coloured(self) -> bool:
        return self.style not in ICON_SETS | {"emojione-mono", "fluent-contrast"}


PACKS = (
    Pack("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0", "Google Inc", "pretrain"),
    Pack("noto-v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google Inc", "pretrain"),
    Pack("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twitter", "pretrain"),
    Pack("emojione", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "Emoji One", "pretrain"),
    Pack(
        "emojione-mono",
        "@iconify-json/emojione-monotone",
        "1.2.1",
        "CC-BY-4.0",
        "Emoji One",
        "pretrain",
    ),
    Pack(
        "streamline",
        "@iconify-json/streamline-emojis",
        "1.2.4",
        "CC-BY-4.0",
        "Streamline",
        "pretrain",
    ),
    Pack("icon-park", "@iconify-json/icon-park", "1.2.4", "Apache-2.0", "ByteDance", "pretrain"),
    Pack("game-icons", "@iconify-json/game-icons", "1.2.4", "CC-BY-3.0", "GameIcons", "pretrain"),
    Pack("mdi", "@iconify-json/mdi", "1.2.3", "Apache-2.0", "Pictogrammers", "pretrain"),
    Pack("fontawesome", "@iconify-json/fa7-solid", "1.2.5", "CC-BY-4.0", "Dave Gandy", "pretrain"),
    Pack("phosphor", "@iconify-json/ph", "1.2.2", "MIT", "Phosphor Icons", "pretrain"),
    Pack("tabler", "@iconify-json/tabler", "1.2.41", "MIT", "Pawel Kuna", "pretrain"),
    Pack("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft", "shots"),
    Pack("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "Microsoft", "test"),
    Pack(
        "fluent-contrast",
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "MIT",
        "Microsoft",
        "shift",
    ),
    Pack("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla", "shift"),
)
EMOJIBASE = ("emojibase-data", "17.0.0")
# These sets name general icons, not emoji code points: only an exact name counts, and filled
# variants ("-fill", "-filled") are preferred because outlines vanish at 40 pixels.
ICON_SETS = {"icon-park", "game-icons", "mdi", "fontawesome", "phosphor", "tabler"}


def unpack(package: str, version: str, cache: Path) -> Path:
    """Folder of the unpacked package, downloaded once with `npm pack`."""
    target = cache / f"{package.replace('@', '').replace('/', '-')}-{version}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        answer = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],
            cwd=cache,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(cache / answer.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(target, filter="data")
    return target / "package"


def _slug(name: str) -> str:
    ascii_name = name.lower().replace("'", "").replace("ñ", "n").replace(".", "")
    return re.sub("[^a-z0-9]+", "-", ascii_name).strip("-")


class IconSet:
    """SVG bodies of one Iconify package, found by code point or by name."""

    def __init__(self, style: str, folder: Path) -> None:
        self.style = style
        self.data = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = folder / "chars.json"
        self.by_code = {}
        if style not in ICON_SETS and chars.exists():
            stored = json.loads(chars.read_text(encoding="utf-8"))
            self.by_code = {plain_code(code): name for code, name in stored.items()}
        self.names = set(self.data["icons"]) | set(self.data.get("aliases", {}))
        # FxEmoji writes its names without any separator.
        self.by_joined = {name.replace("-", ""): name for name in sorted(self.names)}

    def svgs(self, concept: Concept) -> Iterator[str]:
        """Distinct pictures of a concept, at most one per emoji label (one in an icon set)."""
        labels = [concept.name] if self.style in ICON_SETS else concept.labels
        codes = [""] if self.style in ICON_SETS else concept.codes
        seen: set[str] = set()
        for code, label in zip(codes, labels, strict=True):
            body = self._svg(self.by_code.get(code) or self._by_name(label))
            if body is not None and body not in seen:
                seen.add(body)
                yield body

    def _by_name(self, label: str) -> str | None:
        slug = _slug(label)
        if self.style in ICON_SETS:
            candidates = [slug + end for end in ("-fill", "-filled", "", "-one", "-1")]
            return next((name for name in candidates if name in self.names), None)
        candidates = [slug + end for end in ("", "-face", "-1", "-2")]
        found = next((name for name in candidates if name in self.names), None)
        joined = [slug.replace("-", "") + end for end in ("", "face", "symbol")]
        return found or next((self.by_joined[n] for n in joined if n in self.by_joined), None)

    def _svg(self, name: str | None) -> str | None:
        aliases = self.data.get("aliases", {})
        while name is not None and name not in self.data["icons"]:
            name = aliases.get(name, {}).get("parent")
        if name is None:
            return None
        icon = self.data["icons"][name]
        width, height = (icon.get(side, self.data.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}" width="{width}" height="{height}" color="black">{icon["body"]}</svg>'
        )


def rasterize(svg: str) -> np.ndarray | None:
    """(SIZE, SIZE, 4) uint8 picture, centred; None where the renderer draws nothing."""
    import resvg_py

    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, skip_system_fonts=True))
    except Exception as error:  # resvg raises plain exceptions for what it cannot draw
        print(f"skipped a picture: {error}")
        return None
    return _square(Image.open(io.BytesIO(png)))


def _square(picture: Image.Image) -> np.ndarray | None:
    picture = picture.convert("RGBA")
    picture.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    pixels = np.asarray(canvas)
    return pixels if pixels[..., 3].mean() > 3 else None


def pictures(pack: Pack, concepts: list[Concept], cache: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(concept index, picture) for every concept that the pack shows."""
    folder = unpack(pack.package, pack.version, cache)
    if pack.style == "fluent-3d":
        files = {plain_code(path.stem): path for path in sorted(folder.glob("assets/*.webp"))}
        for number, concept in enumerate(concepts):
            for code in concept.codes:
                if code in files:
                    pixels = _square(Image.open(files[code]))
                    if pixels is not None:
                        yield number, pixels
        return
    icons = IconSet(pack.style, folder)
    for number, concept in enumerate(concepts):
        for svg in icons.svgs(concept):
            pixels = rasterize(svg)
            if pixels is not None:
                yield number, pixels
