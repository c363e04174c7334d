"""What a runtime can do: facts that others ask for instead of asking for its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from isola.errors import Unsupported
from isola.runtimes.spec import RootKind


class Capability(Enum):
    """What a guest of some runtimes can, and of others cannot."""

    EXEC = "exec"
    FILES = "files"
    """Its files can be reached while it runs."""
    CONSOLE = "console"
    SIGNAL = "signal"
    """Signals can be sent to its first process."""
    PAUSE = "pause"
    LIVE_LIMITS = "live limits"
    CHECKPOINT = "checkpoint"
    PLUG = "plug"
    """Files and devices of the host can be plugged in, and sockets of the host lead into it."""
    SHARED_NAMESPACES = "shared namespaces"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a capability is missing, and what to do instead."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """Of all guests of a runtime."""

    isolations: frozenset[str]
    """Isolation levels it gives: ``container``, ``sandbox``, ..."""
    shares_kernel: bool = True
    """Ids inside stand for ids of the host, and NICs end in a network namespace; otherwise in taps."""
    root: RootKind = RootKind.DIRECTORY
    """How it wants its root."""
    lacks: Mapping[Capability, Lack] = field(default_factory=dict)

    def has(self, capability: Capability) -> bool:
        """Whether its guests can do it."""
        return capability not in self.lacks

    def require(self, capability: Capability) -> None:
        """Raises Unsupported with the reason."""
        if (lack := self.lacks.get(capability)) is not None:
            raise Unsupported(lack.reason, remedy=lack.remedy)
