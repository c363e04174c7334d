"""The shape of the tree: sizes, names, docstrings, terms, and a page and a contract for every driver."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prose import silent_docstrings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "isola"


@dataclass(frozen=True)
class Bound:
    """Maximum lines of the median, of the ninth decile, and of the longest."""

    half: int
    most: int
    longest: int


@dataclass(frozen=True)
class Bounds:
    """Maximum lengths of files and functions below a directory: slightly above the present ones."""

    files: Bound
    functions: Bound


BOUNDS = {
    "src": Bounds(Bound(110, 270, 600), Bound(7, 18, 55)),
    "tests": Bounds(Bound(150, 400, 800), Bound(8, 18, 50)),
    "bench": Bounds(Bound(80, 140, 200), Bound(5, 14, 40)),
}
WHOLE = {("devices.py", "device_group")}
"""Exceptions: functions without branches, such as a table of commands."""
VAGUE_NAMES = {"utils", "helpers", "common", "manager", "misc"}
GENERATED_DIRECTORIES = {"__pycache__", "results", "build", "dist", "node_modules"}
TEXT = {".py", ".md", ".toml", ".cfg", ".sh", ".in", ".service", ".json", ".yaml", ""}

FORBIDDEN_WORDS = ("TO" + "DO", "FIX" + "ME", "X" * 3, "/wo" + "rk/", "/tmp/br" + "ief")
FORBIDDEN_IN_SOURCE = ("Not" + "ImplementedError", "breakpoint" + "()")
FORBIDDEN_IN_TESTS = (
    "mock" + ".patch",
    "unittest" + ".mock",
    "monkeypatch" + ".setattr",
    "mark." + "skip",
    "pytest." + "skip",
)

PLAIN = (
    *sorted(f"src/isola/{path.name}" for path in SOURCE.iterdir() if path.name not in {"__pycache__", "py.typed"}),
    "docs", "README.md", "CONTRIBUTING.md", "Makefile", "install", "bench", "tests",
)  # fmt: skip
"""Everything that contributors and users read, but for the changelog."""
DIALECT = re.compile(
    r"\b(?:[Ww]hoever|[Ss]omebody|[Aa]nybody|"
    r"(?<![`/:])[Nn]obody(?:'s)?(?! \(65534\)|['`:\"])|[Ff]orget it(?=\.)|passed over|"
    r"[Gg]ood-?bye|as what is none|unclearly|words(?= =|:|\))|in our (?:own )?words|"
    r"[Ff]ine when|half[- ](?:made|deleted|done)|[Ss]peaks? for|[Ss]tands? on|anew|[Ll]et(?:s|ting)? go of|"
    r"[Ll]ook(?:s|ed|ing)? after|by and by|[Ss]trangers?|shall|"
    r"[Hh]and(?:s|ed|ing)? over|the other side|said for people|shut in|broken off)\b"
)
"""Turns of phrase that a contributor has to guess at, and ``words`` as a name."""
URL = re.compile(r"https?://(?:[^/@\s\"']*@)?([A-Za-z0-9][A-Za-z0-9.-]*)")
EXAMPLE_HOST = re.compile(
    r"(.+\.)?(example(\.org|\.com|\.net)?|mirror|test|invalid|localhost)|[0-9.]+|github\.com|keepachangelog\.com|semver\.org|www\.apache\.org"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(where: Path) -> list[Path]:
    return sorted(path for path in where.rglob("*.py") if not GENERATED_DIRECTORIES & set(path.relative_to(ROOT).parts))


def text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in inside)
        if path.is_file() and path.suffix in TEXT and not hidden and not GENERATED_DIRECTORIES & set(inside):
            yield path


def public(name: str) -> bool:
    return not name.startswith("_")


def drivers() -> list[tuple[str, str]]:
    found = SOURCE.glob("*/drivers/*.py")
    return sorted((path.parts[-3], path.stem) for path in found if public(path.stem))


@dataclass(frozen=True)
class Parsed:
    """What the tests ask of a file, which is parsed once."""

    functions: Mapping[str, int]
    """Name with its place -> lines."""
    silent: Sequence[str]
    documented: bool


@cache
def parsed(path: Path) -> Parsed:
    tree = ast.parse(path.read_text())
    functions = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, Function) and (path.name, node.name) not in WHOLE
    }
    return Parsed(functions, list(silent_docstrings(tree)), ast.get_docstring(tree) is not None)


@pytest.mark.parametrize("top", BOUNDS)
def test_files_are_short(top: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(ROOT / top)}
    check(lengths, BOUNDS[top].files)


@pytest.mark.parametrize("top", BOUNDS)
def test_functions_are_short(top: str) -> None:
    lengths = {name: lines for path in python_files(ROOT / top) for name, lines in parsed(path).functions.items()}
    check(lengths, BOUNDS[top].functions)


def check(lengths: Mapping[Any, int], bound: Bound) -> None:
    """Compare median, ninth decile and maximum with the bound."""
    ordered = sorted(lengths.values())
    found = Bound(ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10], ordered[-1])
    longest = sorted(lengths, key=lambda name: -lengths[name])[:5]
    assert found.half <= bound.half and found.most <= bound.most and found.longest <= bound.longest, (found, longest)


def test_no_file_has_a_vague_name() -> None:
    assert [str(path) for path in python_files(ROOT / "src") if path.stem in VAGUE_NAMES] == []


def test_a_docstring_says_more_than_the_names_do() -> None:
    silent = {
        str(path.relative_to(ROOT)): names
        for path in python_files(SOURCE)
        if path.parent.name != "routes"  # where each is a row of the API's reference page
        if (names := parsed(path).silent)
    }
    assert silent == {}, "leave them out, or say shapes, units, errors, sources, reasons"


@pytest.mark.parametrize(
    ("code", "silent"),
    [
        ('def all_images() -> list[Image]:\n    """All the images."""', True),
        ('def all_images() -> list[Image]:\n    """All images, newest first."""', False),
        ('class Pool:\n    def delete(self) -> None:\n        """Delete the pool."""', True),
        ('class Pool:\n    def delete(self) -> None:\n        """Raises InUse."""', False),
        ("def bare() -> None: ...", False),
    ],
)
def test_a_meaningless_docstring_would_be_found(code: str, silent: bool) -> None:
    assert bool(list(silent_docstrings(ast.parse(code)))) is silent


def test_every_module_has_a_docstring() -> None:
    silent = [str(path) for path in python_files(SOURCE) if not parsed(path).documented]
    assert silent == []


@pytest.mark.parametrize(
    ("where", "texts"),
    [(".", FORBIDDEN_WORDS), ("src", FORBIDDEN_IN_SOURCE), ("tests", FORBIDDEN_IN_TESTS)],
    ids=["anywhere", "source", "tests"],
)
def test_no_forbidden_word(where: str, texts: tuple[str, ...]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {text}"
        for path in text_files()
        if path.is_relative_to(ROOT / where)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for text in texts
        if text in line
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "# whoever reads",
        "as nobody does",
        '"""Forget it."""',
        "words = line.split()",
        "say good-bye",
        "fine when it is gone",
        "half-made pools",
        "no record speaks for it",
        "drivers stand on the kind",
        "made anew",
        "lets go of it",
        "looks after it",
        "strangers",
        "it shall be",
        "handed over",
        "the other side",
        "said for people",
        "broken off",
    ],
)
def test_dialect_would_be_found(line: str) -> None:
    assert DIALECT.search(line)


@pytest.mark.parametrize("place", PLAIN)
def test_the_terms_are_those_of_the_field(place: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {term}"
        for path in text_below(ROOT / place)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for term in DIALECT.findall(line)
    ]
    assert found == [], (
        "say argv, stderr, EOF, no effect if, incomplete, has a record, uses, again, supervises, untrusted, ..."
    )


def text_below(place: Path) -> list[Path]:
    paths = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return [
        path
        for path in paths
        if not GENERATED_DIRECTORIES & set(path.relative_to(ROOT).parts)
        and path.suffix not in {".pyc", ".gz"}
        and path != Path(__file__)
    ]


def test_no_registry_and_no_mirror_is_named() -> None:
    """Where packages and images come from is the machine's configuration; addresses in examples are reserved ones."""
    found = {
        f"{path.relative_to(ROOT)}: {host}"
        for path in text_files()
        for host in URL.findall(path.read_text(errors="replace"))
        if "." in host and not EXAMPLE_HOST.fullmatch(host)
    }
    assert found == set()


