"""Names of architectures: the kernel's, which are ours, and those of Go, which are Docker's."""

from __future__ import annotations

_PLATFORMS = {"x86_64": "amd64", "i686": "386", "aarch64": "arm64", "armv7l": "arm"}


def platform_of(architecture: str) -> str:
    """``amd64`` for ``x86_64``."""
    return _PLATFORMS.get(architecture, architecture)
