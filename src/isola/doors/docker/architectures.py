"""Names of architectures: the kernel's, which are ours, and those of Go, which are Docker's."""

from __future__ import annotations

from isola.errors import InvalidInput

_MOST_PARTS = 3
_SYSTEMS = frozenset(
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
    if text and len(parts) == 1 and parts[0] not in _SYSTEMS | _ARCHITECTURES:
        raise InvalidInput(
            f'"{text[:80]}": unknown operating system or architecture: invalid argument', field="platform"
        )
    return text.lower()
