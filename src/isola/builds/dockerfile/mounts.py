"""``RUN --mount``: what a command sees beside the image, and only while it runs."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

from isola.builds.dockerfile.flags import boolean, suggestion

Type = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]
_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite",
    "type": "type", "from": "from", "source": "source", "target": "target", "readonly": "readonly",
    "readwrite": "readwrite", "id": "id", "sharing": "sharing", "required": "required", "size": "size",
    "mode": "mode", "uid": "uid", "gid": "gid", "env": "env",
}  # fmt: skip
_ALLOWED = {
    "bind": {"from", "source", "target", "readonly", "readwrite"},
    "cache": {"id", "target", "readonly", "readwrite", "sharing", "from", "source", "mode", "uid", "gid"},
    "tmpfs": {"target", "size", "readonly", "readwrite"},
    "secret": {"id", "source", "target", "required", "mode", "uid", "gid", "env", "readonly", "readwrite"},
    "ssh": {"id", "target", "required", "mode", "uid", "gid", "readonly", "readwrite"},
}
_BARE = frozenset(("readonly", "readwrite", "required"))
_SIZE = re.compile(r"(\d{1,15})(?:\.\d+)?\s*([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_OCTAL = re.compile(r"[0-7]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a command."""

    type: Type = "bind"
    target: str = ""
    source: str = ""
    """A path in the context, stage or image (bind and the first content of a cache)."""
    source_stage: str = ""
    id: str = ""
    read_only: bool = False
    sharing: Sharing = "shared"
    required: bool = False
    size: int = 0
    """Bytes; 0 where not given."""
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    variable: str = ""
    """The environment variable that has the secret; without a target it is no file then."""


def _same(text: str) -> str:
    return text


def source_of(text: str) -> str:
    """The ``from`` of a mount, which cannot have variables. Raises ValueError."""
    found = _fields(text, _same).get("from", "")
    if "$" in found.removesuffix("$"):
        raise ValueError("'from' doesn't support variable expansion, define alias stage instead")
    return found


def read_mount(text: str, expand: Callable[[str], str] = _same) -> Mount:
    """The mount with variables filled in. Raises ValueError."""
    fields = _fields(text, expand)
    kind = fields.get("type", "bind").lower()
    if kind not in _TYPES:
        raise ValueError(f'unsupported mount type "{kind[:40]}"{suggestion(kind, _TYPES)}')
    for key in fields:
        if key != "type" and key not in _ALLOWED[kind]:
            raise ValueError(f"unexpected key '{key}' for mount type '{kind}'")
    mount = Mount(
        cast("Type", kind),
        target=fields.get("target", ""),
        source=fields.get("source", ""),
        source_stage=fields.get("from", ""),
        id=fields.get("id", ""),
        read_only=_read_only(kind, fields),
        sharing=_sharing(fields.get("sharing", "shared")),
        required=boolean(fields.get("required", "false"), "invalid value for required"),
        size=_size(fields.get("size", "")),
        mode=_mode(fields.get("mode")),
        uid=_identity("uid", fields.get("uid", "0")),
        gid=_identity("gid", fields.get("gid", "0")),
        variable=fields.get("env", ""),
    )
    return _completed(mount)


def _fields(text: str, expand: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in _csv(text):
        written, separator, value = field.partition("=")
        key = _KEYS.get(written.lower())
        if key is None:
            raise ValueError(f"unexpected key '{written[:40]}' in '{field[:80]}'{suggestion(written, tuple(_KEYS))}")
        if not separator and key not in _BARE:
            raise ValueError(f"invalid field '{field[:80]}' must be a key=value pair")
        found[key] = expand(value) if separator else "true"
    return found


def _csv(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"failed to parse csv mounts: {error}") from error
    return rows[0] if rows else []


def _read_only(kind: str, fields: dict[str, str]) -> bool:
    if "readwrite" in fields:
        return not boolean(fields["readwrite"], f"invalid value for readwrite: {fields['readwrite'][:40]}")
    if "readonly" in fields:
        return boolean(fields["readonly"], f"invalid value for readonly: {fields['readonly'][:40]}")
    return kind not in ("cache", "tmpfs")


def _sharing(text: str) -> Sharing:
    if text.lower() not in _SHARING:
        raise ValueError(f'unsupported sharing value "{text[:40]}"{suggestion(text, _SHARING)}')
    return cast("Sharing", text.lower())


def _size(text: str) -> int:
    if not text:
        return 0
    if not (match := _SIZE.fullmatch(text.strip())):
        raise ValueError(f"invalid value for size: {text[:40]}")
    return int(match[1]) << 10 * " kmgtp".index(match[2].lower() or " ")


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not _OCTAL.fullmatch(text):
        raise ValueError(f"invalid value {text[:40]} for mode")
    return int(text, 8)


def _identity(key: str, text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) >= 2**32 - 1:
        raise ValueError(f"invalid value {text[:40]} for {key}")
    return int(text)


def _completed(mount: Mount) -> Mount:
    """Targets and ids that were not given, as Docker chooses them."""
    if mount.type == "secret":
        return _secret(mount)
    if mount.type == "ssh":
        return replace(mount, id=mount.id or "default")
    if not mount.target:
        raise ValueError(f"{mount.type} mount requires a target")
    if mount.type == "cache":
        return replace(mount, id=mount.id or mount.target)
    return mount


def _secret(mount: Mount) -> Mount:
    if mount.source and mount.id:
        raise ValueError("both source and id can't be set")
    if not (mount.source or mount.id or mount.target):
        raise ValueError("invalid secret mount. one of source, target required")
    name = mount.id or mount.source or mount.target.rstrip("/").rpartition("/")[2]
    target = mount.target or ("" if mount.variable else f"/run/secrets/{name.rpartition('/')[2]}")
    return replace(mount, id=name, source="", target=target)
