"""Links as ``ip`` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isola.model.instance import Address, InterfaceState


@dataclass(frozen=True, slots=True)
class LinkView:
    """State of a link in the daemon's network namespace."""

    name: str
    kind: str
    """``bridge``, ``veth``, ``loopback``, ``physical``, or the kernel's name for another kind of virtual link."""
    state: InterfaceState
    alias: str = ""
    master: str = ""


def view_of(link: Mapping[str, Any]) -> LinkView:
    """From an element of what ``ip -j -d -s addr show`` prints. Pure."""
    kind = link.get("linkinfo", {}).get("info_kind") or (
        "loopback" if link.get("link_type") == "loopback" else "physical"
    )
    received, sent = (link.get("stats64", {}).get(way, {}) for way in ("rx", "tx"))
    up = "UP" in link.get("flags", ())
    state = InterfaceState(
        name=link["ifname"],
        addresses=tuple(_address(entry) for entry in link.get("addr_info", ()) if entry.get("local")),
        bytes_received=received.get("bytes", 0),
        bytes_sent=sent.get("bytes", 0),
        packets_received=received.get("packets", 0),
        packets_sent=sent.get("packets", 0),
        errors_received=received.get("errors", 0),
        errors_sent=sent.get("errors", 0),
        packets_dropped_inbound=received.get("dropped", 0),
        packets_dropped_outbound=sent.get("dropped", 0),
        hwaddr=link.get("address", ""),
        mtu=link.get("mtu", 0),
        state="up" if up else "down",
        type="loopback" if kind == "loopback" else "broadcast",
    )
    return LinkView(link["ifname"], kind, state, alias=link.get("ifalias", ""), master=link.get("master", ""))


def _address(entry: Mapping[str, Any]) -> Address:
    scope = {"host": "local"}.get(entry.get("scope", ""), entry.get("scope", "global"))
    return Address(entry["family"], entry["local"], str(entry["prefixlen"]), scope)
