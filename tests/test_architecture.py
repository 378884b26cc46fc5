"""Who may import whom: no circles, arrows one way. Imports inside functions count as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

GROUND = {
    "errors",
    "storage",
    "command_line",
    "settings",
    "divergence",
    "encoding",
    "predictions",
    "picture",
}
NAMES = GROUND | {"classes"}
HEART = {
    "alignment",
    "prompt_tokens",
    "views",
    "reference",
    "teacher",
    "mixing",
    "weight",
    "gradient",
    "injection",
    "config",
    "trainer",
}
# What each file and folder of `sar/` may import of the others; a new one adds a line.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    **dict.fromkeys(GROUND, GROUND),
    "storage": {"errors"},
    "command_line": {"errors", "storage", "__init__"},
    "classes": {"errors", "storage", "settings"},
    "data": NAMES,
    "toolbox": NAMES | {"data"},  # knows nothing of SAR
    **dict.fromkeys(HEART, NAMES | HEART | {"__init__"}),
    "trainers": NAMES | HEART,
    "host": NAMES | HEART | {"toolbox", "trainers"},
    "asking": NAMES | {"toolbox"},
    "novel": NAMES | {"asking", "toolbox"},
    "describe": NAMES | {"asking", "toolbox"},
    "inspection": NAMES | HEART | {"toolbox", "host"},
    "results": GROUND | {"__init__"},
    "classifier": NAMES | HEART | {"__init__", "data", "toolbox", "host", "inspection", "results"},
    "tasks": NAMES | {"toolbox", "classifier"},
    "protocols": NAMES | {"results"},
    "data_check": NAMES | {"data", "toolbox"},
    "doctor": NAMES | {"data", "host", "protocols"},
}
COMMAND_LINE = {"cli", "__main__", "single_run"}  # may import everything
# Several folders have a file of this name, for the same thing.
SHARED_NAMES = {
    "cli",
    "ablation",
    "base2new",
    "fewshot",
    "transfer",
    "generate",
    "question",
}
# Dassl's names for parts of the toolbox.
DASSL_NAMES = {"config", "data"}


def _modules() -> dict[str, Path]:
    """Every module of the package under the name it is imported by."""
    found = {}
    for folder, package in ((ROOT / "sar", "sar"), (ROOT / "trainers", "sar.trainers")):
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = file
    return found


MODULES = _modules()


def _imports(name: str) -> set[str]:
    """The modules of the package that a module's source imports, wherever in it."""
    file = MODULES[name]
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            parts = [f"{source}.{alias.name}" for alias in node.names]
            found |= {part if part in MODULES else source for part in parts}
    return (found & MODULES.keys()) - {name}


IMPORTS = {name: _imports(name) for name in MODULES}
PACKAGES = sorted({name.rpartition(".")[0] for name in MODULES} - {""})


def _arrows(package: str) -> dict[str, set[str]]:
    """Of each file and folder directly in `package`: the others of them that it imports."""

    def part(name: str) -> str:
        return name.removeprefix(package).lstrip(".").partition(".")[0] or "__init__"

    inside = [name for name in MODULES if f"{name}.".startswith(f"{package}.")]
    arrows: dict[str, set[str]] = {part(name): set() for name in inside}
    for name in inside:
        arrows[part(name)] |= {part(other) for other in IMPORTS[name].intersection(inside)}
    return {name: others - {name} for name, others in arrows.items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles(package: str) -> None:
    """Neither files nor folders: any circle lies within the innermost package that holds it."""
    try:
        TopologicalSorter(_arrows(package)).prepare()
    except CycleError as error:
        pytest.fail(f"{package} has a circle: {' <- '.join(error.args[1])}")


def test_arrows_point_one_way() -> None:
    arrows = _arrows("sar")
    assert arrows.keys() - COMMAND_LINE == ALLOWED.keys()
    forbidden = {
        f"{part} -> {other}"
        for part in arrows.keys() - COMMAND_LINE
        for other in arrows[part] - ALLOWED[part]
    }
    assert not forbidden


def test_imports_are_seen_wherever_they_stand() -> None:
    """The test's own reading: at the top, inside a function, relative, of a module by name."""
    assert "sar.command_line.commands" in IMPORTS["sar.cli"]
    assert "sar.doctor" in IMPORTS["sar.cli"]
    assert "sar.toolbox.clip.openai" in IMPORTS["sar.toolbox.clip"]
    assert {"sar.host", "sar.host.dassl"} <= IMPORTS["sar.host.checkout"]
    assert "sar.views" in IMPORTS["sar.trainers.conditional"]


def test_one_name_for_one_thing() -> None:
    names = Counter(name.rpartition(".")[2] for name in MODULES)
    repeated = {name for name, count in names.items() if count > 1}
    assert repeated == SHARED_NAMES | DASSL_NAMES


def test_results_and_protocols_do_without_torch() -> None:
    light = [name for name in MODULES if name.split(".")[1:2] in (["results"], ["protocols"])]
    code = f"import sys, {', '.join(light)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_names_every_part() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for part in ALLOWED.keys() - {"__init__"}:
        assert f"`{part}`" in page or f"`{part}/`" in page, part
