"""The process that renders templates of images: ``python -m isola.host.renderer``, with the request on stdin.

It renders in a cell, with Jinja's sandbox: no loader, no globals, and only strings and mappings of strings as values.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import ChainableUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from isola.errors import IsolaError
from isola.host import cell, confine
from isola.host.cell import Cell, Inside
from isola.host.templates import MOST_RENDERED

_SECONDS, _REAL_SECONDS, _MEMORY = 5, 240, 512 << 20
_LONGEST_ERROR = 300
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_ARGUMENT = re.compile(r"""\|\s*([a-z_]+)\s*:\s*("[^"]*"|'[^']*'|[\w.]+)""")
_WARM_UP = (
    "{{ a.b|default('x') }}{% if not a %}{% endif %}{% for k in a %}{% endfor %}",
    "{% if",
    "{{ 1/0 }}",
    "{{ a(1) }}",
)
"""Rendered before the process is confined, so that Jinja's late imports are done by then."""


class Values:
    """A mapping without methods, so that ``properties.items`` is always the property of that name."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {key: _value(value) for key, value in values.items()}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def main() -> None:
    """Read the request, render in a cell, print the result."""
    confine.die_with_parent()
    request = json.load(sys.stdin.buffer)
    render([{"text": text, "values": {}} for text in _WARM_UP], {})
    place = Cell(seconds=_SECONDS, real_seconds=_REAL_SECONDS, memory=_MEMORY)
    try:
        answer = cell.run(place, lambda inside: _work(inside, request))
    except IsolaError as error:
        answer = json.dumps({"error": error.code, "message": error.message, "evidence": error.evidence}).encode()
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()
    os._exit(0)


def _work(inside: Inside, request: Mapping[str, Any]) -> Mapping[str, object]:
    return {"rendered": render(request["jobs"], request["values"])}


def render(jobs: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> list[dict[str, str]]:
    """The ``text`` or ``error`` of each. Call it in a cell only, unless the templates are trusted."""
    environment = ImmutableSandboxedEnvironment(
        undefined=ChainableUndefined, autoescape=False, keep_trailing_newline=True, cache_size=0
    )
    environment.globals.clear()
    left, found = MOST_RENDERED, []
    for job in jobs:
        one = _render(environment, job["text"], {**values, **job["values"]}, left)
        left -= len(one.get("text", ""))
        found.append(one)
    return found


def _render(
    environment: ImmutableSandboxedEnvironment, text: str, values: Mapping[str, Any], limit: int
) -> dict[str, str]:
    config = values.get("config", {})
    known = {key: _value(value) for key, value in values.items()}
    known["config_get"] = lambda key, default="": str(config[key]).rstrip("\r\n") if key in config else default
    pieces, size = [], 0
    try:
        for piece in environment.from_string(_as_jinja(text)).generate(known):
            size += len(piece)
            if size > limit:
                return {"error": f"it renders to more than {limit} characters"}
            pieces.append(piece)
    except Exception as error:  # an untrusted template may raise any
        return {"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]}
    return {"text": "".join(pieces)}


def _as_jinja(text: str) -> str:
    """Rewrite arguments of filters: ``|default:"x"`` in pongo2, ``|default("x")`` in Jinja."""
    return _TAG.sub(lambda tag: _ARGUMENT.sub(r"|\1(\2)", tag[0]), text)


def _value(value: Any) -> Any:
    return Values(value) if isinstance(value, Mapping) else value


if __name__ == "__main__":
    main()
