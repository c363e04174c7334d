"""Addresses of NICs on managed networks: when they are chosen, and what a rollback gives back."""

from __future__ import annotations

from isola.devices.driver import Parts, Plug
from isola.devices.nics import HWADDR, IPV4, IPV6, NETWORK, NONE
from isola.model.device import DeviceState
from isola.model.instance import Desired
from isola.model.reference import Ref
from isola.operations import Operation

RELEASED = "released"
"""In place of NETWORK in facts that are known of a NIC which was released."""


async def allocated(
    parts: Parts, op: Operation, plug: Plug, network: str, *, mac: str, known: DeviceState | None, starting: bool
) -> dict[str, str]:
    """Facts on a network: existing addresses if they match the configuration, else new ones with an undo.

    Of an instance that neither runs nor starts, an IPv4 address that is not configured is the one that it had, or that
    it may have.
    """
    running, held = plug.instance.desired is Desired.RUNNING, known.facts if known is not None else {}
    same = held.get(NETWORK) == network and held.get(HWADDR) == mac
    wanted = {v: plug.config.get(f"ipv{v}.address") or None for v in (4, 6)}
    again = held.get(RELEASED) == network and held.get(HWADDR) == mac
    before = {v: held.get(f"ipv{v}") if same or again else None for v in (4, 6)}
    key = parts.network_ref(plug.instance.project, network)
    fits = same and all(wanted[v] in (None, before[v]) for v in (4, 6))
    if fits and (running or not starting or wanted[4] is not None):
        ipv4, ipv6 = before[4], before[6]
    else:
        asked = {v: None if wanted[v] == NONE else wanted[v] for v in (4, 6)}
        op.on_rollback(f"give back addresses of {plug.name}", lambda: _give_back(parts, plug, key, mac, known))
        ipv4, ipv6 = await parts.networks.allocate(
            key,
            mac,
            ipv4=asked[4],
            ipv6=asked[6] or (None if wanted[6] == NONE else before[6]),
            before=before[4],
            resting=wanted[4] == NONE or not (running or starting),
        )
    return {
        NETWORK: network,
        IPV4: "" if wanted[4] == NONE else ipv4 or "",
        IPV6: "" if wanted[6] == NONE else ipv6 or "",
    }


async def _give_back(parts: Parts, plug: Plug, key: Ref, mac: str, known: DeviceState | None) -> None:
    parts.networks.release(key, mac)
    if known is None or HWADDR not in known.facts or NETWORK not in known.facts:
        return
    held = known.facts
    keeps = plug.instance.desired is Desired.RUNNING or bool(known.config.get("ipv4.address"))
    await parts.networks.allocate(
        parts.network_ref(plug.instance.project, held[NETWORK]),
        held[HWADDR],
        ipv4=held.get(IPV4) if keeps else None,
        ipv6=held.get(IPV6),
        before=held.get(IPV4),
        resting=not keeps,
    )
