"""Custom volumes that stand for something else: a path of the host, or memory. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isola.model.units import parse_size

SOURCE, OPTIONS = "mount.source", "mount.options"
MEMORY = "tmpfs:"
_DEFAULT_SIZE = 64 << 20
_FLAGS = ("ro", "rw", "nosuid", "suid", "noexec", "exec", "nodev", "bind", "rbind")
_VALUES = ("size", "uid", "gid", "mode")
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}
_MOST_IDS = 65535
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """What instances get instead of the volume's own directory."""

    path: Path | None
    """Of the host; None: a file system in memory, of each instance its own."""
    read_only: bool = False
    recursive: bool = False
    set_ids: bool = True
    executable: bool = True
    size: int = _DEFAULT_SIZE
    uid: int = 0
    gid: int = 0
    mode: int = 0o1777


def mount_of(config: Mapping[str, str]) -> VolumeMount | None:
    """By the configuration of a volume; None for an ordinary one. Raises ValueError."""
    if not (text := config.get(SOURCE, "")):
        return None
    flags, values = _split(config.get(OPTIONS, ""))
    path = None if source(text) == MEMORY else Path(text)
    return VolumeMount(
        path,
        read_only="ro" in flags,
        recursive="rbind" in flags,
        set_ids="nosuid" not in flags,
        executable="noexec" not in flags,
        size=_size(values["size"]) if "size" in values else _DEFAULT_SIZE,
        uid=_id(values.get("uid", "0")),
        gid=_id(values.get("gid", values.get("uid", "0"))),
        mode=_mode(values.get("mode", "1777")),
    )


def source(text: str) -> str:
    """A path of the host, or ``tmpfs:``. Raises ValueError."""
    if text == MEMORY:
        return text
    if not text.startswith("/") or posixpath.normpath(text) != text or "\0" in text or len(text) > _LONGEST:
        raise ValueError(f"an absolute path without .. and without / at its end, or {MEMORY}, is expected")
    return text


def options(text: str) -> str:
    """Raises ValueError."""
    mount_of({SOURCE: MEMORY, OPTIONS: text})
    return text


def _split(text: str) -> tuple[set[str], dict[str, str]]:
    flags, values = set[str](), dict[str, str]()
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = part.partition("=")
        if equals and name in _VALUES:
            values[name] = value
        elif part in _FLAGS:
            flags.add(part)
        else:
            expected = ", ".join((*_FLAGS, *(f"{each}=" for each in _VALUES)))
            raise ValueError(f"options out of {expected}, separated by commas, are expected, not {part[:40]!r}")
    return flags, values


def _size(text: str) -> int:
    factor = _UNITS.get(text[-1:].lower(), 0)
    return parse_size(text[:-1]) * factor if factor else parse_size(text)


def _id(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:6]) > _MOST_IDS:
        raise ValueError(f"an id from 0 to {_MOST_IDS} is expected")
    return int(text)


def _mode(text: str) -> int:
    if not text or len(text) > 5 or any(digit not in "01234567" for digit in text):
        raise ValueError("permission bits in octal, such as 1777, are expected")
    return int(text, 8) & 0o7777
