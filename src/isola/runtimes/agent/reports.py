"""What an agent reports of a guest, and the configuration of its NICs. Pure, but for waiting."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import TypeVar

from isola.model.instance import Address, InterfaceState
from isola.runtimes.agent.body import Reader, Writer
from isola.runtimes.agent.wire import broken
from isola.runtimes.spec import TapNic

T = TypeVar("T")
_SCOPES = {0: "global", 200: "global", 253: "link", 254: "local"}
_UP, _LOOPBACK = 1, 8
_MOST_INTERFACES, _MOST_ADDRESSES, _MOST_PROCESSES = 256, 64, 2048


@dataclass(frozen=True, slots=True)
class GuestStats:
    """Nanoseconds, bytes; load is per mille."""

    cpu_ns: int
    cpu_user_ns: int
    cpu_system_ns: int
    memory_total: int
    memory_free: int
    memory_available: int
    memory_cached: int
    processes: int
    load: tuple[int, int, int]
    uptime_ns: int
    oom_kills: int
    """Processes that the kernel has killed because memory was used up."""

    @property
    def memory_used(self) -> int:
        """What programs and the kernel cannot give back at once."""
        return max(0, self.memory_total - self.memory_available)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a guest. Times are in clock ticks, of which a second has 100."""

    pid: int
    parent: int
    uid: int
    state: str
    started: int
    """Since the boot."""
    cpu: int
    resident: int
    """Bytes."""
    command: str


async def shielded(waiting: asyncio.Future[T]) -> T:
    """A caller that is cancelled does not cancel it for the others."""
    return await asyncio.shield(waiting)


def write_network(nic: TapNic) -> Writer:
    """The body for ``CONFIGURE``."""
    writer = Writer().text(nic.mac).text(nic.interface).number("I", nic.mtu)
    inside = nic.inside
    writer.items(inside.addresses if inside else (), _write_address)
    gateways = inside.gateways if inside else ()
    metric, onlink = (inside.metric, inside.onlink) if inside else (0, False)

    def write_route(inner: Writer, gateway: str) -> None:
        everywhere = "::" if ":" in gateway else "0.0.0.0"
        inner.text(everywhere).number("B", 0).text(gateway).number("IB", metric, onlink)

    return writer.items(gateways, write_route)


def read_interfaces(reader: Reader) -> tuple[InterfaceState, ...]:
    """Raises HostFailure."""
    found = reader.items(_interface, _MOST_INTERFACES)
    reader.end()
    return found


def read_stats(reader: Reader) -> GuestStats:
    """Raises HostFailure."""
    cpu, user, system, total, free, available, cached = reader.numbers("QQQQQQQ")
    processes, one, five, fifteen, uptime, killed = reader.numbers("IIIIQQ")
    reader.end()
    return GuestStats(
        cpu, user, system, total, free, available, cached, processes, (one, five, fifteen), uptime, killed
    )


def read_processes(reader: Reader) -> tuple[Process, ...]:
    """Raises HostFailure."""
    found = reader.items(_process, _MOST_PROCESSES)
    reader.end()
    return found


def _write_address(writer: Writer, text: str) -> None:
    interface = ipaddress.ip_interface(text)
    writer.text(str(interface.ip)).number("B", interface.network.prefixlen)


def _interface(reader: Reader) -> InterfaceState:
    name, mac = reader.text(16), reader.text(17)
    mtu, flags = reader.numbers("II")
    addresses = reader.items(_address, _MOST_ADDRESSES)
    received = reader.numbers("QQQQ")
    sent = reader.numbers("QQQQ")
    return InterfaceState(
        name=name,
        addresses=addresses,
        bytes_received=received[0],
        packets_received=received[1],
        errors_received=received[2],
        packets_dropped_inbound=received[3],
        bytes_sent=sent[0],
        packets_sent=sent[1],
        errors_sent=sent[2],
        packets_dropped_outbound=sent[3],
        hwaddr="" if flags & _LOOPBACK else mac,
        mtu=mtu,
        state="up" if flags & _UP else "down",
        type="loopback" if flags & _LOOPBACK else "broadcast",
    )


def _address(reader: Reader) -> Address:
    family = reader.number("B")
    text = reader.text(45)
    length, scope = reader.numbers("BB")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise broken("an invalid address") from None
    if found.version != family or length > found.max_prefixlen:
        raise broken("an address of another family")
    return Address("inet" if family == 4 else "inet6", str(found), str(length), _SCOPES.get(scope, "global"))


def _process(reader: Reader) -> Process:
    pid, parent, uid, state = reader.numbers("IIIB")
    started, cpu, resident = reader.numbers("QQQ")
    return Process(pid, parent, uid, chr(state) if 32 < state < 127 else "?", started, cpu, resident, reader.text(4096))
