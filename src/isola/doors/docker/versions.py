"""Versions of the API, which clients put before the path: ``/v1.51/containers/json``."""

from __future__ import annotations

import re

from isola.errors import InvalidInput

Version = tuple[int, int]
OLDEST: Version = (1, 24)
NEWEST: Version = (1, 51)
_PREFIX = re.compile(r"/v([0-9]{1,3})\.([0-9]{1,3})(?=/|$)")
NOUNS = frozenset(
    {"_ping", "auth", "build", "commit", "configs", "containers", "distribution", "events", "exec", "grpc"}
    | {
        "images",
        "info",
        "networks",
        "nodes",
        "plugins",
        "secrets",
        "services",
        "session",
        "swarm",
        "system",
        "tasks",
        "version",
    }
    | {"volumes"}
)
"""First components of all paths, for requests without a version."""


def split(path: str) -> tuple[Version, str]:
    """The version, by default the newest, and the path without it. Raises InvalidInput for those not spoken here."""
    found = _PREFIX.match(path)
    if found is None:
        return NEWEST, path
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        raise InvalidInput(
            f"client version {text(version)} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise InvalidInput(
            f"client version {text(version)} is too new. Maximum supported API version is {text(NEWEST)}"
        )
    return version, path[found.end() :]


def claims(path: str) -> bool:
    """Whether a path is one of this API's."""
    return _PREFIX.match(path) is not None or path.strip("/").partition("/")[0] in NOUNS


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
