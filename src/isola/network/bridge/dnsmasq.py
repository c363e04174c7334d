"""dnsmasq's configuration for a bridge network, and one small file per NIC. Pure."""

from __future__ import annotations

from ipaddress import IPv6Interface, ip_address
from pathlib import Path

from isola.model.network import Nic
from isola.network.bridge.config import BridgeConfig

NICS = "nics"
"""Directory with two files per NIC, in ``hosts.d`` for DHCP and in ``names.d`` for DNS."""


def configuration(link: str, config: BridgeConfig, directory: Path, *, user: str | None) -> str:
    """The whole configuration file. It knows nothing of the host but its resolvers."""
    lines = [
        "# Written by Isola: what is changed here is lost.",
        *([f"user={user}", "group=nogroup"] if user else ["user=root"]),
        f"pid-file={directory}/dnsmasq.pid",
        f"interface={link}",
        "except-interface=lo",
        "bind-dynamic",
        "no-hosts",
        "no-ping",
        "quiet-dhcp",
        "quiet-dhcp6",
        "quiet-ra",
        *_dns(link, config, directory),
        *_dhcp(config, directory),
        *_router(link, config),
    ]
    return "\n".join([*lines, *config.raw.splitlines()]) + "\n"


def reservation(nic: Nic) -> str:
    """The NIC's line in dnsmasq's ``--dhcp-hostsdir``: the addresses of this MAC."""
    addresses = [f",{nic.ipv4}"] if nic.ipv4 else []
    addresses += [f",[{nic.ipv6}]"] if nic.ipv6 else []
    return f"{nic.mac}{''.join(addresses)}\n"


def names(nic: Nic, domain: str, network: str) -> str:
    """The NIC's lines in ``names.d``: full name first, so that the way back from the address gives it.

    Each name also with that of the network, as Docker has it: it says which one is meant where there are several.
    """
    addresses = [address for address in (nic.ipv4, nic.ipv6) if address]
    more = (each for name in nic.names for each in (name, f"{name}.{domain}"))
    within = (f"{name}.{network}" for name in (nic.instance_name, *nic.names))
    known = dict.fromkeys((f"{nic.instance_name}.{domain}", nic.instance_name, *more, *within))
    return "".join(f"{address} {' '.join(known)}\n" for address in addresses)


def _dns(link: str, config: BridgeConfig, directory: Path) -> list[str]:
    if config.names == "none":
        return ["dhcp-ignore-names"]
    subnets = [str(family.own.network) for family in (config.ipv4, config.ipv6) if family.own is not None]
    lines = [
        # Questions about our own names and addresses end here, whatever the host's resolvers would say.
        f"local=/{config.domain}/",
        f"domain={config.domain}",
        *(f"domain={config.domain},{subnet},local" for subnet in subnets if _on_zone_cut(subnet)),
        f"interface-name=_gateway.{config.domain},{link}",
        f"hostsdir={directory}/{NICS}/names.d",
        "localise-queries",
        *([] if config.forward else ["no-resolv"]),
    ]
    # A guest must not be able to take the name of another one.
    return [*lines, "dhcp-ignore-names"] if config.names == "managed" else [*lines, "expand-hosts"]


def _dhcp(config: BridgeConfig, directory: Path) -> list[str]:
    lines = []
    search = ",".join(config.search)
    if config.ipv4.own is not None and config.ipv4.dhcp:
        mask = config.ipv4.own.network.netmask
        for first, last in config.dynamic_ipv4():
            lines.append(f"dhcp-range={ip_address(first)},{ip_address(last)},{mask},{config.ipv4.expiry}")
        if not config.ipv4.routing:
            # No value: a guest with another NIC must not take this network for its way out.
            lines.append("dhcp-option=option:router")
        lines.append(f"dhcp-option-force=option:domain-search,{search}")
        lines += [f"dhcp-option-force=option:mtu,{config.mtu}", "dhcp-rapid-commit"]
    if config.stateful and isinstance(config.ipv6.own, IPv6Interface):
        prefix = config.ipv6.own.network.prefixlen
        for first, last in config.ipv6.ranges or _whole(config.ipv6.own):
            lines.append(f"dhcp-range={ip_address(first)},{ip_address(last)},{prefix},{config.ipv6.expiry}")
    if lines or (config.ipv6.own is not None and config.ipv6.dhcp):
        lines += [
            "dhcp-authoritative",
            "dhcp-no-override",
            f"dhcp-leasefile={directory}/leases",
            f"dhcp-hostsdir={directory}/{NICS}/hosts.d",
        ]
    return lines


def _router(link: str, config: BridgeConfig) -> list[str]:
    if config.ipv6.own is None:
        return []
    lifetime = 1800 if config.ipv6.routing else 0
    lines = ["enable-ra", f"ra-param={link},mtu:{config.mtu},60,{lifetime}"]
    if not config.stateful:
        mode = "ra-stateless" if config.ipv6.dhcp else "ra-only"
        lines.append(f"dhcp-range=::,constructor:{link},{mode},{config.ipv6.own.network.prefixlen}")
        lines.append(f"dhcp-option=option6:domain-search,{','.join(config.search)}")
    return lines


def _whole(own: IPv6Interface) -> list[tuple[int, int]]:
    return [(int(own.network.network_address) + 2, int(own.network.broadcast_address))]


def _on_zone_cut(subnet: str) -> bool:
    """Whether the subnet's reverse names are whole DNS zones, which is all dnsmasq can claim."""
    length = int(subnet.rpartition("/")[2])
    return length in (8, 16, 24) if "." in subnet else length % 4 == 0
