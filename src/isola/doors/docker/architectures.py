"""Names of architectures: the kernel's, which are ours, and those of Go, which are Docker's."""

from __future__ import annotations

import re

from isola.errors import InvalidInput

_MOST_PARTS = 3
_SYSTEM_PATTERN = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
_PART_PATTERN = r"^[A-Za-z0-9_.-]+$"
SYSTEMS = frozenset(
    (
        "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "macos", "nacl",
        "netbsd", "openbsd", "plan9", "solaris", "windows", "zos",
    )
)  # fmt: skip
_ARCHITECTURES = frozenset(
    (
        "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "loong64", "mips", "mips64", "mips64le",
        "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "x86-64", "x86_64",
    )
)  # fmt: skip
_PLATFORMS = {"x86_64": "amd64", "i686": "386", "aarch64": "arm64", "armv7l": "arm"}


def platform_of(architecture: str) -> str:
    """``amd64`` for ``x86_64``."""
    return _PLATFORMS.get(architecture, architecture)


def require_platform_name(text: str) -> str:
    """A platform such as ``linux/arm64`` or ``amd64``, in lower case. Raises InvalidInput with the texts of Docker."""
    parts = text.lower().split("/")
    if len(parts) > _MOST_PARTS:
        raise InvalidInput(f'"{text[:80]}": cannot parse platform specifier: invalid argument', field="platform")
    if text:
        _require_characters(text[:80])
    if text and len(parts) == 1 and parts[0] not in SYSTEMS | _ARCHITECTURES:
        raise InvalidInput(
            f'"{text[:80]}": unknown operating system or architecture: invalid argument', field="platform"
        )
    return text.lower()


def _require_characters(text: str) -> None:
    """Raises InvalidInput with the patterns, which Docker quotes."""
    system, *rest = text.split("/")
    if not re.fullmatch(_SYSTEM_PATTERN, system):
        wrong = f'"{system}" is an invalid OS component of "{text}": OSAndVersion specifier component must match'
        raise InvalidInput(f"{wrong} {_quoted(_SYSTEM_PATTERN)}: invalid argument", field="platform")
    for part in rest:
        if not re.fullmatch(_PART_PATTERN, part):
            wrong = f'"{part}" is an invalid component of "{text}": platform specifier component must match'
            raise InvalidInput(f"{wrong} {_quoted(_PART_PATTERN)}: invalid argument", field="platform")


def _quoted(pattern: str) -> str:
    return '"' + pattern.replace("\\", "\\\\") + '"'
