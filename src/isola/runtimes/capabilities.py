"""Features of runtimes, which callers check instead of a runtime's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from isola.errors import Unsupported
from isola.runtimes.spec import RootKind


class Capability(Enum):
    """Features that not all runtimes have."""

    EXEC = "exec"
    FILES = "files"
    """Access to its files while it runs."""
    CONSOLE = "console"
    SIGNAL = "signal"
    """Sending signals to its first process."""
    PAUSE = "pause"
    LIVE_LIMITS = "live limits"
    CHECKPOINT = "checkpoint"
    PLUG = "plug"
    """Adding files and devices of the host, and sockets of the host that connect into it."""
    SHARED_NAMESPACES = "shared namespaces"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a capability is missing, and what to do instead."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeCapabilities:
    """Features of all guests of a runtime."""

    isolations: frozenset[str]
    """Isolation levels that it offers: ``container``, ``sandbox``, ..."""
    shares_kernel: bool = True
    """NICs are in a network namespace; otherwise they are taps, and the guest has no processes on the host."""
    root: RootKind = RootKind.DIRECTORY
    """The required form of its root."""
    lacks: Mapping[Capability, Lack] = field(default_factory=dict)

    def has(self, capability: Capability) -> bool:
        """Whether its guests have the feature."""
        return capability not in self.lacks

    def require(self, capability: Capability) -> None:
        """Raises Unsupported with the reason."""
        if (lack := self.lacks.get(capability)) is not None:
            raise Unsupported(lack.reason, remedy=lack.remedy)
