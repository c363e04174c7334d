"""Networks of processes, as a test sets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from isola.errors import WrongState
from isola.host.process import ProcessRef
from isola.model.identity import IdRange
from isola.model.instance import Address, InterfaceState

LOOPBACK = InterfaceState(
    "lo",
    (Address("inet", "127.0.0.1", "8", "local"), Address("inet6", "::1", "128", "local")),
    mtu=65536,
    type="loopback",
)


class FakeNamespaces:
    """Interfaces by process."""

    def __init__(self) -> None:
        self._interfaces: dict[ProcessRef, tuple[InterfaceState, ...]] = {}
        self.users: list[IdRange] = []
        """Ranges of the user namespaces that are held now."""

    def set_interfaces(self, process: ProcessRef, *interfaces: InterfaceState) -> None:
        """What ``process`` sees from now on, beside ``lo``."""
        self._interfaces[process] = (LOOPBACK, *interfaces)

    def forget(self, process: ProcessRef) -> None:
        """The process is gone."""
        self._interfaces.pop(process, None)

    def hold_mounts(self, process: ProcessRef) -> Path:
        """A path of the fake kind."""
        if process not in self._interfaces:
            raise WrongState(f"Process {process.pid} has ended")
        return Path(f"/fake/{process.pid}/mounts")

    def interfaces(self, process: ProcessRef) -> tuple[InterfaceState, ...]:
        """What was set for it."""
        return self._interfaces.get(process, ())

    @asynccontextmanager
    async def user(self, idmap: IdRange) -> AsyncIterator[Path]:
        """A path of the fake kind."""
        self.users.append(idmap)
        try:
            yield Path(f"/fake/users/{idmap.base}")
        finally:
            self.users.remove(idmap)
