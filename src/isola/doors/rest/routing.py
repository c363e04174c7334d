"""Routing: the handler for a method and path, and the permission it requires."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from isola.access import Permission as Permission  # noqa: PLC0414 - every table of routes takes it from here
from isola.doors.rest.not_offered import MethodNotAllowed, not_offered
from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported

if TYPE_CHECKING:
    from aiohttp import web

    from isola.doors.rest.request import Request


Handler = Callable[["Request"], Awaitable["web.StreamResponse"]]
Route = tuple[str, str, Handler, Permission]
"""Method, path, handler, permission. ``{name}`` in a path is one component, ``{name...}`` all that follow."""


_METHODS = ("GET", "PUT", "PATCH", "POST", "DELETE")


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    one: _Node | None = None
    rest: _Node | None = None
    parameter: str = ""
    methods: dict[str, tuple[Handler, Permission]] = field(default_factory=dict)


class Router:
    """A tree of path parts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for method, path, handler, permission in routes:
            self._add(method, path, handler, permission)

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

    def find(self, method: str, path: str) -> tuple[Handler, Permission, dict[str, str]]:
        """Handler, permission and parameters. Raises NotFound, MethodNotAllowed, InvalidInput (bad escapes)."""
        parameters: dict[str, str] = {}
        node: _Node | None = self._root
        parts = path.strip("/").split("/")
        for index, part in enumerate(parts):
            assert node is not None
            if (literal := node.literals.get(part)) is not None:
                node = literal
            elif node.one is not None:
                node = node.one
                parameters[node.parameter] = _decode(part)
            elif node.rest is not None:
                node = node.rest
                parameters[node.parameter] = _decode("/".join(parts[index:]))
                break
            else:
                raise _unknown(path)
        if node is None or not node.methods:
            raise _unknown(path)
        found = node.methods.get(method) or (node.methods.get("GET") if method == "HEAD" else None)
        if found is None:
            raise _not_offered(method, path, node.methods)
        return found[0], found[1], parameters


def in_every_tree(*routes: Route) -> tuple[Route, ...]:
    """The same routes under ``/1.0/instances`` and under LXD's older names for it."""
    return tuple(
        (method, path.replace("/1.0/instances", f"/1.0/{tree}", 1), handler, permission)
        for tree in ("instances", "containers", "virtual-machines")
        for method, path, handler, permission in routes
    )


def all_routes() -> list[Route]:
    """The tables of every file in ``routes/``."""
    package = importlib.import_module("isola.doors.rest.routes")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [route for name in names for route in importlib.import_module(f"{package.__name__}.{name}").ROUTES]


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


def _not_offered(method: str, path: str, offered: Iterable[str]) -> IsolaError:
    """501, as in LXD, for a method that the API has but this server does not; 405 for unknown methods."""
    use = f"offered here: {', '.join(sorted(offered))}"
    if method in _METHODS:
        return Unsupported(f"{method} of {path[:200]} is not offered", remedy=use)
    return MethodNotAllowed(f"Method {method[:20]} is not known", remedy=use)


def _unknown(path: str) -> IsolaError:
    remedy = "GET /1.0 lists what this server offers"
    return not_offered(path) or NotFound(f"There is nothing at {path[:200]}", remedy=remedy)
