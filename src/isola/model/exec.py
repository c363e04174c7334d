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
    user: int = 0
    group: int = 0
    cwd: str = ""
    """Directory; empty means the user's home as the image knows it, or /."""
    wait_for_websocket: bool = True
    record_output: bool = False


@dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """A console to attach to."""

    width: int = 0
    height: int = 0
    type: str = "console"
    force: bool = False
