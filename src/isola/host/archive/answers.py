"""Validates the result of the process that reads archives, which the archive may have compromised."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from isola import errors
from isola.errors import HostFailure, IsolaError
from isola.host.documents import MAX_DEPTH, MAX_NODES

_MOST_TEXTS = 1000
_LONGEST = 8192
"""Maximum length of a string; 4 KiB in hexadecimal digits."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_KINDS: Mapping[str, type[IsolaError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidInput,
        errors.TooLarge,
        errors.UnsafeArchive,
        errors.NotFound,
        errors.AlreadyExists,
        errors.Unsupported,
        errors.StorageFull,
    )
}


class Answer:
    """A mapping whose values are validated when they are read. All methods raise HostFailure."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def number(self, key: str) -> int:
        """A count."""
        value = self._document.get(key)
        return value if type(value) is int and 0 <= value < 1 << 63 else _refuse(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A bounded list of bounded strings."""
        value = self._document.get(key)
        if not isinstance(value, list) or len(value) > _MOST_TEXTS or not all(map(_is_text, value)):
            return tuple(_refuse(key))
        return tuple(value)

    def pairs(self, key: str, known: Collection[str]) -> Mapping[str, str]:
        """Strings for known keys."""
        value = self._document.get(key)
        if not isinstance(value, dict) or not all(name in known and _is_text(text) for name, text in value.items()):
            return dict(_refuse(key))
        return dict(value)

    def digest(self, key: str) -> str:
        """``sha256:...``."""
        value = self._document.get(key)
        return value if isinstance(value, str) and _DIGEST.fullmatch(value) else _refuse(key)

    def content(self, key: str, limit: int) -> bytes:
        value = _bytes(self._document.get(key), key)
        return value if len(value) <= limit else _refuse(key)

    def contents(self, key: str, known: Collection[str]) -> Mapping[str, bytes]:
        """A few bytes for each of the known keys."""
        return {name: _bytes(text, key) for name, text in self.pairs(key, known).items()}

    def pieces(self, key: str, known: Collection[str], *, limit: int) -> Sequence[Mapping[str, str]]:
        """Mappings of known keys to strings; their total length is bounded."""
        value = self._document.get(key)
        if not isinstance(value, list) or not all(
            isinstance(each, dict) and _known_texts(each, known) for each in value
        ):
            return tuple(_refuse(key))
        if sum(len(text) for each in value for text in each.values()) > limit + _LONGEST:
            _refuse(key)
        return tuple(value)

    def members(self, key: str, known: Collection[str], *, limit: int) -> Mapping[str, bytes]:
        """Bytes for known keys; their total size is bounded."""
        value = self._document.get(key)
        if not isinstance(value, dict) or not _known_texts(value, known):
            return dict(_refuse(key))
        found = {name: _bytes(text, key) for name, text in value.items()}
        return found if sum(map(len, found.values())) <= limit else dict(_refuse(key))

    def document(self, key: str) -> object:
        """Strings, lists, mappings and None, of bounded depth and number."""
        value = self._document.get(key)
        level, count = [value], 0
        for _ in range(MAX_DEPTH + 1):
            count += len(level)
            if count > MAX_NODES or not all(isinstance(item, str | list | dict | None) for item in level):
                break
            level = [inner for item in level for inner in _within(item)]
            if not level:
                return value
        return _refuse(key)


def read_answer(data: bytes) -> Answer:
    """The result as JSON. Raises the error that it reports, or HostFailure if it is invalid."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        _refuse("all of it")
    if "error" in document:
        message, evidence, remedy = (str(document.get(key, ""))[:_LONGEST] for key in ("message", "evidence", "remedy"))
        raise _KINDS.get(str(document["error"]), HostFailure)(message, evidence=evidence, remedy=remedy)
    return Answer(document)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _known_texts(value: Mapping[str, object], known: Collection[str]) -> bool:
    return all(name in known and isinstance(text, str) for name, text in value.items())


def _bytes(value: object, key: str) -> bytes:
    try:
        return bytes.fromhex(value if isinstance(value, str) else "?")
    except ValueError:
        return bytes(_refuse(key))


def _within(item: object) -> Collection[object]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _refuse(key: str) -> Any:
    raise HostFailure("The process that reads archives returned an invalid result", evidence=key)
