"""Published ports: packet filter rules that rewrite addresses only for what the host's own rules have let in. Pure.

A rewritten destination would take a packet past the rules for what the host receives (the hook ``input``). So the first
packet of a connection keeps its destination, passes all rules on ``input``, and only then is sent once more, over a
pair of links from the host to itself. Arriving there its destination is rewritten; from then on the kernel does so for
the connection, and the rules on ``forward`` see all packets. Connections that begin on the host itself, or on the
bridge of the instance, go to a process that listens on the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from isola.devices.endpoints import Endpoint, parse
from isola.host.link_kinds import Loop
from isola.model.device import DeviceState

IPV4, IPV6, PORTS = "ipv4", "ipv6", "ports"
"""Recorded facts: the addresses of the instance, and ports that were chosen."""
FAMILIES = {"ip": 4, "ip6": 6}
_LAST = 1000
"""Priority of the chain on ``input``: after those of all others."""
Config = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Published:
    """Ports of the host, and the instance's addresses and ports behind them."""

    listen: Endpoint
    targets: Mapping[int, str]
    """IP version -> address."""
    ports: tuple[int, ...]
    """One for each port of ``listen``."""

    @classmethod
    def read(cls, state: DeviceState) -> Published:
        """From a device with ``nat``."""
        listen, connect = parse(state.config["listen"]), parse(state.config["connect"])
        if chosen := state.facts.get(PORTS):
            listen = Endpoint(listen.protocol, listen.host, (int(chosen),))
        return cls(
            listen=listen,
            targets=_targets(connect, state.facts),
            ports=connect.ports if len(connect.ports) > 1 else connect.ports * len(listen.ports),
        )

    @property
    def connect(self) -> Endpoint | None:
        """Where the process connects to: by the protocol on which it listens, by IPv4 if that is both; None without an
        address.
        """
        version = 4 if self.listen.host == "::" else ip_address(self.listen.host).version
        address = self.targets.get(version) or next(iter(self.targets.values()), None)
        return Endpoint(self.listen.protocol, address, self.ports) if address else None

    def tables(self, loop: Loop, bridges: tuple[str, ...]) -> dict[str, str]:
        """The tables by family; ``bridges`` are those that the instance is on."""
        wild = ip_address(self.listen.host).is_unspecified
        found = {}
        for family, version in FAMILIES.items():
            listens = ip_address(self.listen.host).version == version or (wild and ":" in self.listen.host)
            if listens and version in self.targets:
                to = "fib daddr type local" if wild else f"{family} daddr {self.listen.host}"
                found[family] = "\n".join(self._table(family, to, loop, bridges))
        return found

    def _table(self, family: str, to: str, loop: Loop, bridges: tuple[str, ...]) -> Iterator[str]:
        protocol, address = self.listen.protocol, self.targets[FAMILIES[family]]
        target = f"[{address}]" if ":" in address else address
        neighbour = Loop.NEIGHBOURS[family == "ip6"]
        inner = ", ".join(f'"{link}"' for link in ("lo", loop.far, *bridges))
        listed = ", ".join(map(str, self.listen.ports))
        yield f"chain admitted {{\n  type filter hook input priority {_LAST}; policy accept;"
        # The port first: all other packets to the host pass the rules of every published port.
        yield (
            f"  {protocol} dport {{ {listed} }} ct state new iifname != {{ {inner} }} {to}"
            f' dup to {neighbour} device "{loop.near}" drop'
        )
        yield "}\nchain prerouting {\n  type nat hook prerouting priority dstnat; policy accept;"
        for port, other in zip(self.listen.ports, self.ports, strict=True):
            yield f'  iifname "{loop.far}" {to} {protocol} dport {port} dnat to {target}:{other}'
        yield "}"


def _targets(connect: Endpoint, facts: Mapping[str, str]) -> dict[int, str]:
    if not ip_address(connect.host).is_unspecified:
        return {ip_address(connect.host).version: connect.host}
    return {version: facts[key] for version, key in ((4, IPV4), (6, IPV6)) if facts.get(key)}
