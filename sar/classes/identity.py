"""When two class names name the same class, by rules on their spelling alone."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

# Words that say of what kind a class is; behind its name they add nothing ("persian cat").
_KINDS = re.compile(
    "aircraft|airplane|animal|automobile|bird|breed|building|car|cat|cuisine|dish|dog|fabric|fish|"
    "flower|food|fruit|land|landscape|material|pattern|place|plane|plant|room|scene|shop|store|"
    "surface|texture|tree|vegetable|vehicle"
)
_FILLERS = frozenset({"a", "an", "the", "of", "and"})
_IRREGULAR = {"leaves": "leaf", "knives": "knife", "wolves": "wolf", "shelves": "shelf"}
_IRREGULAR |= {"mice": "mouse", "geese": "goose", "men": "man", "women": "woman"}


def prompt_name(name: str) -> str:
    """A name as it is put into a prompt: underscores as spaces, single blanks, composed letters."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())


def shown(name: str) -> str:
    """A name in quotes for a message, where two names that look alike look different."""
    if name == unicodedata.normalize("NFC", name):
        return repr(name)
    return f"{name!r} (that is {name!a})"


def told_apart(names: Sequence[str]) -> dict[str, str]:
    """Distinct names of classes, in label order -> the names that prompts say.

    A name that an earlier class has, as happens twice in ImageNet, gets its label behind it.
    """
    found: dict[str, str] = {}
    there: set[str] = set()
    for label, name in enumerate(names):
        plain = prompt_name(name)
        found[f"{plain} (label {label})" if plain in there else name] = name
        there.add(plain)
    return found


def identity(name: str) -> str:
    """A key that two spellings of one class have in common: no case, hyphens or plural s."""
    key = prompt_name(name.replace("-", " ")).lower()
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The names that are none of the others, each once, in their order."""
    seen = {identity(name) for name in others}
    kept = []
    for name in names:
        if (key := identity(name)) not in seen:
            seen.add(key)
            kept.append(name)
    return tuple(kept)


def spellings(name: str) -> frozenset[str]:
    """Keys by which a name is recognized; two names that share a key may be one class.

    Wider than `identity`: no accents and punctuation, every word in the singular, no articles,
    "hot dog" as "hotdog", "terrier, boston" as "boston terrier", "crane (bird)" as "crane", and
    "persian cat" as "persian". Empty for a name without letters and digits.
    """
    return frozenset(
        key
        for words in _variants(name)
        if words
        for key in ("".join(words), " ".join(sorted(words)))
    )


def _variants(name: str) -> Iterator[list[str]]:
    yield (words := _words(name))
    if "(" in name:
        yield _words(re.sub(r"\([^)]*\)?", " ", name))
    if len(words) > 1 and _KINDS.fullmatch(words[-1]):
        yield words[:-1]


def _words(name: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub("['\u2019`]", "", plain)  # before punctuation parts words: "bull's-eye"
    words = re.findall(r"\w+", plain.replace("_", " "))
    return [_stem(word) for word in words if word not in _FILLERS] or words


def _stem(word: str) -> str:
    """The same key for singular and plural; not always a word."""
    word = _IRREGULAR.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 3:  # "fox(e)", "tomato(e)", "dish(e)", "cooki(e)", but neither "cane" nor "pie"
        word = re.sub("(?<=[ohsxzi])e$", "", word)
    return re.sub("y$", "i", word)
