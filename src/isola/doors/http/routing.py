"""Routing: the handler for a method and path, and the permission it requires."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from isola.access import Permission
from isola.errors import InvalidInput, IsolaError

Handler = TypeVar("Handler")
Parameters = dict[str, str]


@dataclass(slots=True)
class _Node(Generic[Handler]):
    literals: dict[str, _Node[Handler]] = field(default_factory=dict)
    one: _Node[Handler] | None = None
    rest: _Node[Handler] | None = None
    """Any number of parts, at least one, and then those of the paths below this node."""
    parameter: str = ""
    methods: dict[str, tuple[Handler, Permission]] = field(default_factory=dict)


class Router(ABC, Generic[Handler]):
    """A tree of path parts. ``{name}`` in a path is one part; ``{name...}`` is one or more, which others may follow."""

    def __init__(self, routes: Iterable[tuple[str, str, Handler, Permission]]) -> None:
        self._root: _Node[Handler] = _Node()
        for method, path, handler, permission in routes:
            self._add(method, path, handler, permission)

    @abstractmethod
    def unknown(self, path: str) -> IsolaError:
        """The error for a path without any route."""

    @abstractmethod
    def not_offered(self, method: str, path: str, offered: Iterable[str]) -> IsolaError:
        """The error for a path that has routes of other methods."""

    def _add(self, method: str, path: str, handler: Handler, permission: Permission) -> None:
        node = self._root
        for part in path.strip("/").split("/"):
            if part.endswith("...}"):
                node.rest = node.rest or _Node(parameter=part[1:-4])
                node = node.rest
            elif part.startswith("{"):
                node.one = node.one or _Node(parameter=part[1:-1])
                node = node.one
            else:
                node = node.literals.setdefault(part, _Node())
        assert method not in node.methods, f"two handlers for {method} {path}"
        node.methods[method] = (handler, permission)

    def find(self, method: str, path: str) -> tuple[Handler, Permission, Parameters]:
        """Handler, permission and parameters. Raises InvalidInput (bad escapes), and this router's errors."""
        others: Mapping[str, object] | None = None
        for node, parameters in _matches(self._root, path.strip("/").split("/"), 0):
            found = node.methods.get(method) or (node.methods.get("GET") if method == "HEAD" else None)
            if found is not None:
                return found[0], found[1], {name: _decode(part) for name, part in parameters}
            others = others or node.methods
        raise self.unknown(path) if others is None else self.not_offered(method, path, others)


_Found = tuple[_Node[Handler], tuple[tuple[str, str], ...]]


def _matches(node: _Node[Handler], parts: Sequence[str], index: int) -> Iterator[_Found[Handler]]:
    """Nodes with methods that the path from ``index`` leads to, the most literal first."""
    if index == len(parts):
        if node.methods:
            yield node, ()
        return
    if (literal := node.literals.get(parts[index])) is not None:
        yield from _matches(literal, parts, index + 1)
    if (one := node.one) is not None:
        for found, below in _matches(one, parts, index + 1):
            yield found, ((one.parameter, parts[index]), *below)
    if (rest := node.rest) is not None:
        yield from _matches_of_rest(rest, parts, index)


def _matches_of_rest(rest: _Node[Handler], parts: Sequence[str], index: int) -> Iterator[_Found[Handler]]:
    """Those with the longest path after the rest first. Few parts follow a rest in any table, so few are tried."""
    for end in range(max(index + 1, len(parts) - _depth(rest)), len(parts) + 1):
        for found, below in _matches(rest, parts, end):
            yield found, ((rest.parameter, "/".join(parts[index:end])), *below)


def _depth(node: _Node[Handler]) -> int:
    assert node.rest is None, "only one part of a path can be a rest"
    below = [*node.literals.values(), *([node.one] if node.one is not None else [])]
    return max((1 + _depth(each) for each in below), default=0)


def tables(package: str) -> list[Any]:
    """The route tables of every file in a package, in the order of their names."""
    found = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(found.__path__))
    return [route for name in names for route in importlib.import_module(f"{package}.{name}").ROUTES]


def _decode(part: str) -> str:
    if "%" not in part:
        return part
    try:
        text = unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("The path is not UTF-8", field="path") from None
    if "\0" in text:
        raise InvalidInput("The path contains NUL", field="path")
    return text
