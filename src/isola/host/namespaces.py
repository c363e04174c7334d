"""Namespaces: a process's view of the network, and namespaces created for instances."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, WrongState
from isola.host import kernel, network_namespace, small_world
from isola.host.credentials import effective_user
from isola.host.proc import ProcessRef, hold, open_of
from isola.host.threads import in_thread
from isola.model.identity import IdRange
from isola.model.instance import Address, InterfaceState

_IPV6_SCOPES = {0x10: "local", 0x20: "link"}
_LOOPBACK_MTU = 65536
_CONTROL = re.compile(rb"[\x0b-\x1f\x7f]")
_PARTING = re.compile(r"(?![ \t\n])[\s\x00-\x1f\x7f-\x9f]")
_LISTENS, _CONNECTED = "0A", ("01", "08")
"""States of sockets in ``net/tcp``: LISTEN; ESTABLISHED and CLOSE_WAIT, where answers may still be sent."""
_MOST = 1 << 16
_SMALL = 8192


class Namespaces(Protocol):
    """Reads namespaces of processes without entering them, and creates namespaces."""

    def interfaces(self, process: ProcessRef) -> tuple[InterfaceState, ...]:
        """Interfaces with addresses and counters in the network namespace of a process; empty if it has ended.

        Includes ``lo``. Hardware addresses and the MTU are not visible from outside, and left to the caller.
        """
        ...

    def clients(self, process: ProcessRef) -> int:
        """TCP connections that others have opened to programs in the network namespace of a process, from outside it.

        0 if it has ended; of many only some are counted.
        """
        ...

    def hold_mounts(self, process: ProcessRef) -> Path:
        """A path to a process's mount namespace, which keeps it as long as the daemon runs.

        Raises WrongState when the process has ended, HostFailure.
        """
        ...

    def of_process(self, process: ProcessRef, kind: str) -> AbstractContextManager[Path]:
        """A path to a process's namespace (``pid``, ``ipc``, ``uts``), valid within the context.

        Raises WrongState when the process has ended, HostFailure.
        """
        ...

    def user(self, idmap: IdRange) -> AbstractAsyncContextManager[Path]:
        """A path to a new user namespace with these ids, valid within the context.

        Its owner is the first id of the range, so resources used inside count against that id's limits (inotify
        instances, namespaces, keys), not against those of the host's root. Raises HostFailure.
        """
        ...

    async def make_network(self, path: Path, idmap: IdRange, *, beside: Path | None = None) -> None:
        """Create a network namespace at ``path`` that exists until ``remove_network``, even without processes.

        It belongs to a new user namespace with these ids (see ``user``), or to that of the network namespace
        ``beside``, which must have these ids. It contains only ``lo``, down. Raises AlreadyExists, HostFailure,
        WrongState (there is none beside); nothing stays when it fails.
        """
        ...

    async def keep_network(self, process: ProcessRef, path: Path) -> None:
        """Keep the network namespace of a process at ``path``, as if ``make_network`` had created it.

        Raises WrongState when the process has ended or has none of its own, AlreadyExists, HostFailure.
        """
        ...

    async def remove_network(self, path: Path) -> None:
        """Unmount it: it ends with its links when the last process in it ends. No effect if there is none."""
        ...

    def has_network(self, path: Path) -> bool:
        """Whether there is a network namespace at ``path``; none survives a reboot of the host."""
        ...

    def user_of_network(self, path: Path) -> AbstractAsyncContextManager[Path]:
        """A path to the user namespace that owns a network namespace, valid within the context.

        Raises WrongState when there is no such network namespace.
        """
        ...

    def network_file(self, path: Path) -> AbstractContextManager[Path]:
        """A path to the network namespace that is valid in any mount namespace, within the context.

        Raises WrongState when there is no such network namespace.
        """
        ...

    async def refuse_routers(self, path: Path, *, ipv6: bool = True) -> int:
        """Have all links in a network namespace ignore IPv6 routers; without ``ipv6``, end IPv6 there.

        How many default routes of IPv6 there are. Raises WrongState if there is no such network namespace, HostFailure.
        """
        ...

    async def set_parameters(self, path: Path, values: Mapping[str, str]) -> None:
        """Kernel parameters of a network namespace: file below ``/proc/sys/net`` -> text.

        Raises WrongState (no such network namespace), NotFound (no such parameter), HostFailure.
        """
        ...

    async def small_mounts(self, directory: Path, unified: Path, inside: Sequence[Path] = ()) -> Path:
        """A path to a new mount namespace (see small_world.py), valid as long as the daemon runs.

        ``unified`` is where the host has mounted cgroup v2. Raises HostFailure.
        """
        ...


class LinuxNamespaces:
    """Reads ``/proc/PID/net``: quick, without locks that network changes hold, and without entering a namespace."""

    def interfaces(self, process: ProcessRef) -> tuple[InterfaceState, ...]:
        """Interfaces in the network namespace of a process."""
        try:
            with hold(process) as directory:
                names = ("dev", "route", "fib_trie", "if_inet6")
                counters, *texts = (_read(f"net/{name}", directory) for name in names)
        except WrongState:
            return ()
        # They seldom change. Large ones are not cached, because instances determine their size.
        parse = _remembered if sum(map(len, texts)) <= _SMALL else _addresses
        addresses = parse(*texts)
        return tuple(_state(name, numbers, addresses.get(name, ())) for name, numbers in parse_counters(counters))

    def clients(self, process: ProcessRef) -> int:
        """By ``net/tcp``, which begins with the sockets that listen."""
        try:
            with hold(process) as directory:
                return count_clients(_read(f"net/{name}", directory) for name in ("tcp", "tcp6"))
        except WrongState:
            return 0

    def hold_mounts(self, process: ProcessRef) -> Path:
        """By a descriptor of our own."""
        return Path(f"/proc/{os.getpid()}/fd/{open_of(process, 'ns/mnt')}")

    @contextmanager
    def of_process(self, process: ProcessRef, kind: str) -> Iterator[Path]:
        """By a descriptor of our own."""
        descriptor = open_of(process, f"ns/{kind}")
        try:
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def user(self, idmap: IdRange) -> AsyncIterator[Path]:
        """A new user namespace, by a descriptor of our own."""
        made: list[int] = []
        try:
            await in_thread(lambda: made.append(_owned_user_namespace(idmap)))
            yield Path(f"/proc/{os.getpid()}/fd/{made[0]}")
        finally:
            for descriptor in made:
                os.close(descriptor)

    async def make_network(self, path: Path, idmap: IdRange, *, beside: Path | None = None) -> None:
        """In a thread: the kernel may have to wait for another namespace's end."""
        await in_thread(network_namespace.make, path, idmap, beside)

    async def keep_network(self, process: ProcessRef, path: Path) -> None:
        """By the process's file, which is opened before the process is verified."""
        descriptor = open_of(process, "ns/net")
        try:
            await in_thread(network_namespace.keep, descriptor, path)
        finally:
            os.close(descriptor)

    async def remove_network(self, path: Path) -> None:
        """Unmounting does not wait for links in it. A stopped instance has none, which is seen without a thread."""
        if not network_namespace.is_left(path):
            return
        await in_thread(network_namespace.remove, path)

    def has_network(self, path: Path) -> bool:
        """Whether it can be opened as one."""
        try:
            os.close(network_namespace.open_at(path))
        except WrongState:
            return False
        return True

    @asynccontextmanager
    async def user_of_network(self, path: Path) -> AsyncIterator[Path]:
        """By a descriptor of our own."""
        with network_namespace.owner(path) as descriptor:
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")

    @contextmanager
    def network_file(self, path: Path) -> Iterator[Path]:
        """By a descriptor of our own."""
        descriptor = network_namespace.open_at(path)
        try:
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)

    async def refuse_routers(self, path: Path, *, ipv6: bool = True) -> int:
        """In a thread that enters it, and then ends."""
        return await in_thread(network_namespace.refuse_routers, path, ipv6=ipv6)

    async def set_parameters(self, path: Path, values: Mapping[str, str]) -> None:
        """In a thread that enters it, and then ends."""
        await in_thread(network_namespace.set_parameters, path, values)

    async def small_mounts(self, directory: Path, unified: Path, inside: Sequence[Path] = ()) -> Path:
        """By a descriptor of our own."""
        try:
            descriptor = await in_thread(small_world.make, directory, inside, unified)
        except OSError as error:
            raise HostFailure("The mount namespace for engines could not be made", evidence=str(error)) from error
        return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _owned_user_namespace(idmap: IdRange) -> int:
    try:
        with effective_user(idmap.base):
            return kernel.user_namespace(idmap.base, idmap.size)
    except OSError as error:
        raise HostFailure(
            "Cannot make a user namespace",
            evidence=str(error),
            remedy="it needs CAP_SETUID and CAP_SETGID, and room below user.max_user_namespaces",
        ) from error


