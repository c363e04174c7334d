"""The client library has layers: http, api, operations, nouns, client. No module imports one that imports it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import isola.client

ROOT = Path(isola.client.__file__).parent
PACKAGE = "isola.client"


def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, at once, late, or for its annotations."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.glob("*.py")):
        if path.stem == "__init__":
            continue
        known = found.setdefault(path.stem, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
                known |= {alias.name for alias in node.names if (ROOT / f"{alias.name}.py").exists()}
                assert all((ROOT / f"{alias.name}.py").exists() for alias in node.names), path.stem
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                known.add((node.module or "").removeprefix(f"{PACKAGE}."))
    return found


def test_no_circle_of_imports_in_the_client() -> None:
    found = imports()
    assert len(found) > 15
    try:
        list(TopologicalSorter(found).static_order())
    except CycleError as error:
        pytest.fail(f"{error}; a noun takes the Api of client/api.py, not the Client that stands on it")
