"""Networks of processes, as a test sets them."""

from __future__ import annotations

from isola.model.instance import Address, InterfaceState

LOOPBACK = InterfaceState(
    "lo",
    (Address("inet", "127.0.0.1", "8", "local"), Address("inet6", "::1", "128", "local")),
    mtu=65536,
    type="loopback",
)


class FakeNamespaces:
    """Interfaces by process number."""

    def __init__(self) -> None:
        self._interfaces: dict[int, tuple[InterfaceState, ...]] = {}

    def set_interfaces(self, pid: int, *interfaces: InterfaceState) -> None:
        """What ``pid`` sees from now on, beside ``lo``."""
        self._interfaces[pid] = (LOOPBACK, *interfaces)

    def forget(self, pid: int) -> None:
        """The process is gone."""
        self._interfaces.pop(pid, None)

    def interfaces(self, pid: int) -> tuple[InterfaceState, ...]:
        """What was set for ``pid``."""
        return self._interfaces.get(pid, ())