@pytest.mark.parametrize(("kind", "name"), drivers())
def test_driver_has_its_reference_page(kind: str, name: str) -> None:
    page = ROOT / "docs" / "reference" / kind / f"{name}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in drivers()}))
def test_driver_kind_has_a_contract_over_its_whole_registry(kind: str) -> None:
    """The suite of its kind finds a new driver; there is no list to add it to."""
    suites = [path for path in (ROOT / "tests" / "contract").glob("*.py") if f'"{kind}"' in path.read_text()]
    assert suites, f"no suite in tests/contract asks the registry for the drivers of {kind!r}"


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in python_files(ROOT / "tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_only_its_door_and_its_client_know_the_addresses_of_the_api() -> None:
    allowed = {SOURCE / "doors" / "rest", SOURCE / "client"}
    files = [path for path in python_files(SOURCE) if not allowed & set(path.parents)]
    found = [str(path.relative_to(ROOT)) for path in files if "/1" + ".0" in path.read_text()]
    assert len(files) > 200 and found == []


def test_no_process_of_an_instance_crosses_the_seam_of_runtimes() -> None:
    """A guest may have no process on this host: only engines use PIDs, everything else calls the guest."""
    above = ("instances", "devices", "doors", "network", "storage", "images", "daemon")
    files = [path for name in above for path in python_files(SOURCE / name)]
    files += (SOURCE / "runtimes").glob("*.py")
    told = re.compile(r"\bProcessRef\b|\binit_pid\b|\bguest\.(pid|init|monitor|processes)\b|/proc/\{")
    found = [str(path.relative_to(ROOT)) for path in files if told.search(path.read_text())]
    assert len(files) > 200 and found == []
    assert told.search((SOURCE / "runtimes" / "oci" / "guest.py").read_text())
