"""Filters of lists of images, and of what is pruned."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence

from isola.doors.docker.filtering import matches_labels
from isola.doors.docker.image_lookup import find_image
from isola.doors.docker.images.names import Names, familiar
from isola.doors.docker.request import Request
from isola.doors.docker.times import nanoseconds, parse_time
from isola.errors import InvalidInput
from isola.model.image import Image

Filters = Mapping[str, tuple[str, ...]]
Test = Callable[[Image, Names], bool]
_TRUTH = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}
LISTED = frozenset({"dangling", "label", "before", "since", "reference", "until"})
PRUNED = frozenset({"dangling", "label", "label!", "until"})


def select(
    request: Request, images: Iterable[Image], names: Mapping[str, Names], filters: Filters
) -> list[tuple[Image, Names]]:
    """Images that match all filters. Raises InvalidInput, and NotFound for an image that a filter names."""
    tests = [_TESTS[name](request, values) for name, values in filters.items() if values]
    known = [(image, names.get(image.fingerprint, Names())) for image in images]
    return [(image, named) for image, named in known if all(test(image, named) for test in tests)]


def shown_names(names: Names, filters: Filters) -> Names:
    """Of an image that a ``reference`` matches only the matching names are shown."""
    patterns = filters.get("reference", ())
    if not patterns:
        return names
    return Names(tuple(alias for alias in names.aliases if _matches(familiar(alias.name), patterns)))


def check_filters(filters: Filters, allowed: frozenset[str]) -> None:
    """Raises InvalidInput."""
    for name in filters:
        if name not in allowed:
            raise InvalidInput(f"invalid filter '{name[:80]}'", field="filters")


def require_one_end(filters: Filters) -> None:
    """What is pruned has one end at most. Raises InvalidInput."""
    if len(filters.get("until", ())) > 1:
        raise InvalidInput("more than one until filter specified", field="filters")


def is_dangling(filters: Filters, default: bool) -> bool:
    """Whether only images without names are meant. Raises InvalidInput."""
    values = filters.get("dangling", ())
    return _truth(values[-1]) if values else default


def _truth(value: str) -> bool:
    if value.lower() not in _TRUTH:
        raise InvalidInput(f"invalid filter 'dangling=[{value[:80]}]'", field="filters")
    return _TRUTH[value.lower()]


def _dangling(request: Request, values: Sequence[str]) -> Test:
    wanted = _truth(values[-1])
    return lambda image, names: (not names.aliases) is wanted


def _label(request: Request, values: Sequence[str]) -> Test:
    return lambda image, names: matches_labels(image.config.labels, values)


def _without_label(request: Request, values: Sequence[str]) -> Test:
    return lambda image, names: not any(matches_labels(image.config.labels, [value]) for value in values)


def _before(request: Request, values: Sequence[str]) -> Test:
    moment = min(find_image(request, value).created_at for value in values)
    return lambda image, names: image.created_at < moment


def _since(request: Request, values: Sequence[str]) -> Test:
    moment = max(find_image(request, value).created_at for value in values)
    return lambda image, names: image.created_at > moment


def _until(request: Request, values: Sequence[str]) -> Test:
    now = request.services.host.clock.now()
    ends = [end for value in values if (end := parse_time(value, "until", now)) is not None]
    return lambda image, names: all(nanoseconds(image.created_at) < end for end in ends)


def _reference(request: Request, values: Sequence[str]) -> Test:
    return lambda image, names: bool(shown_names(names, {"reference": tuple(values)}).aliases)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Patterns as in ``nginx:1.*``; without a tag any tag matches."""
    repository = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    return any(
        fnmatch.fnmatchcase(text, pattern) and text.count("/") == pattern.count("/")
        for pattern in patterns
        for text in (name, repository)
    )


_TESTS: Mapping[str, Callable[[Request, Sequence[str]], Test]] = {
    "dangling": _dangling,
    "label": _label,
    "label!": _without_label,
    "before": _before,
    "since": _since,
    "until": _until,
    "reference": _reference,
}
