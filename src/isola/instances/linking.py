"""What an instance knows of those that it is linked with: addresses, and variables as links of Docker set them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.instances.configuration import environment, expanded
from isola.instances.context import Context
from isola.instances.identity import nics_of
from isola.instances.run_values import OTHER
from isola.instances.settings import HOSTNAME, SETTINGS
from isola.model.instance import Config, Instance
from isola.model.names import hostname
from isola.model.reference import Ref

LINKS = "isola.links.*"
Port = tuple[int, str]
_BY_BUILDS = ("HOME", "PATH")
"""Variables that say nothing to others."""


def hosts_of(config: Config) -> Sequence[tuple[str, str]]:
    """Names, and addresses or instances, of ``isola.hosts``."""
    given = SETTINGS.value(config, "isola.hosts")
    return given if isinstance(given, tuple) else ()


def addresses_of(context: Context, instance: Instance, value: str, networks: Sequence[Ref]) -> tuple[str, ...]:
    """Addresses of ``container:NAME`` on these networks; none of what is no instance, or does not run."""
    found = _running(context, instance, value)
    nics = [nic for nic in nics_of(context, found) if nic.network in networks] if found is not None else []
    return tuple(address for nic in nics for address in (nic.ipv4, nic.ipv6) if address)


def further_names(context: Context, instance: Instance, config: Config) -> dict[str, tuple[str, ...]]:
    """Host names and names of linked instances, by the names of the links."""
    hosts, found = dict(hosts_of(config)), dict[str, tuple[str, ...]]()
    for alias in SETTINGS.values(config, LINKS):
        if (other := _running(context, instance, hosts.get(alias, ""))) is not None:
            called = expanded(context, other)[0].get(HOSTNAME) or hostname(other.called)
            found[alias] = (called, other.name)
    return found


def link_variables(context: Context, instance: Instance, config: Config) -> dict[str, str]:
    """Of all its links with instances that run, with their present addresses."""
    hosts, found = dict(hosts_of(config)), dict[str, str]()
    links = SETTINGS.values(config, LINKS)
    networks = [nic.network for nic in nics_of(context, instance)] if links else []
    for alias, ports in links.items():
        other = _running(context, instance, value := hosts.get(alias, ""))
        addresses = addresses_of(context, instance, value, networks)
        if other is None or not addresses or not isinstance(ports, tuple):
            continue
        theirs = environment(expanded(context, other)[0], other.start.environment)
        found |= variables_of(alias, f"/{instance.name}/{alias}", addresses[0], ports, theirs)
    return found


def variables_of(
    alias: str, name: str, address: str, ports: Sequence[Port], theirs: Mapping[str, str]
) -> dict[str, str]:
    """Pure. ``ports``: those that the other one serves; ``theirs``: its own variables."""
    prefix, found = alias.upper().replace("-", "_"), dict[str, str]()
    ports = sorted(ports, key=lambda each: (each[0], each[1] != "tcp"))
    host = f"[{address}]" if ":" in address else address
    if ports:
        found[f"{prefix}_PORT"] = f"{ports[0][1]}://{host}:{ports[0][0]}"
    for first, last, protocol in _ranges(ports):
        start = f"{prefix}_PORT_{first}_{protocol.upper()}"
        found |= {
            f"{start}_START": f"{protocol}://{host}:{first}",
            f"{start}_PORT_START": str(first),
            f"{start}_END": f"{protocol}://{host}:{last}",
            f"{start}_PORT_END": str(last),
        }
    for port, protocol in ports:
        one = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found |= {
            one: f"{protocol}://{host}:{port}",
            f"{one}_ADDR": address,
            f"{one}_PORT": str(port),
            f"{one}_PROTO": protocol,
        }
    found[f"{prefix}_NAME"] = name
    return found | {f"{prefix}_ENV_{key}": value for key, value in theirs.items() if key not in _BY_BUILDS}


def _ranges(ports: Sequence[Port]) -> list[tuple[int, int, str]]:
    """First, last and protocol of neighbours, where there is more than one."""
    found: list[tuple[int, int, str]] = []
    for port, protocol in ports:
        if found and found[-1][1:] == (port - 1, protocol):
            found[-1] = (found[-1][0], port, protocol)
        else:
            found.append((port, port, protocol))
    return [each for each in found if each[0] < each[1]]


def _running(context: Context, instance: Instance, value: str) -> Instance | None:
    kind, _, name = value.partition(":")
    found = (context.records.find(Ref(instance.project, name)) or context.by_id(name)) if kind == OTHER else None
    return found if found is not None and found.project == instance.project and context.runs(found) else None
