"""Users by name, from the instance's /etc/passwd and /etc/group, which are untrusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isola.errors import InvalidInput, IsolaError
from isola.host.files import Files, Root
from isola.model.identity import IdRange
from isola.runtimes.guest import Guest

_ALL = 2**32 - 1
"""Number of ids of a guest with its own kernel."""
_LIMIT = 1 << 20
"""Maximum number of bytes read from a file."""


@dataclass(frozen=True, slots=True)
class User:
    """The ids, inside the instance, with which a program runs."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


async def resolve(files: Files, root: Path, idmap: IdRange, user: str, groups: Sequence[str] = ()) -> User:
    """``uid``, ``uid:gid`` or names; ``groups`` are added to those of the user.

    Raises InvalidInput if a name is unknown or a number is out of range.
    """
    if user in ("", "0", "root", "0:0") and not groups:
        return User()
    async with files.root(root, idmap=idmap) as inside:
        passwd, group = await _read(inside, "/etc/passwd"), await _read(inside, "/etc/group")
    found = choose(user or "0", passwd, group, idmap.size) if user not in ("", "0", "root", "0:0") else User()
    return replace(found, groups=(*found.groups, *_further(group, groups, idmap.size)))


def _further(group: str, names: Sequence[str], size: int) -> list[int]:
    found = []
    for name in names:
        number = _group(group, name)
        if number is None or number >= size:
            raise InvalidInput(
                f"There is no group {name[:80]!r} inside", field="group", remedy=f"use a number below {size}"
            )
        found.append(number)
    return found


async def of_guest(guest: Guest, user: str, groups: Sequence[str] = ()) -> User:
    """The same for a command in a running instance."""
    async with guest.files() as inside:
        passwd, group = await _read(inside, "/etc/passwd"), await _read(inside, "/etc/group")
    idmap = guest.plan.idmap if guest.plan is not None else None
    size = idmap.size if idmap is not None else _ALL
    found = choose(user, passwd, group, size)
    return replace(found, groups=(*found.groups, *_further(group, groups, size)))


def choose(user: str, passwd: str, group: str, size: int) -> User:
    """Pure part of ``resolve``."""
    name, _, group_name = user.partition(":")
    name = name or "0"
    entry = _find(passwd, name, fields=6)
    uid = _number(entry[2]) if entry else _number(name)
    gid = _group(group, group_name) if group_name else _number(entry[3]) if entry else 0
    for what, number, text in (("user", uid, name), ("group", gid, group_name)):
        if number is None or number >= size:
            raise InvalidInput(
                f"There is no {what} {text[:80]!r} inside", field=what, remedy=f"use a number below {size}"
            )
    assert uid is not None and gid is not None
    home = entry[5] if entry and entry[5].startswith("/") else "/"
    return User(uid, gid, () if group_name else _supplementary(group, entry[0] if entry else "", gid, size), home)


def _supplementary(group: str, member: str, gid: int, size: int) -> tuple[int, ...]:
    if not member:
        return ()
    found = set()
    for fields in _entries(group, 4):
        number = _number(fields[2])
        if number is not None and number < size and member in fields[3].split(","):
            found.add(number)
    return tuple(sorted(found - {gid}))[:64]


def _group(group: str, name: str) -> int | None:
    entry = _find(group, name, fields=3)
    return _number(entry[2]) if entry else _number(name)


def _find(text: str, name: str, *, fields: int) -> list[str] | None:
    """By name first, as C libraries do, then by number."""
    entries = list(_entries(text, fields))
    named = next((entry for entry in entries if entry[0] == name), None)
    return named or next((entry for entry in entries if entry[2] == name and _number(name) is not None), None)


def _entries(text: str, fields: int) -> list[list[str]]:
    return [parts for line in text.splitlines() if len(parts := line.split(":")) >= fields]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


async def _read(root: Root, path: str) -> str:
    data = b""
    try:
        async for block in await root.read(path):
            data += block
            if len(data) >= _LIMIT:
                break
    except IsolaError:
        return ""
    return data[:_LIMIT].decode(errors="replace")
