"""Network namespaces and their interfaces, set by a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from isola.errors import AlreadyExists, NotFound, WrongState
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
    """Interfaces by process, network namespaces by the path of their file."""

    def __init__(
        self, made: Callable[[Path], object] = lambda path: None, removed: Callable[[Path], object] = lambda path: None
    ) -> None:
        self._made, self._removed = made, removed
        self.networks: dict[Path, IdRange] = {}
        """The existing network namespaces, with the ids of their owners."""
        self.beside: dict[Path, Path] = {}
        """Those that were made in the user namespace of another one."""
        self._interfaces: dict[ProcessRef, tuple[InterfaceState, ...]] = {}
        self.connected: dict[ProcessRef, int] = {}
        """Clients of processes, set by tests."""
        self.default_routes: dict[Path, int] = {}
        """Of IPv6, in network namespaces, set by tests."""
        self.parameters: dict[tuple[Path, str], str] = {}
        """Kernel parameters of network namespaces that were set."""
        self.without_ipv6: set[Path] = set()
        """Network namespaces in which IPv6 was ended."""
        self.users: list[IdRange] = []
        """Id ranges of the user namespaces that are kept alive."""

    def set_interfaces(self, process: ProcessRef, *interfaces: InterfaceState) -> None:
        """Set the interfaces of ``process``, in addition to ``lo``."""
        self._interfaces[process] = (LOOPBACK, *interfaces)

    def forget(self, process: ProcessRef) -> None:
        """The process has ended."""
        self._interfaces.pop(process, None)

    def hold_mounts(self, process: ProcessRef) -> Path:
        """A path of the fake kind."""
        if process not in self._interfaces:
            raise WrongState(f"Process {process.pid} has ended")
        return Path(f"/fake/{process.pid}/mounts")

    @contextmanager
    def of_process(self, process: ProcessRef, kind: str) -> Iterator[Path]:
        if process not in self._interfaces:
            raise WrongState(f"Process {process.pid} has ended")
        yield Path(f"/fake/{process.pid}/{kind}")

    def clients(self, process: ProcessRef) -> int:
        """As set by a test."""
        return self.connected.get(process, 0) if process in self._interfaces else 0

    def interfaces(self, process: ProcessRef) -> tuple[InterfaceState, ...]:
        return self._interfaces.get(process, ())

    @asynccontextmanager
    async def user(self, idmap: IdRange) -> AsyncIterator[Path]:
        """A path of the fake kind."""
        self.users.append(idmap)
        try:
            yield Path(f"/fake/users/{idmap.base}")
        finally:
            self.users.remove(idmap)

    async def make_network(self, path: Path, idmap: IdRange, *, beside: Path | None = None) -> None:
        """Remember it, and which it was made beside."""
        if beside is not None and beside not in self.networks:
            raise WrongState(f"There is no network namespace {beside.name}")
        if path in self.networks:
            raise AlreadyExists(f"There is a network namespace {path.name} already")
        self.networks[path] = idmap
        if beside is not None:
            self.beside[path] = beside
        self._made(path)

    async def keep_network(self, process: ProcessRef, path: Path) -> None:
        """Record it; the ids of its owner are unknown."""
        if process not in self._interfaces:
            raise WrongState(f"Process {process.pid} has ended")
        await self.make_network(path, IdRange(0))

    async def remove_network(self, path: Path) -> None:
        """Remove the namespace, even with processes in it."""
        if self.networks.pop(path, None) is not None:
            self._removed(path)

    def has_network(self, path: Path) -> bool:
        """Whether it was recorded."""
        return path in self.networks

    @asynccontextmanager
    async def user_of_network(self, path: Path) -> AsyncIterator[Path]:
        """A path of the fake kind."""
        if path not in self.networks:
            raise WrongState(f"There is no network namespace {path.name}")
        async with self.user(self.networks[path]) as file:
            yield file

    @contextmanager
    def network_file(self, path: Path) -> Iterator[Path]:
        """A path of the fake kind."""
        if path not in self.networks:
            raise WrongState(f"There is no network namespace {path.name}")
        yield Path(f"/fake/networks/{path.name}")

    async def refuse_routers(self, path: Path, *, ipv6: bool = True) -> int:
        """As set by a test; none without IPv6."""
        if path not in self.networks:
            raise WrongState(f"There is no network namespace {path.name}")
        if not ipv6:
            self.without_ipv6.add(path)
        return 0 if path in self.without_ipv6 else self.default_routes.get(path, 0)

    async def set_parameters(self, path: Path, values: Mapping[str, str]) -> None:
        """Remember them, until the one that the kernel does not have."""
        if path not in self.networks:
            raise WrongState(f"There is no network namespace {path.name}")
        for name, value in values.items():
            if name.endswith("/none"):
                raise NotFound(f"/proc/sys/net/{name} is not a sysctl file")
            self.parameters[path, name] = value

    async def small_mounts(self, directory: Path, unified: Path, inside: Sequence[Path] = ()) -> Path:
        """A path of the fake kind."""
        return Path("/fake/small")
