"""Links as the API shows them; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.host.link_views import LinkView


def describe(link: str, views: Sequence[LinkView]) -> Mapping[str, object]:
    """The API's network state of a link; empty where there is none. ``views`` are all links of the host."""
    view = next((view for view in views if view.name == link), None)
    if view is None:
        return {}
    state = view.state
    shown: dict[str, object] = {
        "addresses": [
            {"family": a.family, "address": a.address, "netmask": a.netmask, "scope": a.scope} for a in state.addresses
        ],
        "counters": {
            "bytes_received": state.bytes_received,
            "bytes_sent": state.bytes_sent,
            "packets_received": state.packets_received,
            "packets_sent": state.packets_sent,
        },
        "hwaddr": state.hwaddr,
        "mtu": state.mtu,
        "state": state.state,
        "type": state.type,
        "bond": None,
        "bridge": None,
        "vlan": None,
        "ovn": None,
    }
    if view.kind == "bridge":
        shown["bridge"] = {
            "id": f"8000.{state.hwaddr.replace(':', '')}",
            "stp": False,
            "forward_delay": 0,
            "vlan_default": 1,
            "vlan_filtering": False,
            "upper_devices": [port.name for port in views if port.master == link],
        }
    return shown


def addressed(views: Sequence[LinkView], own_alias: str) -> Mapping[str, Sequence[str]]:
    """Addresses of global scope, with prefix length, of the links that isola did not create."""
    return {
        view.name: [f"{a.address}/{a.netmask}" for a in view.state.addresses if a.scope == "global"]
        for view in views
        if not view.alias.startswith(own_alias)
    }


def kinds(views: Sequence[LinkView]) -> Mapping[str, str]:
    """Unmanaged links to list: name -> the API's type. Without veth pairs, which are NICs of instances."""
    shown = {"bridge", "physical", "loopback", "bond", "vlan", "macvlan"}
    return {view.name: view.kind if view.kind in shown else "unknown" for view in views if view.kind != "veth"}