def _addresses(route: str, fib_trie: str, if_inet6: str) -> Mapping[str, tuple[Address, ...]]:
    """Device -> its addresses."""
    found: dict[str, tuple[Address, ...]] = {}
    for device, address in (*parse_ipv4(fib_trie, parse_routes(route)), *parse_ipv6(if_inet6)):
        found[device] = (*found.get(device, ()), address)
    return found


_remembered = functools.lru_cache(maxsize=512)(_addresses)


@dataclass(frozen=True, slots=True)
class Routes:
    """Which device has a route to which network."""

    connected: tuple[tuple[int, int, str], ...] = ()
    """Mask, network and device of directly connected networks, narrowest first."""
    default: str = ""
    """Device of the default route."""


def count_clients(texts: Iterable[str]) -> int:
    """Connections in ``net/tcp`` and ``net/tcp6`` to ports that are listened on, but for those of loopback."""
    rows = [line.split() for text in texts for line in text.splitlines()[1:]]
    sockets = [(row[1].rpartition(":"), row[3]) for row in rows if len(row) > 3]
    listened = {port for (_, _, port), state in sockets if state == _LISTENS}
    return sum(
        state in _CONNECTED and port in listened and not _is_loopback(address) for (address, _, port), state in sockets
    )


def _is_loopback(address: str) -> bool:
    """Hexadecimal words in the machine's byte order."""
    data = b"".join(int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8))
    found = ipaddress.ip_address(data)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def parse_counters(text: str) -> Iterator[tuple[str, list[int]]]:
    """Name and the sixteen numbers of each line of ``net/dev``."""
    for line in text.splitlines()[2:]:
        name, _, numbers = line.rpartition(":")
        yield name.strip(), [int(number) for number in numbers.split()]


