"""A new network: what a request for one means in the network's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeVar

from isola.doors.docker.answers import NO_MANAGER, Unavailable
from isola.doors.docker.networks.configurations import source_of
from isola.doors.docker.networks.lookup import CONFIGURATION
from isola.doors.docker.networks.notes import NAME, NetworkNote, label_keys, own_name
from isola.doors.http.reading import Fields
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound, Unsupported
from isola.model.network import Network

Subnet = IPv4Network | IPv6Network
T = TypeVar("T")
_BRIDGE = "com.docker.network.bridge."
_MTU = "com.docker.network.driver.mtu"
_MODES = ("", "nat", "nat-unprotected", "routed")
_MOST_AUXILIARY = 64
_FEWEST = 2
"""Addresses of the smallest subnets, all of which are addresses of hosts."""
_LONGEST_NAME = 1024
_NOT_CIDR = "invalid CIDR block notation"
_DEFAULT_DRIVER = ("", "bridge", "default")
_MACVLAN = "macvlan"
_PARENT, _MACVLAN_MODE, _MACVLAN_MODES = "parent", "macvlan_mode", ("", "bridge", "private", "vepa", "passthru")
_OF_MACVLAN = tuple(f"ipv{version}.{key}" for version in (4, 6) for key in ("address", "dhcp.ranges", "routing"))
"""Keys that networks of both types have."""


def new_network(fields: Fields, project: str) -> Network:
    """The network that a request asks for, without checks against others. Raises InvalidInput, NotFound, ..."""
    name = fields.text("Name", "")
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise InvalidInput(f"invalid name: {'name is too long' if name.strip() else 'name is empty'}", field="Name")
    if fields.boolean("ConfigOnly"):
        return _configuration(fields, project)
    _refuse(fields)
    options = fields.mapping("Options", empty=True)
    pools = fields.inside("IPAM").objects("Config")
    labels = fields.mapping("Labels", empty=True)
    macvlan, source = fields.text("Driver", "") == _MACVLAN, source_of(fields)
    addresses = _addresses(fields, pools)
    config = _of_macvlan(options, addresses) if macvlan else {**addresses, **_of_options(options)}
    config |= label_keys(labels)
    if fields.boolean("Internal"):
        config |= {"ipv4.routing": "false", "ipv6.routing": "false", "dns.forward": "" if macvlan else "false"}
    return Network(
        own_name(name),
        driver=_MACVLAN if macvlan else "bridge",
        config={key: value for key, value in config.items() if value},
        project=project,
        notes=_note(fields, attachable=fields.boolean("Attachable")).encoded(),
        configuration=own_name(source) if source else "",
    )


def _configuration(fields: Fields, project: str) -> Network:
    """What other networks are created with: its addresses are read, but not taken. Raises InvalidInput."""
    _addresses(fields, fields.inside("IPAM").objects("Config"))
    note = _note(fields, ipv4=fields.boolean("EnableIPv4", True), ipv6=fields.boolean("EnableIPv6"))
    keys = label_keys(fields.mapping("Labels", empty=True))
    return Network(own_name(fields.text("Name")), CONFIGURATION, config=keys, project=project, notes=note.encoded())


def _note(fields: Fields, **more: bool) -> NetworkNote:
    name, ipam = fields.text("Name"), fields.inside("IPAM")
    labels = fields.mapping("Labels", empty=True)
    return NetworkNote(
        options=fields.mapping("Options", empty=True),
        pools=tuple(_pool(pool) for pool in ipam.objects("Config")),
        bare_labels=tuple(name for name, value in labels.items() if not value),
        ipam_options=ipam.mapping("Options") if ipam.has("Options") else None,
        name="" if NAME.fullmatch(name) else name,
        **more,
    )


def _refuse(fields: Fields) -> None:
    driver = fields.text("Driver", "")
    if driver in ("host", "null", "none"):
        raise Forbidden(f'only one instance of "{"null" if driver == "none" else driver}" network is allowed')
    if driver in ("overlay",):
        raise Unavailable(NO_MANAGER)
    if fields.text("Scope", "") == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if driver == "ipvlan":
        raise Unsupported("ipvlan networks are not offered: use the driver macvlan", field="Driver")
    if driver not in (*_DEFAULT_DRIVER, _MACVLAN):
        raise NotFound(f'plugin "{driver[:80]}" not found')
    ipam = fields.inside("IPAM").text("Driver", "")
    if ipam not in ("", "default"):
        raise NotFound(f'plugin "{ipam[:80]}" not found')
    if fields.boolean("Ingress"):
        raise Forbidden("Ingress network can only be global scope network")


def _addresses(fields: Fields, pools: Sequence[Fields]) -> dict[str, str]:
    wanted = {4: fields.boolean("EnableIPv4", True), 6: fields.boolean("EnableIPv6")}
    if not any(wanted.values()):
        raise InvalidInput("IPv4 or IPv6 must be enabled", field="EnableIPv4")
    config = {f"ipv{version}.address": "auto" if asked else "none" for version, asked in wanted.items()}
    config |= {f"ipv{version}.nat": "true" for version, asked in wanted.items() if asked}
    seen: set[int] = set()
    for pool in pools:
        if not pool.text("Subnet", ""):
            if pool.text("Gateway", "") or pool.text("IPRange", ""):
                raise InvalidInput("invalid network config: a gateway or a range needs a subnet", field="IPAM.Config")
            continue
        if not wanted[6 if ":" in pool.text("Subnet") else 4]:
            continue  # not looked at, as Docker does
        subnet = _subnet(pool.text("Subnet"))
        if subnet.version in seen:
            raise InvalidInput("bridge driver doesn't support multiple subnets", field="IPAM.Config")
        seen.add(subnet.version)
        config |= _of_pool(subnet, pool)
    return config


def _of_pool(subnet: Subnet, pool: Fields) -> dict[str, str]:
    """Keys of one subnet."""
    version = f"ipv{subnet.version}"
    gateway = pool.text("Gateway", "").partition("/")[0] or str(subnet[1])
    if _read(gateway, "gateway", ip_address) not in subnet:
        raise InvalidInput(
            f"invalid network config: no matching subnet for gateway {gateway[:80]}", field="IPAM.Config"
        )
    if subnet.num_addresses > _FEWEST and ip_address(gateway) in (subnet[0], subnet[-1]):
        raise Forbidden(f"failed to allocate gateway ({gateway}): Address already in use")
    config = {f"{version}.address": f"{gateway}/{subnet.prefixlen}", f"{version}.nat": "true"}
    span = pool.text("IPRange", "")
    auxiliary = pool.mapping("AuxiliaryAddresses")
    inner = _read(span, "ip-range", ip_network) if span else subnet
    if inner.version != subnet.version or inner[0] not in subnet or inner[-1] not in subnet:
        raise InvalidInput(f"invalid network config: invalid ip-range {span[:80]}", field="IPAM.Config")
    if span or auxiliary:
        config[f"{version}.dhcp.ranges"] = _ranges(subnet, inner, gateway, auxiliary)
    if version == "ipv6" and (subnet.prefixlen != 64 or span or auxiliary):
        config["ipv6.dhcp.stateful"] = "true"
    return config


def _ranges(subnet: Subnet, inner: Subnet, gateway: str, auxiliary: Mapping[str, str]) -> str:
    """What is left of a range, as ``FIRST-LAST`` parts."""
    if len(auxiliary) > _MOST_AUXILIARY:
        raise InvalidInput(f"At most {_MOST_AUXILIARY} auxiliary addresses are accepted", field="IPAM.Config")
    others = [_read(text, "auxiliary address", ip_address) for text in auxiliary.values()]
    for other in others:
        if other not in subnet:
            raise InvalidInput(f"no matching subnet for aux-address {other}", field="IPAM.Config")
    kept_out = {int(subnet[0]), int(subnet[-1]), int(ip_address(gateway)), *map(int, others)}
    parts, first = [], int(inner[0])
    for gap in sorted(number for number in kept_out if int(inner[0]) <= number <= int(inner[-1])):
        if first < gap:
            parts.append((first, gap - 1))
        first = gap + 1
    if first <= int(inner[-1]):
        parts.append((first, int(inner[-1])))
    kind = type(subnet[0])
    return ",".join(f"{kind(start)}-{kind(end)}" for start, end in parts)


def _of_options(options: Mapping[str, str]) -> dict[str, str]:
    """Keys of the options that mean something here; others are repeated to clients only."""
    if (mtu := options.get(_MTU, "")) and not mtu.isdecimal():
        raise InvalidInput(
            f'failed to parse {_MTU} value: {mtu[:40]} (strconv.Atoi: parsing "{mtu[:40]}": invalid syntax)',
            field="Options",
        )
    config = {"bridge.mtu": mtu, "bridge.name": options.get(f"{_BRIDGE}name", "")}
    if _false(options, "enable_icc"):
        config["security.port_isolation"] = "true"
    for version in (4, 6):
        mode = options.get(f"{_BRIDGE}gateway_mode_ipv{version}", "")
        if mode not in _MODES:
            name = f"{_BRIDGE}gateway_mode_ipv{version}"
            raise InvalidInput(
                f"failed to parse {name} value: {mode[:40]} (unknown gateway mode {mode[:40]})", field="Options"
            )
        if mode == "nat-unprotected":
            config[f"ipv{version}.nat.inbound"] = "all"
        if mode == "routed" or _false(options, "enable_ip_masquerade"):
            config[f"ipv{version}.nat"] = "false"
            config[f"ipv{version}.nat.inbound"] = "all" if mode == "routed" else "replies"
    return config


def _of_macvlan(options: Mapping[str, str], addresses: Mapping[str, str]) -> dict[str, str]:
    mode = options.get(_MACVLAN_MODE, "")
    if mode not in _MACVLAN_MODES:
        raise InvalidInput(
            f"requested macvlan mode '{mode[:40]}' is not valid, 'bridge' mode is the macvlan driver default"
        )
    if not options.get(_PARENT):
        raise InvalidInput("macvlan networks need a parent here: -o parent=LINK", field="Options")
    if (mtu := options.get(_MTU, "")) and not mtu.isdecimal():
        raise InvalidInput(f"invalid {_MTU}: {mtu[:40]}", field="Options")
    return {
        "parent": options[_PARENT],
        "mode": mode,
        "mtu": mtu,
        **{key: value for key, value in addresses.items() if key in _OF_MACVLAN},
    }


def _false(options: Mapping[str, str], name: str) -> bool:
    value = options.get(f"{_BRIDGE}{name}", "")
    if value and value.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidInput(f"invalid value for {_BRIDGE}{name}: {value[:40]!r} is not a boolean", field="Options")
    return value.lower() in ("false", "0", "f")


def _pool(pool: Fields) -> dict[str, object]:
    found: dict[str, object] = {name: pool.text(name, "") for name in ("Subnet", "IPRange", "Gateway")}
    found["AuxiliaryAddresses"] = pool.mapping("AuxiliaryAddresses")
    return {name: value for name, value in found.items() if value}


def _read(text: str, what: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError:
        raise InvalidInput(f"invalid network config: invalid {what} {text[:80]}", field="IPAM.Config") from None


def _subnet(text: str) -> Subnet:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        why = f"it should be {ip_network(text, strict=False)}" if "/" in text else _NOT_CIDR
    except ValueError:
        why = _NOT_CIDR
    raise InvalidInput(f"invalid network config:\ninvalid subnet {text[:80]}: {why}", field="IPAM.Config") from None


def overlap_of(error: IsolaError) -> IsolaError:
    """Docker's text, if an error says that subnets overlap."""
    if isinstance(error, InvalidInput) and "overlaps" in error.message:
        return Forbidden("invalid pool request: Pool overlaps with other one on this address space")
    return error
