"""Commands run inside an instance, and consoles attached to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command to run inside a running instance."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    interactive: bool = False
    """One pseudo-terminal instead of three pipes."""
    width: int = 0
    height: int = 0
    user: int | str | None = 0
    """A number, or a name as in the instance's /etc/passwd, also with a group: ``1000:www``. None: as its program."""
    group: int | None = None
    """None means the user's own: its primary group, or 0 where the instance does not know the user."""
    cwd: str = ""
    """Directory; empty means the user's home as the image knows it, or /; without a user, as its program."""
    every_capability: bool = False
    """All capabilities that the instance's user namespace confines, not only those of its first process."""


@dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """A console to attach to."""

    width: int = 0
    height: int = 0
    type: str = "console"
    force: bool = False
