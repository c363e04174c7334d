"""Rules about the ports of a sandbox with gVisor's own network stack. Pure.

Its sockets are not the host's, so the packets are judged that leave its NICs: the first one of a connection, and the
answer to one that comes in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from isola.model.ports import of_protocol

_TABLE = "isola_ports"
_FIRST, _ANSWER = "tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == (syn | ack)"


def script(interfaces: Collection[str], listens: Collection[str] | None, connects: Collection[str] | None) -> str:
    """For ``nft``: replaces what was there in one transaction."""
    emptied = f"add table netdev {_TABLE}\ndelete table netdev {_TABLE}\n"
    if (listens, connects) == (None, None) or not interfaces:
        return emptied
    devices = ", ".join(f'"{name}"' for name in interfaces)
    rules = "\n".join(_rules(listens, connects))
    head = f"type filter hook egress devices = {{ {devices} }} priority 0; policy accept;"
    return f"{emptied}table netdev {_TABLE} {{\nchain leaving {{\n{head}\n{rules}\n}}\n}}\n"


def command(network: Path) -> list[str]:
    """That reads the script, in a network namespace."""
    return ["nsenter", f"--net={network}", "nft", "-f", "-"]


def _rules(listens: Collection[str] | None, connects: Collection[str] | None) -> Iterator[str]:
    if connects is not None:
        yield from _all_but(_FIRST, "tcp dport", _ports(connects, "tcp"))
    if listens is not None:
        yield from _all_but(_ANSWER, "tcp sport", _ports(listens, "tcp"))
    if connects is not None:
        if answers := _ports(listens or (), "udp"):
            yield f"udp sport {{ {answers} }} accept"
        yield from _all_but("meta l4proto udp", "udp dport", _ports(connects, "udp"))


def _all_but(which: str, port: str, allowed: str) -> Iterator[str]:
    if allowed:
        yield f"{which} {port} {{ {allowed} }} accept"
    yield f"{which} drop"


def _ports(wanted: Collection[str], protocol: str) -> str:
    """As elements of a set, which nft wants without overlaps."""
    merged: list[tuple[int, int]] = []
    for _, first, last in sorted(of_protocol(wanted, protocol)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in merged)
