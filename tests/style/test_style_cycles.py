"""Modules of a package are in layers: there are no import cycles.

The layers of the client library are http, api, operations, nouns, client. Verbs of instances use shared files.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import isola

ROOT = Path(isola.__file__).parent
REMEDIES = {
    "cli": "grammar imports context, and context imports arguments",
    "doors.rest": "requests import responses, and responses import the errors of routing",
    "doors.http": "listeners import the protocol, and know doors by their interface",
    "client": "a noun uses the Api of client/api.py, not the Client, which imports the nouns",
    "instances": "what several verbs need has a file of its own; the context calls what follows the end of a run",
    "runtimes": "drivers import the base class, and the base class imports the values",
    "network": "drivers import the base class, and the base class imports the values",
}


def imports(package: str) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, at module level, in functions, or for annotations."""
    found: dict[str, set[str]] = {}
    root, name = ROOT.joinpath(*package.split(".")), f"isola.{package}"
    for path in sorted(root.glob("*.py")):
        if path.stem == "__init__":
            continue
        known = found.setdefault(path.stem, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == name:
                known |= {alias.name for alias in node.names if (root / f"{alias.name}.py").exists()}
                assert all((root / f"{alias.name}.py").exists() for alias in node.names), path.stem
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{name}."):
                known.add((node.module or "").removeprefix(f"{name}."))
    return found


@pytest.mark.parametrize("package", REMEDIES)
def test_there_are_no_import_cycles(package: str) -> None:
    found = imports(package)
    assert len(found) > 6
    try:
        list(TopologicalSorter(found).static_order())
    except CycleError as error:
        pytest.fail(f"{error}; {REMEDIES[package]}")
