"""What builds keep, as single records: results of instructions, and directories of ``RUN --mount=type=cache``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from isola.doors import Services
from isola.doors.docker.filtering import finds
from isola.doors.docker.times import parse_time, rfc3339
from isola.doors.docker.versions import Version
from isola.errors import InvalidInput
from isola.model.build import BuildResult

_SEVERAL_PARENTS: Version = (1, 42)
_RESULT, _DIRECTORY = "regular", "exec.cachemount"
_FAILED = "failed to prune build cache: "
_TIMES = ("until", "unused-for")
_TRUE = ("", "1", "true")
_PART = re.compile(r"(?P<field>[A-Za-z]{1,20})(?:(?P<operator>==|~=|!=)(?P<value>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that is kept."""

    id: str
    kind: str
    text: str
    size: int
    parent: str = ""
    created_at: datetime | None = None
    used_at: datetime | None = None
    uses: int = 1
    shared: bool = False
    """Its layer is also one of an image."""
    in_use: bool = False

    def document(self, version: Version) -> dict[str, Any]:
        """As ``docker system df -v`` shows it."""
        parents: dict[str, object] = {"Parent": self.parent}
        if version >= _SEVERAL_PARENTS:  # docker's command reads it under a name with a space
            parents = {name: [self.parent] for name in ("Parents", " Parents")} if self.parent else {}
        return {
            "ID": self.id,
            **parents,
            "Type": self.kind,
            "Description": self.text,
            "InUse": self.in_use,
            "Shared": self.shared,
            "Size": self.size,
            "CreatedAt": rfc3339(self.created_at),
            "LastUsedAt": rfc3339(self.used_at) if self.used_at is not None else None,
            "UsageCount": self.uses,
        }


async def records(services: Services) -> list[Record]:
    """All of them, the least recently used first."""
    builds = services.builds
    of_images = {layer.digest for image in services.images for layer in image.layers}
    kept = builds.kept()
    above = {each.chain: each.key for each in kept if each.layer is not None}
    found = [_of_result(each, above, of_images) for each in kept]
    for name, size in await builds.kept_directories():
        text = "kept by RUN --mount=type=cache"
        found.append(Record(name, _DIRECTORY, text, size, in_use=builds.is_in_use(name)))
    return found


def _of_result(kept: BuildResult, above: Mapping[tuple[str, ...], str], of_images: set[str]) -> Record:
    below = kept.chain[:-1] if kept.layer is not None else kept.chain
    return Record(
        kept.key,
        _RESULT,
        kept.text,
        kept.size,
        parent=above.get(below, "") if below else "",
        created_at=kept.created_at,
        used_at=kept.used_at,
        uses=kept.uses,
        shared=kept.layer is not None and kept.layer.digest in of_images,
    )


def chosen(filters: Mapping[str, Sequence[str]], found: Sequence[Record]) -> set[str] | None:
    """Ids of the records that filters choose; None if they choose by time alone. Raises InvalidInput."""
    if unknown := sorted(filters.keys() - _TESTS.keys() - {*_TIMES, "label", "label!"}):
        raise InvalidInput(f"{_FAILED}invalid filter '{unknown[0][:80]}'", field="filters")
    tests = [
        (_parts_of_id if name == "id" else _TESTS[name], _only(filters[name])) for name in _TESTS if name in filters
    ]
    if "label" in filters:
        return set()  # nothing that is kept has one
    return {each.id for each in found if all(test(each, value) for test, value in tests)} if tests else None


def _parts_of_id(record: Record, value: str) -> bool:
    return finds(value, record.id)


def unused_since(filters: Mapping[str, Sequence[str]], now: datetime) -> datetime | None:
    """What was used later stays. Raises InvalidInput."""
    given = [name for name in _TIMES if name in filters]
    if len(given) > 1:
        raise InvalidInput(f'{_FAILED}conflicting filters: "until" and "unused-for"', field="filters")
    text = _only(filters[given[0]]) if given else ""
    try:
        moment = parse_time(text, "until", now) if text else None
        return None if moment is None else datetime.fromtimestamp(moment / 10**9, UTC)
    except (InvalidInput, ValueError, OverflowError):
        raise InvalidInput(
            f"{_FAILED}\"{given[0]}\" filter expects a duration (e.g., '24h') or a timestamp: failed to parse value as "
            f'time or duration: "{text[:80]}"',
            field="filters",
        ) from None


def _only(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise InvalidInput(f"{_FAILED}filters expect only one value", field="filters")
    return values[0] if values else ""


_Test = Callable[[Record, str], bool]
_TESTS: Mapping[str, _Test] = {
    "id": lambda each, value: each.id == value,
    "parent": lambda each, value: each.parent == value,
    "type": lambda each, value: each.kind == value,
    "description": lambda each, value: each.text == value,
    "inuse": lambda each, value: each.in_use == (value.lower() in _TRUE),
    "shared": lambda each, value: each.shared == (value.lower() in _TRUE),
    "private": lambda each, value: each.shared != (value.lower() in _TRUE),
}


def expression(text: str) -> Callable[[Record], bool]:
    """BuildKit's ``type==regular,id~=abc,shared``: all of its parts have to be true. Raises InvalidInput."""
    parts = [_part(each.strip()) for each in text.split(",") if each.strip()]
    return lambda record: all(part(record) for part in parts)


def _part(text: str) -> Callable[[Record], bool]:
    found = _PART.fullmatch(text)
    if found is None or found["field"].lower() not in _TESTS:
        raise InvalidInput(f"filters: {text[:80]!r} is not known: use {', '.join(_TESTS)}", field="filter")
    name, value = found["field"].lower(), (found["value"] or "").strip('"')
    test: _Test = (lambda each, value: finds(value, _text(each, name))) if found["operator"] == "~=" else _TESTS[name]
    return lambda record: test(record, value) == (found["operator"] != "!=")


def _text(record: Record, name: str) -> str:
    return {"id": record.id, "parent": record.parent, "type": record.kind, "description": record.text}.get(name, "")
