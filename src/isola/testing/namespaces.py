"""Networks of processes, as a test sets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import HostFailure
from isola.model.identity import IdRange
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
        self.users: list[IdRange] = []
        """Ranges of the user namespaces that are held now."""

    def set_interfaces(self, pid: int, *interfaces: InterfaceState) -> None:
        """What ``pid`` sees from now on, beside ``lo``."""
        self._interfaces[pid] = (LOOPBACK, *interfaces)

    def forget(self, pid: int) -> None:
        """The process is gone."""
        self._interfaces.pop(pid, None)

    def hold_mounts(self, pid: int) -> Path:
        """A path of the fake kind."""
        if pid not in self._interfaces:
            raise HostFailure(f"Cannot hold the mounts of process {pid}")
        return Path(f"/fake/{pid}/mounts")

    def interfaces(self, pid: int) -> tuple[InterfaceState, ...]:
        """What was set for ``pid``."""
        return self._interfaces.get(pid, ())

    @asynccontextmanager
    async def user(self, idmap: IdRange) -> AsyncIterator[Path]:
        """A path of the fake kind."""
        self.users.append(idmap)
        try:
            yield Path(f"/fake/users/{idmap.base}")
        finally:
            self.users.remove(idmap)
