"""Published ports: proxy devices."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.instance import Devices

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_ENDPOINT = re.compile(r"(tcp|udp):(.*):([0-9]+)", re.ASCII)
_MOST = 1024
"""Published ports of one container."""
_ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the container at a port of the host."""

    port: str
    """``80/tcp``."""
    host_ip: str
    host_port: str


def port_devices(host: Fields, exposed: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Of ``PortBindings``, and of all exposed ports with ``PublishAllPorts``. Raises InvalidInput."""
    bindings = host.inside("PortBindings")
    wanted = [(port, each) for port in bindings.names() for each in bindings.objects(port) or [Fields({})]]
    if host.boolean("PublishAllPorts"):
        wanted += [(port, Fields({})) for port in exposed if port not in bindings.names()]
    if len(wanted) > _MOST:
        raise InvalidInput(f"At most {_MOST} ports can be published", field="HostConfig.PortBindings")
    devices: dict[str, dict[str, str]] = {}
    for port, binding in wanted:
        number, protocol = split(port)
        device = _device(number, protocol, binding.text("HostIp", ""), binding.text("HostPort", ""))
        devices[f"port-{protocol}-{number}-{len(devices)}"] = device
    return devices


def published(devices: Devices) -> Iterator[Published]:
    """Of all proxies from the host to a port inside, through whichever door they were made."""
    for _, device in sorted(devices.items()):
        if device.get("type") != "proxy" or device.get("bind", "host") != "host":
            continue
        listen, connect = _ENDPOINT.fullmatch(device.get("listen", "")), _ENDPOINT.fullmatch(device.get("connect", ""))
        if listen is not None and connect is not None:
            yield Published(f"{connect[3]}/{connect[1]}", listen[2].strip("[]"), listen[3])


def split(port: str) -> tuple[int, str]:
    """Number and protocol of ``80/tcp``. Raises InvalidInput."""
    found = _PORT.fullmatch(port)
    if found is None or not 0 < int(found[1]) < 65536:
        raise InvalidInput(f"invalid port specification: {port[:80]!r}")
    return int(found[1]), found[3] or "tcp"


def exposed_ports(config: Fields, of_image: Sequence[str]) -> dict[str, dict[str, str]]:
    """``ExposedPorts`` of the image and the request with a protocol each. Raises InvalidInput."""
    return {"{}/{}".format(*split(port)): {} for port in (*of_image, *config.inside("ExposedPorts").names())}


def _device(number: int, protocol: str, address: str, port: str) -> dict[str, str]:
    if protocol == "sctp":
        raise InvalidInput("Ports of SCTP cannot be published on this server", field="HostConfig.PortBindings")
    if port and not port.isdecimal():
        raise InvalidInput(f"invalid hostPort: {port[:40]!r}", field="HostConfig.PortBindings")
    where = address or _ANY
    chosen = int(port or 0) or _free(where, protocol)
    host = f"[{where}]" if ":" in where else where
    return {"type": "proxy", "listen": f"{protocol}:{host}:{chosen}", "connect": f"{protocol}:127.0.0.1:{number}"}


def _free(address: str, protocol: str) -> int:
    """A port that is free now, chosen by the kernel. Raises InvalidInput for an address that is not the host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise InvalidInput(f"cannot listen on {address[:80]}", evidence=error.strerror or "") from None
