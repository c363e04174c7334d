"""The shape of the tree: sizes, names, docstrings, words, and a page and a contract for every driver."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "isola"
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
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

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(where: Path) -> list[Path]:
    return sorted(path for path in where.rglob("*.py") if not GENERATED_DIRECTORIES & set(path.parts))


def text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in inside)
        if path.is_file() and path.suffix in TEXT and not hidden and not GENERATED_DIRECTORIES & set(inside):
            yield path


def public(name: str) -> bool:
    return not name.startswith("_")


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public things without a docstring; a method of a subclass may leave the promise to its base."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and public(node.name) and not ast.get_docstring(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and public(node.name) and not node.bases:
            for method in node.body:
                if isinstance(method, Function) and public(method.name) and not ast.get_docstring(method):
                    yield f"{node.name}.{method.name}"


def drivers() -> list[tuple[str, str]]:
    found = SOURCE.glob("*/drivers/*.py")
    return sorted((path.parts[-3], path.stem) for path in found if public(path.stem))


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(SOURCE)}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_nine_functions_in_ten_are_short() -> None:
    nodes = [node for path in python_files(SOURCE) for node in ast.walk(ast.parse(path.read_text()))]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in nodes if isinstance(node, Function))
    assert lengths[len(lengths) * 9 // 10] <= 50
    assert lengths[len(lengths) // 2] <= 20


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in python_files(ROOT / "src") if path.stem in VAGUE_NAMES] == []


def test_everything_public_has_a_docstring() -> None:
    missing = {
        str(path.relative_to(ROOT)): names
        for path in python_files(SOURCE)
        if (names := list(undocumented(ast.parse(path.read_text()))))
    }
    assert missing == {}


def test_every_module_says_what_it_is() -> None:
    silent = [str(path) for path in python_files(SOURCE) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


@pytest.mark.parametrize(
    ("where", "words"),
    [(".", FORBIDDEN_WORDS), ("src", FORBIDDEN_IN_SOURCE), ("tests", FORBIDDEN_IN_TESTS)],
    ids=["anywhere", "source", "tests"],
)
def test_no_forbidden_word(where: str, words: tuple[str, ...]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in text_files()
        if path.is_relative_to(ROOT / where)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for word in words
        if word in line
    ]
    assert found == []


@pytest.mark.parametrize(("kind", "name"), drivers())
def test_driver_has_its_reference_page(kind: str, name: str) -> None:
    page = ROOT / "docs" / "reference" / kind / f"{name}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in drivers()}))
def test_driver_kind_has_a_contract_over_its_whole_registry(kind: str) -> None:
    """A new driver is found by the suite of its kind, nobody adds it to a list."""
    suites = [path for path in (ROOT / "tests" / "contract").glob("test_*.py") if f'"{kind}"' in path.read_text()]
    assert suites, f"no suite in tests/contract asks the registry for the drivers of {kind!r}"


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in python_files(ROOT / "tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))
