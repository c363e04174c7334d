"""Finds docstrings that only repeat the names in their function or class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FILLERS = (
    "a an and are as at be by for from has have in into is it its of on one or that the their them there they these "
    "this those to was what where which who with all any some than then when whether more our own us we each every "
    "itself so such set kept do once"
)
_EMPTY = frozenset(_FILLERS.split())
"""Words that carry no information."""
_ENDINGS = ("ies", "ing", "ed", "es", "s", "d", "e")


def silent_docstrings(tree: ast.AST) -> Iterator[str]:
    """Names of functions and classes whose docstring repeats their names, parameters and types, and adds nothing."""
    yield from _silent(tree, frozenset())


def _silent(holder: ast.AST, outer: frozenset[str]) -> Iterator[str]:
    for node in getattr(holder, "body", []):
        if isinstance(node, Function | ast.ClassDef):
            names = outer | _words(node.name)
            text = ast.get_docstring(node)
            if text and not _words(text) - names - (_signature(node) if isinstance(node, Function) else frozenset()):
                yield node.name
            yield from _silent(node, names)


def _signature(node: Function) -> frozenset[str]:
    arguments = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return _words(" ".join([*arguments, ast.unparse(node.returns) if node.returns else ""]))


def _words(text: str) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " "))
    found = re.findall(r"[A-Za-z]{2,}", apart)
    return frozenset(_stem(word.lower()) for word in found if word.lower() not in _EMPTY)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
