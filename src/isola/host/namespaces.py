"""What a process sees: its network, through the daemon's eyes."""

from __future__ import annotations

from typing import Protocol

from isola.model.instance import InterfaceState


class Namespaces(Protocol):
    """Looks into the namespaces of a process without entering them."""

    def interfaces(self, pid: int) -> tuple[InterfaceState, ...]:
        """Interfaces with addresses and counters in the network namespace of ``pid``; empty when it is gone."""
        ...