def parse_routes(text: str) -> Routes:
    """``net/route``: numbers are hexadecimal in the machine's byte order."""
    connected, default = [], ""
    rows = [line.split() for line in text.splitlines()[1:]]
    for device, destination, gateway, *_, mask, _mtu, _window, _irtt in rows:
        if device == "*":  # an unreachable route
            continue
        bits = _ipv4(mask)
        if bits and not int(gateway, 16):
            connected.append((bits, _ipv4(destination), device))
        elif not bits and not default:
            default = device
    connected.sort(reverse=True)
    return Routes(tuple(connected), default)


def parse_ipv4(text: str, routes: Routes) -> Iterator[tuple[str, Address]]:
    """Addresses of ``net/fib_trie``, which names no devices: those come from the networks the addresses lie in."""
    seen: set[str] = set()
    leaf = ""
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["|--"]:
            leaf = fields[1]
        elif fields == ["/32", "host", "LOCAL"] and leaf not in seen:
            seen.add(leaf)
            yield _place(ipaddress.IPv4Address(leaf), routes)


def parse_ipv6(text: str) -> Iterator[tuple[str, Address]]:
    """Lines of ``net/if_inet6``: address, interface number, prefix length, scope, flags, device."""
    for line in text.splitlines():
        raw, _, prefix, scope, _, device = line.split()
        address = ipaddress.IPv6Address(int(raw, 16))
        yield device, Address("inet6", str(address), str(int(prefix, 16)), _IPV6_SCOPES.get(int(scope, 16), "global"))


def _place(address: ipaddress.IPv4Address, routes: Routes) -> tuple[str, Address]:
    if address.is_loopback:
        return "lo", Address("inet", str(address), "8", "local")
    scope = "link" if address.is_link_local else "global"
    for mask, network, device in routes.connected:
        if int(address) & mask == network:
            return device, Address("inet", str(address), str(mask.bit_count()), scope)
    return routes.default, Address("inet", str(address), "32", scope)


def _state(name: str, numbers: list[int], addresses: tuple[Address, ...]) -> InterfaceState:
    loopback = name == "lo"
    return InterfaceState(
        name=name,
        addresses=addresses,
        bytes_received=numbers[0],
        packets_received=numbers[1],
        errors_received=numbers[2],
        packets_dropped_inbound=numbers[3],
        bytes_sent=numbers[8],
        packets_sent=numbers[9],
        errors_sent=numbers[10],
        packets_dropped_outbound=numbers[11],
        mtu=_LOOPBACK_MTU if loopback else 1500,
        type="loopback" if loopback else "broadcast",
    )


def plain(data: bytes) -> str:
    """Text of the kernel in which only spaces, tabs and line feeds separate fields and lines.

    A program inside may give an interface any name without what the kernel takes for a space, which is less than Python
    does.
    """
    text = data.decode(errors="replace")
    return text if text.isascii() and not _CONTROL.search(data) else _PARTING.sub("\ufffd", text)


def _ipv4(text: str) -> int:
    return int.from_bytes(int(text, 16).to_bytes(4, sys.byteorder))


def _read(file: str, directory: int) -> str:
    """Complete lines of a file, up to a limit: root of a namespace can add millions of routes."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""
    try:
        data = block = os.read(descriptor, _MOST)
        while block and len(data) < _MOST:
            block = os.read(descriptor, _MOST - len(data))
            data += block
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return plain(data[: data.rfind(b"\n") + 1])
