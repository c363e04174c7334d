"""Published ports: proxy devices."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from isola.devices.publishing import PORTS
from isola.doors.http.reading import Fields
from isola.errors import Conflict, InvalidInput
from isola.model.device import DeviceState
from isola.model.instance import Devices

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_ENDPOINT = re.compile(r"(tcp|udp|sctp):(.*):([0-9]+)", re.ASCII)
_MOST = 1024
"""Published ports of one container."""
_HOST_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_ANY4, _ANY6 = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the container at a port of the host."""

    port: str
    """``80/tcp``."""
    host_ip: str
    """``::`` stands for all addresses, also those of IPv4."""
    host_port: str
    chosen: bool = False
    """The port was not named by the client."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that it listens on, as clients expect them."""
        return (_ANY4, _ANY6) if self.host_ip == _ANY6 else (self.host_ip,)


def port_devices(host: Fields, exposed: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Of ``PortBindings``, and of all exposed ports with ``PublishAllPorts``. Raises InvalidInput."""
    bindings = host.inside("PortBindings")
    wanted = [(port, each) for port in bindings.names() for each in bindings.objects(port) or [Fields({})]]
    if host.boolean("PublishAllPorts"):
        wanted += [(port, Fields({})) for port in exposed if port not in bindings.names()]
    if len(wanted) > _MOST:
        raise InvalidInput(f"At most {_MOST} ports can be published", field="HostConfig.PortBindings")
    devices: dict[str, dict[str, str]] = {}
    taken: set[int] = set()
    for port, binding in wanted:
        number, protocol = split(port)
        devices[f"port-{protocol}-{number}-{len(devices)}"] = _device(number, protocol, binding, taken)
    return devices


def published(devices: Devices, states: Mapping[str, DeviceState]) -> Iterator[Published]:
    """Of all proxies from the host to a port inside, through whichever door they were made."""
    for name, device in sorted(devices.items()):
        if device.get("type") != "proxy" or device.get("bind", "host") != "host":
            continue
        listen, connect = _ENDPOINT.fullmatch(device.get("listen", "")), _ENDPOINT.fullmatch(device.get("connect", ""))
        if listen is not None and connect is not None:
            chosen = states[name].facts.get(PORTS, "") if name in states and listen[3] == "0" else ""
            yield Published(f"{connect[3]}/{connect[1]}", listen[2].strip("[]"), chosen or listen[3], listen[3] == "0")


def split(port: str) -> tuple[int, str]:
    """Number and protocol of ``80/tcp``. Raises InvalidInput."""
    found = _PORT.fullmatch(port)
    if found is None or not 0 < int(found[1]) < 65536:
        raise InvalidInput(f"invalid port specification: {port[:80]!r}")
    return int(found[1]), found[3] or "tcp"


def exposed_ports(config: Fields, of_image: Sequence[str]) -> dict[str, dict[str, str]]:
    """``ExposedPorts`` of the image and the request with a protocol each. Raises InvalidInput."""
    return {"{}/{}".format(*split(port)): {} for port in (*of_image, *config.inside("ExposedPorts").names())}


def _device(number: int, protocol: str, binding: Fields, taken: set[int]) -> dict[str, str]:
    """Without an address it listens on all addresses of both protocols; without a port one is chosen."""
    address, port = binding.text("HostIp", ""), binding.text("HostPort", "")
    try:
        listen = ip_address(address or _ANY6)
    except ValueError:
        raise InvalidInput(f"invalid IP address: {address[:80]!r}", field="HostConfig.PortBindings") from None
    chosen = _chosen(str(listen), protocol, port, taken)
    taken.add(chosen)
    shown = f"[{listen}]" if listen.version == 6 else str(listen)
    connect = f"{protocol}:0.0.0.0:{number}"
    return {"type": "proxy", "nat": "true", "listen": f"{protocol}:{shown}:{chosen}", "connect": connect}


def _chosen(address: str, protocol: str, port: str, taken: set[int]) -> int:
    """A named port, the first free one of a range, or 0. Raises InvalidInput."""
    found = _HOST_PORT.fullmatch(port or "0")
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not 0 <= first <= last < 65536:
        raise InvalidInput(f'invalid port specification: "{port[:40]}"', field="HostConfig.PortBindings")
    if first == last:
        return first
    for candidate in range(first, last + 1):
        if candidate and candidate not in taken and _is_free(address, protocol, candidate):
            return candidate
    raise Conflict(f"Bind for {address}:{first} failed: port is already allocated")


def _is_free(address: str, protocol: str, port: int) -> bool:
    if protocol == "sctp":
        return True  # it is not served by a socket
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError:
        return False
    return True
