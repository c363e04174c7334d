"""YAML documents with the tags ``!reset`` and ``!override``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from isola.errors import InvalidInput

_LARGEST = 4 << 20
_MOST_VALUES = 200_000
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Reset:
    """``!reset``: removes the value of the files before."""

    def map(self, change: Callable[[Any], Any]) -> Reset:
        return self


@dataclass(frozen=True, slots=True)
class Override:
    """``!override``: replaces the value of the files before instead of being merged with it."""

    value: Any

    def map(self, change: Callable[[Any], Any]) -> Override:
        """The same with another value."""
        return Override(change(self.value))


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's booleans ``yes``, ``no``, ``on`` and ``off``, octal and sexagesimal numbers, and dates."""

    depth = 0

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        found = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in found.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is defined twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return found

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise InvalidInput("The compose file is nested too deeply")
        found = super().compose_node(parent, index)
        self.depth -= 1
        return found


def _tagged(loader: Any, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    tag = loader.resolve(yaml.ScalarNode, node.value, (node.style is None, False))
    return loader.construct_object(yaml.ScalarNode(tag, node.value))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o?[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("!reset", lambda loader, node: Reset())
_Loader.add_constructor("!override", lambda loader, node: Override(_tagged(loader, node)))


def parse(text: str, name: str) -> dict[str, Any]:
    """The document of a compose file. Raises InvalidInput with the position."""
    if len(text) > _LARGEST:
        raise InvalidInput(f"{name} is too large", evidence=f"over {_LARGEST} bytes")
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{name} is not valid YAML", evidence=" ".join(str(error).split())[:300]) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput(f"{name} is not a compose file", evidence="a mapping is expected at the top")
    _Keys(name).check(found)
    return found


class _Keys:
    """Requires keys to be strings, and bounds the size of the document with its aliases written out."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = 0

    def check(self, value: Any) -> None:
        """Numbers become strings. Raises InvalidInput."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise InvalidInput(f"{self._name} is too large", evidence=f"over {_MOST_VALUES} values with its aliases")
        if isinstance(value, Override):
            self.check(value.value)
        elif isinstance(value, dict):
            for key in [key for key in value if not isinstance(key, str)]:
                if isinstance(key, bool) or not isinstance(key, int | float):
                    raise InvalidInput(f"{self._name}: keys must be strings", evidence=repr(key)[:80])
                value[str(key)] = value.pop(key)
            for item in value.values():
                self.check(item)
        elif isinstance(value, list):
            for item in value:
                self.check(item)
