"""Untrusted YAML, as strings, lists and mappings. It must be read in a cell, because libyaml is written in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isola.errors import InvalidInput

MAX_DEPTH = 16
MAX_NODES = 20_000


def prepare() -> None:
    """Import the library, which cannot be found from within a cell."""
    import yaml  # noqa: F401


def parse(data: bytes) -> object:
    """The document. Raises InvalidInput."""
    import yaml

    # The base loader creates strings, lists and mappings only: no dates, numbers or objects.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        _refuse_bombs(yaml.parse(data, Loader=loader))
        return _plain(yaml.load(data, Loader=loader))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("metadata.yaml is not valid YAML", evidence=" ".join(str(error).split())[:300]) from None


def _refuse_bombs(events: Iterator[Any]) -> None:
    """Aliases expand exponentially and deep nesting exhausts the stack: metadata needs neither."""
    depth = 0
    for count, event in enumerate(events):
        kind = type(event).__name__
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        if kind == "AliasEvent" or depth > MAX_DEPTH or count > MAX_NODES:
            raise ValueError("aliases, deep nesting and very many values are not accepted")


def _plain(value: object) -> object:
    """Convert to types of JSON."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be strings")
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
