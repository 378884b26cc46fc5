"""Texts as people, spreadsheets and other programs get them wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Edit = Callable[[str], str]


def replaced(old: str, new: str, count: int = 1) -> Edit:
    def edit(text: str) -> str:
        assert old in text, (old, text[:200])
        return text.replace(old, new, count)

    return edit


def behind(more: str) -> Edit:
    return lambda text: text + more


CSV: Mapping[str, Edit] = {
    "semicolons": lambda text: text.replace(",", ";"),
    "tabulators": lambda text: text.replace(",", "\t"),
    "no header": lambda text: text.partition("\n")[2],
    "a header of capitals": replaced("path,label,split", "Path,Label,Split"),
    "a header of another program": replaced("path,label,split", "filename,class,subset"),
    "an unknown column": lambda text: text.replace("\n", ",x\n"),
    "a column of numbers in front": lambda text: "".join(
        f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(text.splitlines())
    ),
    "Split in place of split": replaced("path,label,split", "path,label,Split"),
    "set in place of split": replaced("path,label,split", "path,label,set"),
    "backslashes": lambda text: text.replace("/", "\\"),
    "absolute paths of another machine": lambda text: text.replace("oxford_pets/", "/home/x/"),
    "a path with a line end": replaced("abyssinian_train0.png,", '"abyssinian\n_train0.png",'),
    "an unknown split": replaced(",train", ",training"),
    "no split in a line": replaced(",train", ","),
    "too few fields": replaced(",train", ""),
    "too many fields": replaced(",train", ",train,train"),
    "an unclosed quote": replaced("abyssinian_train0", '"abyssinian_train0'),
    "a line twice": lambda text: text + text.splitlines()[1] + "\n",
    "a line twice, with ./": lambda text: f"{text}./{text.splitlines()[1]}\n",
    "a training picture in the test": lambda text: (
        text + text.splitlines()[1].replace(",train", ",test") + "\n"
    ),
    "an unlisted class": replaced(",abyssinian,", ",unheard of,"),
    "a class without a name": lambda text: text.replace(",abyssinian,", ", ,"),
    "a label that is a number": lambda text: text.replace(",abyssinian,", ",3,"),
    "a very long name": lambda text: text.replace(",abyssinian,", f",{'long ' * 100},"),
    "a cell of a megabyte": behind(f"{'x' * 1_000_000},abyssinian,train\n"),
    "no rows": lambda text: text.splitlines()[0] + "\n",
    "no training pictures": lambda text: text.replace(",train", ",test"),
    "no test pictures": lambda text: text.replace(",test", ",train"),
    "a zero byte in a path": replaced("abyssinian_train0", "abyssinian\0_train0"),
    "bytes that are no text": replaced("abyssinian_train0", "abyssinian\udcff"),
    "a path above the table": replaced("oxford_pets/images/a", "../../../../etc/a"),
    "a folder as a path": replaced("oxford_pets/images/abyssinian_train0.png", "oxford_pets"),
}
YAML: Mapping[str, Edit] = {
    "a tabulator as indentation": behind("\nX:\n\tY: 1\n"),
    "a tag of Python": behind("\nX: !!python/object/apply:os.system ['touch pwned']\n"),
    "an unknown tag": behind("\nX: !thing 1\n"),
    "a date that is none": behind("\nX: 2001-99-99\n"),
    "a number that is none": behind("\nX: !!int abc\n"),
    "a list as a key": behind("\n? [1, 2]\n: 3\n"),
    "a mapping as a key": behind("\n? {a: 1}\n: 3\n"),
    "a number as a key": behind("\n1: 2\n"),
    "an anchor that is not there": behind("\nX: *none\n"),
    "an anchor in itself": behind("\nX: &x [*x]\n"),
    "a billion laughs": behind(
        "\nX0: &x0 [a, a]\n"
        + "".join(f"X{i}: &x{i} [*x{i - 1}, *x{i - 1}]\n" for i in range(1, 30))
    ),
    "two documents": behind("\n---\na: 1\n"),
    "an unclosed bracket": behind("\nX: [1, 2\n"),
    "an unclosed quote": behind('\nX: "a\n'),
    "conflict marks": behind("\n<<<<<<< HEAD\nX: 1\n=======\nX: 2\n>>>>>>> other\n"),
    "a list": lambda text: "- a\n- b\n",
    "a word": lambda text: "word\n",
    "a comment alone": lambda text: "# nothing\n",
    "control characters": behind("\nX: \x07\n"),
}
CONFIG: Mapping[str, Edit] = {
    **YAML,
    "LR without a value": replaced("LR: 0.02", "LR:"),
    "a misspelled key": replaced("MAX_EPOCH", "MAX_EPOCHS"),
    "a key twice": replaced("LR: 0.02", "LR: 0.02\n  LR: 9.0"),
    "another kind of node": replaced("OPTIM:", "OPTIM: 3\nX:"),
    "a node in place of a value": replaced("LR: 0.02", "LR: {a: 1}"),
    "a comma as the point": replaced("LR: 0.02", "LR: 0,02"),
    "a unit": replaced("LR: 0.02", "LR: 0.02 per step"),
    "two numbers for a size": replaced("(32, 32)", "(32, 32, 32)"),
    "a negative size": replaced("(32, 32)", "(-32, 32)"),
    "fractions for a size": replaced("(32, 32)", "(32.5, 32)"),
    "words for a mean": replaced("[0.48145466, ", "[red, "),
    "words for a deviation": replaced("[0.26862954, ", "[red, "),
    "a deviation of 0": replaced("[0.26862954, ", "[0, "),
    "a negative deviation": replaced("[0.26862954, ", "[-1, "),
    "one transform, no list": replaced(
        "[random_resized_crop, random_flip, normalize]", "normalize"
    ),
    "a number among the transforms": replaced("random_flip", "3"),
    "an unknown transform": replaced("random_flip", "random_flop"),
}
NAMES: Mapping[str, Edit] = {
    "semicolons": lambda text: text.replace("\n", ";\n"),
    "bullets": lambda text: text.replace("\n", "\n- "),
    "numbers in front": lambda text: text.replace("\n", "\n1. "),
    "a base class alone": lambda text: "abyssinian\n",
    "empty lines alone": lambda text: "\n \n\t\n",
    "a very long name": behind("\n" + "long " * 100),
    "bytes that are no text": behind("\n\udcff\n"),
    "characters that no token knows": behind("\n\U0010ffff\u200b\n"),
    "a zero byte in a name": behind("\nta\0bby\n"),
}
TEMPLATES: Mapping[str, Edit] = {
    "no place for the name": behind("\na photo\n"),
    "two places for the name": behind("\na {} of {}\n"),
    "a name for the place": behind("\na {name}\n"),
    "an unclosed place": behind("\na {} {\n"),
    "a very long one": behind("\n" + "very " * 100 + "{}\n"),
}
LOG: Mapping[str, Edit] = {
    "no result": lambda text: text.partition("=> result")[0],
    "an accuracy of nan": replaced("accuracy: 73.0%", "accuracy: nan%"),
    "an accuracy above 100": replaced("accuracy: 73.0%", "accuracy: 173.0%"),
    "an accuracy that does not follow": replaced("accuracy: 73.0%", "accuracy: 75.0%"),
    "more correct than there are": replaced("correct: 730", "correct: 7300"),
    "a negative number": replaced("correct: 730", "correct: -730"),
    "a total of 0": replaced("total: 1,000", "total: 0"),
    "epochs in another script's digits": replaced("MAX_EPOCH: 2", "MAX_EPOCH: \u00b2"),
    "epochs of 6,000 digits": replaced("MAX_EPOCH: 2", f"MAX_EPOCH: {'9' * 6000}"),
    "no epochs": replaced("MAX_EPOCH: 2", "MAX_EPOCH:"),
    "fewer epochs": replaced("MAX_EPOCH: 2", "MAX_EPOCH: 3"),
    "a loss of nan": replaced("loss 0.71", "loss nan"),
    "a line of 210 kB": behind("epoch [1/2] " * 17_500),
    "the new classes": replaced("SUBSAMPLE_CLASSES: base", "SUBSAMPLE_CLASSES: new"),
    "a traceback": behind("Traceback (most recent call last):\nRuntimeError: x\n"),
    "two results": lambda text: text + text,
    "colours": replaced("* accuracy", "\x1b[1m* accuracy\x1b[0m"),
    "markup": behind("<script>alert(1)</script>\n"),
}
LINES: Mapping[str, Mapping[str, Edit]] = {
    "table (CSV)": CSV,
    "configuration (YAML)": CONFIG,
    "dataset's configuration (YAML)": YAML,
    "class list (YAML)": YAML,
    "novel names (YAML)": YAML,
    "novel names (text)": NAMES,
    "novel names (CSV)": NAMES,
    "templates (text)": TEMPLATES,
    "log": LOG,
    "table to check (CSV)": CSV,
    "class list to check (YAML)": YAML,
    "classes to tell apart (YAML)": YAML,
    "classes to tell apart (text)": NAMES,
    "classes to describe (text)": NAMES,
    "negative names (text)": NAMES,
}
"""By the way in."""
