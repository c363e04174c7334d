"""A host with the ports that networks use, and helpers for operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import cast

from isola.errors import HostFailure
from isola.events import Events
from isola.host import Host
from isola.host.files import LinuxFiles
from isola.host.mounts import MemoryMount
from isola.host.process import LinuxProcesses
from isola.operations import Observer, Operation, Operations
from isola.testing.clock import FakeClock
from isola.testing.firewall import FakeFirewall
from isola.testing.links import FakeLinks


class NoMounts:
    """None can be made in the test's own directory."""

    async def mounted(self, target: Path) -> bool:
        return False

    async def memory(self, mount: MemoryMount) -> None:
        raise HostFailure(f"No tmpfs on {mount.target}")

    async def unmount(self, target: Path) -> None:
        """None is there."""

    async def unmount_memory(self, target: Path) -> None:
        """None is there."""


def fake_network_host(*, physical: Iterable[str] = ("eth0",), routes: Iterable[str] = ()) -> Host:
    """Links and tables in memory; real files in the test's directory."""
    nothing = cast(LinuxProcesses, None)
    parts = dict.fromkeys(Host.__dataclass_fields__, nothing) | {
        "links": FakeLinks(physical=physical, routes=routes),
        "firewall": FakeFirewall(),
        "files": LinuxFiles(),
        "clock": FakeClock(skips=True),
        "mounts": NoMounts(),
    }
    return Host(**parts)  # type: ignore[arg-type]


def new_operations(host: Host, observer: Observer | None = None) -> Operations:
    """Operations without followers."""
    return Operations(Events(host.clock.now), now=host.clock.now, new_id=host.clock.uuid, observer=observer)


async def act(host: Host, work: Callable[[Operation], Awaitable[object]], observer: Observer | None = None) -> None:
    """Run ``work(op)`` to its end and raise its error."""
    operations = new_operations(host, observer)
    await operations.finish(operations.start("test", work))
