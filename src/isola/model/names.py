"""Names of things, checked before they reach a path, a host name or a link."""

from __future__ import annotations

import re

from isola.errors import InvalidInput

_HOSTNAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
"""Of a host name; names with underscores are common, though they are none of the DNS."""
_HOSTNAME_LIMIT = 64
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._/:+@\]-]{0,254}", re.ASCII)


def instance_name(value: object, field: str = "name") -> str:
    """A host name of one label: 1-63 letters, digits and hyphens, not digits alone."""
    remedy = "use 1-63 letters, digits and hyphens, with a letter, no hyphen first or last"
    return _check(_HOSTNAME, value, "instance name", field, remedy)


def network_name(value: object, field: str = "name") -> str:
    """1-128 letters, digits, underscores, dots and hyphens; the link of a network may have another name."""
    remedy = "use 1-128 letters, digits, underscores, dots and hyphens, a letter or a digit first"
    return _check(_NETWORK, value, "network name", field, remedy)


def plain_name(value: object, field: str = "name") -> str:
    """A name for pools, profiles and volumes: fit for one path component."""
    return _check(_PLAIN, value, "name", field, "use 1-63 letters, digits, dots, hyphens and underscores")


def volume_name(value: object, field: str = "name") -> str:
    """A name for a custom volume, as long as other APIs make them: fit for one path component."""
    return _check(_VOLUME, value, "name", field, "use 1-128 letters, digits, dots, hyphens and underscores")


def alias_name(value: object, field: str = "name") -> str:
    """An image alias such as ``debian/12``, or a name of a registry, such as ``docker.io/library/x@sha256:...``."""
    name = _check(_ALIAS, value, "alias", field, "use letters, digits, and . _ / : + - @")
    if ".." in name or "//" in name:
        raise InvalidInput(f"Invalid alias {name!r}", field=field, remedy="no empty or dotted path parts")
    return name


def hostname(name: str) -> str:
    """A host name of one label made of an instance's name, which another API may allow ``_`` and ``.`` in."""
    label = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")[:63].rstrip("-")
    return label or "instance"


def full_hostname(value: str) -> str:
    """A host name of one or more labels, at most the 64 characters that the kernel takes. Raises ValueError."""
    if len(value) > _HOSTNAME_LIMIT or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError(
            "labels of letters, digits, hyphens and underscores, separated by dots, at most 64 characters are expected"
        )
    return value


def _check(pattern: re.Pattern[str], value: object, noun: str, field: str, remedy: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"The {noun} must be a string", field=field, remedy=remedy)
    if not pattern.fullmatch(value):
        raise InvalidInput(f"Invalid {noun} {value[:80]!r}", field=field, remedy=remedy)
    return value
