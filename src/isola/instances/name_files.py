"""Files by which the program of an application container finds names: hosts, resolv.conf, hostname."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

from isola.devices.values import mount_point
from isola.errors import NotFound
from isola.instances.context import Context
from isola.instances.identity import nics_of
from isola.instances.linking import addresses_of, further_names, hosts_of
from isola.instances.run_values import GATEWAY, OTHER
from isola.instances.settings import SETTINGS
from isola.model.instance import Config, Devices, Instance

HOSTS, RESOLVER, HOSTNAME = "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"
_LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLVER_OF_HOST = Path("/etc/resolv.conf")
_LARGEST = 64 << 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the files say beside the configuration."""

    hostname: str
    addresses: tuple[str, ...] = ()
    """The instance's own."""
    gateways: tuple[str, ...] = ()
    """Addresses of the host on its managed networks, where their name servers answer."""
    search: tuple[str, ...] = ()
    resolver: str = ""
    """The host's resolv.conf, for an instance without managed networks."""
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of instances that the configuration names, as it names them."""
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More names of linked instances, by the names of the links."""


async def name_files(context: Context, instance: Instance, config: Config, hostname: str) -> Mapping[str, str]:
    """Path inside -> text, from the configuration and its networks."""
    nics = nics_of(context, instance)
    networks = list(dict.fromkeys(nic.network for nic in nics))
    served = [network for network in networks if context.networks.driver(network).capabilities.dns]
    gateways = tuple(gateway for network in served for gateway in context.networks.gateways(network))
    return files_of(
        config,
        Surroundings(
            hostname,
            tuple(address for nic in nics for address in (nic.ipv4, nic.ipv6) if address),
            gateways,
            tuple(domain for network in served for domain in _search(context.networks.get(network).config)),
            "" if gateways else await _read(context, _RESOLVER_OF_HOST),
            {value: addresses_of(context, instance, value, networks) for _, value in hosts_of(config)},
            further_names(context, instance, config),
        ),
    )


async def host_names(context: Context, config: Config, name: str) -> tuple[str, Mapping[str, str]]:
    """The host's name and its own files, for an instance in its network, with what the configuration says beside."""
    found = Surroundings(
        name or context.host.system.kernel().hostname, resolver=await _read(context, _RESOLVER_OF_HOST)
    )
    hosts = (await _read(context, Path(HOSTS))).rstrip("\n")
    lines = [f"{address}\t{names}" for names, address in _given_hosts(config, found)]
    return found.hostname, {
        HOSTS: "\n".join([hosts or _LOCAL.rstrip("\n"), *lines, ""]),
        RESOLVER: _resolver(config, found) if _says_resolver(config) else found.resolver,
        HOSTNAME: f"{found.hostname}\n",
    }


def shown(files: Mapping[str, str], devices: Devices) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Without those that a disk replaces, and which of the others are inside of a disk. Pure."""
    disks = {PurePosixPath(mount_point(device["path"])) for device in devices.values() if _has_place(device)}
    kept = {path: text for path, text in files.items() if PurePosixPath(path) not in disks}
    return kept, tuple(path for path in kept if disks.intersection(PurePosixPath(path).parents))


def _has_place(device: Mapping[str, str]) -> bool:
    return device.get("type") == "disk" and device.get("path", "/") != "/"


def files_of(config: Config, found: Surroundings) -> Mapping[str, str]:
    """Pure."""
    return {
        HOSTS: _hosts(config, found),
        RESOLVER: _resolver(config, found),
        HOSTNAME: f"{found.hostname}\n",
    }


def _hosts(config: Config, found: Surroundings) -> str:
    lines = [f"{address}\t{name}" for name, address in _given_hosts(config, found)]
    short, _, domain = found.hostname.partition(".")
    domain = config.get("isola.domainname") or domain
    names = f"{short}.{domain} {short}" if domain else short
    lines += [f"{address}\t{names}" for address in found.addresses or ("127.0.1.1",)]
    return _LOCAL + "\n".join(lines) + "\n"


def _given_hosts(config: Config, found: Surroundings) -> Sequence[tuple[str, str]]:
    pairs = []
    for name, value in hosts_of(config):
        addresses = found.gateways if value == GATEWAY else found.others.get(value, ())
        named = value == GATEWAY or value.startswith(f"{OTHER}:")
        names = " ".join(dict.fromkeys((name, *found.further.get(name, ()))))
        pairs += [(names, address) for address in (addresses if named else (value,))]
    return pairs


def _says_resolver(config: Config) -> bool:
    return any(_listed(config, f"isola.dns.{what}") for what in ("servers", "search", "options"))


def _resolver(config: Config, found: Surroundings) -> str:
    servers, domains = _listed(config, "isola.dns.servers"), _listed(config, "isola.dns.search")
    options = _listed(config, "isola.dns.options")
    if not (found.gateways or _says_resolver(config)):
        return _without_loopback(found.resolver)
    domains = () if domains == (".",) else domains or found.search
    servers = servers or found.gateways or _servers(found.resolver)
    lines = [f"nameserver {server}" for server in servers]
    lines += [f"search {' '.join(domains)}"] if domains else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join([*lines, ""])


def _listed(config: Config, key: str) -> tuple[str, ...]:
    found = SETTINGS.value(config, key)
    return tuple(map(str, found)) if isinstance(found, tuple) else ()


def _servers(resolver: str) -> tuple[str, ...]:
    kept = _without_loopback(resolver).splitlines()
    return tuple(line.split()[1] for line in kept if line.startswith("nameserver "))


def _without_loopback(resolver: str) -> str:
    """A resolver that listens on the host's loopback cannot be reached from another network namespace."""
    return "".join(f"{line}\n" for line in resolver.splitlines() if not _is_loopback(line))


def _is_loopback(line: str) -> bool:
    fields = line.split()
    if len(fields) < 2 or fields[0] != "nameserver":
        return False
    try:
        return ip_address(fields[1].partition("%")[0]).is_loopback
    except ValueError:
        return True


def _search(config: Mapping[str, str]) -> list[str]:
    return [part.strip() for part in (config.get("dns.search") or config.get("dns.domain") or "isola").split(",")]


async def _read(context: Context, path: Path) -> str:
    try:
        return (await context.host.files.read(path, _LARGEST)).decode(errors="replace")
    except NotFound:
        return ""
