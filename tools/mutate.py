"""Breaks the program on purpose, in one place at a time: do the fast tests notice?

    python tools/mutate.py            all of tools/mutations.yaml; result in docs/testing.md
    python tools/mutate.py WORD ...   those whose file or description has one of the words
    python tools/mutate.py --go-on    those that a stopped run has left, or that nothing caught
    python tools/mutate.py --check    only whether each of them still finds its line, and the page

Each mutation is made in a copy of the working tree, never in the tree itself. The tests that
concern it run first; all fast tests only on what these let pass, when every mutation has been
tried. What is found is kept in tools/mutations.jsonl as soon as it is. Ends with status 1 if a
mutation was not caught.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST, PAGE = ROOT / "tools" / "mutations.yaml", ROOT / "docs" / "testing.md"
FOUND = ROOT / "tools" / "mutations.jsonl"
BEGIN, END = "<!-- mutations: written by tools/mutate.py -->", "<!-- end of mutations -->"
SECONDS = 1200  # a mutation may also be one that never ends


class Mutation(NamedTuple):
    """A line (or several, one below the other) of a file, and what takes its place."""

    area: str
    what: str
    file: str  # glob, from the root
    lines: tuple[str, ...]  # without indentation
    becomes: tuple[str, ...]  # without indentation; empty: the line goes
    tests: tuple[str, ...]  # arguments of pytest: those that should notice

    def apply(self, root: Path) -> tuple[Path, str]:
        """The file and its mutated text. ValueError unless the lines stand in exactly one place."""
        places = []
        for path in sorted(root.glob(self.file)):
            text = path.read_text().splitlines()
            stripped = [line.strip() for line in text]
            n = len(self.lines)
            starts = [i for i in range(len(text)) if tuple(stripped[i : i + n]) == self.lines]
            places += [(path, text, start) for start in starts]
        if len(places) != 1:
            raise ValueError(
                f"'{self.what}' no longer applies: its lines stand in {len(places)} places of "
                f"{self.file}, expected one. Mend tools/mutations.yaml. The lines: "
                f"{list(self.lines)}"
            )
        ((path, text, start),) = places
        indent = text[start][: len(text[start]) - len(text[start].lstrip())]
        text[start : start + len(self.lines)] = [indent + line for line in self.becomes]
        return path, "\n".join(text) + "\n"


def mutations() -> list[Mutation]:
    def lines(text: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in text.splitlines())

    return [
        Mutation(
            area["area"],
            one["what"],
            one["file"],
            lines(one["line"]),
            lines(one["becomes"]),
            tuple(shlex.split(one.get("tests", area["tests"]))),
        )
        for area in yaml.safe_load(LIST.read_text())
        for one in area["mutations"]
    ]


@contextlib.contextmanager
def scratch_tree() -> Iterator[Path]:
    """A copy of the files that git knows or would add."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield Path(folder).resolve()


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit status of pytest on the tree, and the first test that failed.

    In a fork of this process, which has imported what all tests need but nothing of the program,
    and in a session of its own, whose processes all end with it.
    """
    log = tree / "mutation.log"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.alarm(SECONDS)
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ["PYTHONPATH"] = str(tree)
        status = 3
        try:
            import sar

            assert Path(str(sar.__file__)).is_relative_to(tree), sar.__file__
            # Hypothesis is imported before the fork, which pytest would have it be after.
            quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
            status = pytest.main(["-xq", *quiet, "-p", "no:cacheprovider", "--tb=line", *tests])
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(int(status))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return status, line.partition(" ")[2].partition(" - ")[0]
    return status, "no end" if status == -signal.SIGALRM else f"status {status}"


def judge(mutation: Mutation, tests: Sequence[str]) -> str:
    """The first of the tests that catches a mutation; empty if none does."""
    with scratch_tree() as tree:
        path, text = mutation.apply(tree)
        path.write_text(text)
        status, test = run_tests(tree, tests)
    code = pytest.ExitCode
    if status in (code.INTERNAL_ERROR, code.USAGE_ERROR, code.NO_TESTS_COLLECTED):
        raise ValueError(f"'{mutation.what}': pytest runs no test of {shlex.join(tests)}")
    return test if status else ""


class Found:
    """Of each mutation the test that caught it or nothing, kept as soon as it is known."""

    def __init__(self) -> None:
        lines = FOUND.read_text().splitlines() if FOUND.is_file() else []
        self._known: dict[str, str] = dict(json.loads(line) for line in lines)

    def of(self, mutation: Mutation) -> str | None:
        """None: it has not been tried as it is now."""
        return self._known.get(_hash(mutation))

    def add(self, mutation: Mutation, test: str) -> None:
        self._known[_hash(mutation)] = test
        with FOUND.open("a") as file:
            file.write(_line(mutation, test))
        print(f"{mutation.area}: {mutation.what}: {test or 'NOT CAUGHT'}", flush=True)

    def tidy(self, every: Sequence[Mutation]) -> None:
        """Keep what is known of these alone, in their order."""
        known = ((one, self.of(one)) for one in every)
        FOUND.write_text("".join(_line(one, test) for one, test in known if test is not None))


def _hash(mutation: Mutation) -> str:
    return hashlib.sha256(json.dumps(mutation).encode()).hexdigest()[:12]


def _line(mutation: Mutation, test: str) -> str:
    return json.dumps([_hash(mutation), test]) + "\n"


def run(chosen: Sequence[Mutation], found: Found, jobs: int, quick: bool) -> None:
    """Try mutations on the tests that concern them, then on all what these let pass."""
    import hypothesis  # noqa: F401
    import torch._dynamo  # noqa: F401
    import torchvision  # noqa: F401

    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:

        def test(some: Sequence[Mutation], tests: Sequence[Sequence[str]]) -> None:
            for one, caught_by in zip(some, pool.map(judge, some, tests), strict=True):
                found.add(one, caught_by)

        test(chosen, [one.tests for one in chosen])
        left = [one for one in chosen if not quick and not found.of(one)]
        test(left, [("tests", "--ignore=tests/test_mutations.py")] * len(left))


def check_unbroken(tests: Sequence[str]) -> None:
    """End the program if a test that caught something fails in the unbroken program, too."""
    with scratch_tree() as tree:
        status, test = run_tests(tree, tests)
    if status:
        sys.exit(f"{test} fails in the unbroken program, too, and says nothing")


def table(every: Sequence[Mutation], found: Found) -> str:
    """How many there are of each area, and which tests catch them: what the page says of them."""
    rows = ["| area | mutations | tried | caught by |", "|---|---|---|---|"]
    for area, of_area in itertools.groupby(every, lambda one: one.area):
        tests = [found.of(one) for one in of_area]
        files = ", ".join(sorted({f"`{test.partition('::')[0]}`" for test in tests if test}))
        rows.append(f"| {area} | {len(tests)} | {len(tests) - tests.count(None)} | {files} |")
    tried = [one for one in every if found.of(one) is not None]
    missed = [one for one in tried if not found.of(one)]
    count = f"{len(every)} mutations, {len(tried)} tried, {len(tried) - len(missed)} caught."
    listed = "".join(f"- Not caught: {one.what} (`{one.file}`)\n" for one in missed)
    return "\n".join([count, "", *rows, "", listed])


def write_page(every: Sequence[Mutation], found: Found) -> None:
    from marks import write_between  # which imports the program: see `run_tests`

    found.tidy(every)
    write_between(PAGE, BEGIN, END, table(every, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutations with one of these words")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at the same time")
    parser.add_argument("--go-on", action="store_true", help="only what is not known to be caught")
    parser.add_argument("--quick", action="store_true", help="the tests that concern it alone")
    parser.add_argument("--check", action="store_true", help="only find the lines")
    args = parser.parse_args()
    every = mutations()
    for one in every:
        try:
            one.apply(ROOT)
        except ValueError as error:
            sys.exit(str(error))
    found = Found()
    if args.check:
        write_page(every, found)
        print(f"{len(every)} mutations apply")
        return
    chosen = [m for m in every if any(w in f"{m.file} {m.what}" for w in args.words or [""])]
    run([m for m in chosen if not (args.go_on and found.of(m))], found, args.jobs, args.quick)
    caught_by = [found.of(one) or "" for one in chosen]
    check_unbroken(sorted({test for test in caught_by if "tests/" in test}))
    write_page(every, found)
    sys.exit(not all(caught_by))


if __name__ == "__main__":
    main()
