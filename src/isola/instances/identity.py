"""What belongs to an instance wherever it runs: MAC addresses, addresses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

from isola.instances.context import Context
from isola.instances.expand import network_of, nic_devices
from isola.model.instance import Devices, Instance
from isola.model.names import hostname
from isola.model.network import Nic
from isola.model.reference import DEFAULT_PROJECT
from isola.operations import Operation

_NONE = "none"
"""The word for a NIC that shall have no address of a family."""
_FACTS = ("hwaddr", "network", "name", "mtu", "ipv4", "ipv6")


def new_mac(context: Context) -> str:
    """A random address below Isola's locally administered prefix."""
    tail = context.host.clock.token(3)
    return f"0a:69:73:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}"


async def nic_facts(
    context: Context, project: str, name: str, device: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """Volatile facts of one NIC: all that describes it, kept where it is known already."""
    network = network_of(device)
    mac = (device.get("hwaddr") or known.get(f"{name}.hwaddr") or new_mac(context)).lower()
    same = known.get(f"{name}.network") == network and known.get(f"{name}.hwaddr") == mac
    wanted4, wanted6 = device.get("ipv4.address") or None, device.get("ipv6.address") or None
    held4, held6 = (known.get(f"{name}.ipv4"), known.get(f"{name}.ipv6")) if same else (None, None)
    if same and wanted4 in (None, held4) and wanted6 in (None, held6):
        ipv4, ipv6 = held4, held6
    else:
        ipv4, ipv6 = await context.networks.allocate(
            context.network_ref(project, network), mac, ipv4=_address(wanted4 or held4), ipv6=_address(wanted6 or held6)
        )
    facts = {
        f"{name}.hwaddr": mac,
        f"{name}.network": network,
        f"{name}.name": device.get("name", name),
        f"{name}.mtu": device.get("mtu")
        or context.networks.get(context.network_ref(project, network)).config.get("bridge.mtu")
        or "1500",
        f"{name}.ipv4": "" if wanted4 == _NONE else ipv4 or "",
        f"{name}.ipv6": "" if wanted6 == _NONE else ipv6 or "",
    }
    return {key: value for key, value in facts.items() if value}


async def take_facts(
    context: Context, op: Operation, name: str, device: Mapping[str, str], known: Mapping[str, str], *, project: str
) -> dict[str, str]:
    """``nic_facts``; addresses it did not have before go back in the rollback."""
    facts = await nic_facts(context, project, name, device, known)
    if any(known.get(key) != value for key, value in facts.items()):
        op.on_rollback(f"give back addresses of {name}", partial(_give_back, context, project, name, facts, known))
    return facts


async def refreshed(context: Context, op: Operation, instance: Instance, devices: Devices) -> Instance:
    """The record with the facts its NICs have now; unchanged NICs keep theirs."""
    nics = nic_devices(devices)
    known = instance.volatile
    volatile = without_facts(known, *nics, *(nic.device for nic in nics_of(context, instance)))
    for name, device in nics.items():
        volatile |= await take_facts(context, op, name, device, known, project=instance.project)
    return dataclasses.replace(instance, volatile=volatile)


def without_facts(known: Mapping[str, str], *names: str) -> dict[str, str]:
    """Volatile facts but those of these NICs."""
    gone = {f"{name}.{fact}" for name in names for fact in _FACTS}
    return {key: value for key, value in known.items() if key not in gone}


async def _give_back(
    context: Context, project: str, name: str, facts: Mapping[str, str], known: Mapping[str, str]
) -> None:
    context.networks.release(context.network_ref(project, facts[f"{name}.network"]), facts[f"{name}.hwaddr"])
    if f"{name}.hwaddr" in known:
        ipv4, ipv6 = known.get(f"{name}.ipv4"), known.get(f"{name}.ipv6")
        network = context.network_ref(project, known[f"{name}.network"])
        await context.networks.allocate(network, known[f"{name}.hwaddr"], ipv4=ipv4, ipv6=ipv6)


def _address(wanted: str | None) -> str | None:
    return None if wanted == _NONE else wanted


def nics_of(context: Context, instance: Instance, name: str | None = None) -> list[Nic]:
    """The NICs an instance has, from its volatile facts; all of them, or only device ``name``."""
    devices = [key.removesuffix(".hwaddr") for key in instance.volatile if key.endswith(".hwaddr")]
    return [_nic(context, instance, device) for device in sorted(devices) if name in (None, device)]


def dns_name(instance: Instance) -> str:
    """``web1``, or ``web1.blue``: two instances of one name in two projects may share a network."""
    label = hostname(instance.name)
    return label if instance.project == DEFAULT_PROJECT else f"{label}.{instance.project}"


def _nic(context: Context, instance: Instance, name: str) -> Nic:
    facts = instance.volatile
    return Nic(
        instance_id=instance.id,
        instance_name=dns_name(instance),
        device=name,
        interface=facts.get(f"{name}.name", name),
        network=context.network_ref(instance.project, facts.get(f"{name}.network", "")),
        mac=facts[f"{name}.hwaddr"],
        host_link=context.names.veth(instance.id, name),
        ipv4=facts.get(f"{name}.ipv4"),
        ipv6=facts.get(f"{name}.ipv6"),
        mtu=int(facts.get(f"{name}.mtu", "1500")),
        configure=not instance.start.system,
    )
