"""How far the processes of a container are confined, where that differs from the defaults of its kind."""

from __future__ import annotations

from dataclasses import dataclass

UNCONFINED = "unconfined"


@dataclass(frozen=True, slots=True)
class Confinement:
    """The defaults are those of every instance."""

    add: tuple[str, ...] = ()
    """Capabilities, without ``CAP_``; ``ALL``."""
    drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    """Programs with a set-user-ID bit or capabilities of files get nothing from these."""
    seccomp: str = ""
    """Empty: the default filter; ``unconfined``; or a profile as JSON, as container engines read it."""
    masked: tuple[str, ...] | None = None
    """Paths that show nothing; None: the default ones."""
    read_only: tuple[str, ...] | None = None
    """Paths that are mounted read-only; None: the default ones."""
    device_rules: tuple[str, ...] = ()
    """Devices that may be opened in addition, as ``c 10:200 rwm``; ``a`` for all."""
    system_calls: tuple[str, ...] = ()
    """The only ones that are allowed, by name; empty: as ``seccomp`` says."""
    writable: tuple[str, ...] | None = None
    """Paths that stay writable, while the rest of the root is read-only; None: as the root's device says."""
