"""Network namespaces of instances: created before the instance starts, and removed after it has stopped."""

from __future__ import annotations

from pathlib import Path

from isola.errors import WrongState
from isola.host import Host
from isola.host.memory_directory import MemoryDirectory
from isola.model.identity import IdRange
from isola.model.network import NetworkNamespace
from isola.operations import Operation

_DIRECTORY = "netns"


class NetworkNamespaces:
    """Identified by the id of the owning instance, so that a later daemon on the same directory finds them.

    They are independent of the processes in them: several runs can share one, and it exists before the first.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory / _DIRECTORY
        self._memory = MemoryDirectory(host, self._directory, 0o700)

    async def open(self) -> None:
        """Keep the files that they are mounted on in memory."""
        await self._memory.open()

    async def close(self) -> None:
        """Leave no mount behind unless there are namespaces."""
        await self._memory.close()

    async def make(
        self, op: Operation, id: str, idmap: IdRange, beside: NetworkNamespace | None = None
    ) -> NetworkNamespace:
        """Create one that is owned by the root user of these ids, in the same user namespace as another one ``beside``.

        Raises AlreadyExists, HostFailure, WrongState.
        """
        namespace = self.place(id)

        async def look() -> bool:
            return self._host.namespaces.has_network(namespace.path)

        await op.effect(
            f"make network namespace of {id}",
            lambda: self._host.namespaces.make_network(
                namespace.path, idmap, beside=beside.path if beside is not None else None
            ),
            look=look,
            undo=lambda: self.remove(id),
        )
        return namespace

    def get(self, id: str) -> NetworkNamespace:
        """The one that an instance owns. Raises WrongState if it has none."""
        if not self.has(id):
            raise WrongState(
                "The network namespace of the instance is missing", remedy="stop the instance and start it again"
            )
        return self.place(id)

    def has(self, id: str) -> bool:
        """Whether an instance owns one."""
        return self._host.namespaces.has_network(self.place(id).path)

    def place(self, id: str) -> NetworkNamespace:
        """The namespace under its path, whether or not it exists."""
        return NetworkNamespace(self._directory / id)

    async def remove(self, id: str) -> None:
        """No effect if there is none."""
        await self._host.namespaces.remove_network(self.place(id).path)
