"""Compare devices on the host of a world in memory with its records."""

from __future__ import annotations

from pathlib import Path

from isola.devices import Plug
from isola.devices.nics import HWADDR, NAME, NETWORK, host_link, kind
from isola.model.instance import Instance
from isola.model.volume import VolumeRef
from isola.testing.forwarder import is_forwarder
from isola.testing.parts import World
from isola.testing.port_forwarder import is_port_forwarder

Found = dict[str, set[str]]


async def device_differences(world: World, instances: list[Instance], running: set[str]) -> list[str]:
    """Missing objects of devices of running instances (ids), and surplus ones of other devices."""
    wanted: Found = {}
    doomed = {record.id for record in instances if record.deleting}  # may still have objects
    for record in (each for each in instances if each.id in running):
        for plug in world.context.devices.plugs(record):
            for what, item in _expected(world, plug):
                wanted.setdefault(what, set()).add(item)
    seen = await _seen(world, instances)
    points = world.directory / "pools/default/mounts"  # volumes have names with their holder, roots have none
    shown = [m.target for m in world.host.mounts.table if m.target.is_relative_to(points) and "@" in str(m.target)]
    found = [] if len(shown) == len(seen["volumes held"]) else [f"volumes shown: {shown}"]
    for what in sorted({*seen, *wanted}):
        here = {item for item in seen.get(what, set()) if item.split("/")[0] not in doomed}
        should = wanted.get(what, set())
        found += [f"{what} too many: {sorted(here - should)}"] if here - should else []
        found += [f"{what} missing: {sorted(should - here)}"] if should - here else []
    return found


def _expected(world: World, plug: Plug) -> list[tuple[str, str]]:
    """The objects of an attached device: (kind, ``instance/...``)."""
    config, owner = plug.config, plug.instance.id
    own = f"{owner}/{plug.name}"
    if plug.state.kind == "disk" and config.get("path") != "/":
        mount = ("mounts", f"{owner}/{config['path'].lstrip('/')}") if config.get("path") else ("disks", own)
        found = [mount, ("notes", f"{own}.json")]
        return found + ([("volumes held", own)] if config.get("pool") else [])
    if plug.state.kind in ("unix-char", "unix-block"):
        inside = (config.get("path") or config["source"]).lstrip("/")
        files = [("notes", f"{own}.json"), ("notes", f"{own}.node")]
        found = [("mounts", f"{owner}/{inside}"), ("rules", f"{owner}/c 10:232"), *files]
        return [] if config.get("required") == "false" else found  # audited while the host does not have it
    if plug.state.kind == "proxy":
        if config.get("nat") == "true":
            return [("ports", own), ("tables", own)]
        return [("forwarders", own), ("notes", f"{own}.pid")]
    if config.get("nictype") == "macvlan":
        return [("macvlans", f"{owner}/{config['name']}")]
    noted = [("notes", f"{own}.json")] if plug.state.kind == "nic" and config.get("host_name") else []
    filtered = {"security.mac_filtering", "limits.egress"} & set(config)
    return noted + ([("tables", own)] if filtered else [])


async def _seen(world: World, instances: list[Instance]) -> Found:
    host, files = world.host, world.host.files
    guests = world.runtime.instances
    forwarders = [process.call.argv[5] for process in host.processes.running if is_forwarder(process.call)]
    home = world.directory / "devices"
    notes = {f"{id}/{name}" for id in await files.names(home) for name in await files.names(home / id)}
    held = [world.parts.services.volumes.get(ref) for ref in (VolumeRef.custom("default", "data"),) if _has(world, ref)]
    names = world.parts.services.names
    owners = {names.device_table(one.id, name): f"{one.id}/{name}" for one in instances for name in one.plugged}
    ours = f"{names.tag}."
    tables = {name for family in ("inet", "bridge", "ip", "ip6") for name in await host.firewall.tables(ours, family)}
    servers = [process for process in host.processes.running if is_port_forwarder(process.call)]
    assert len(servers) == bool(host.published.ports), f"{len(servers)} processes for published ports"
    assert len(forwarders) == len(set(forwarders)), f"forwarders twice: {sorted(forwarders)}"
    return {
        "mounts": {f"{id}{target}" for id, guest in guests.items() for target in guest.mounts.values()},
        "disks": {f"{id}/{name}" for id, guest in guests.items() for name in guest.disks if name != "root"},
        "rules": {f"{id}/{device.rule}" for id, guest in guests.items() for device in guest.devices},
        "forwarders": set(forwarders),
        "ports": {owner for owner, _ in host.published.ports.values()},
        "notes": notes,
        "volumes held": {holder for record in held for holder in record.attachments},
        "macvlans": {f"{Path(namespace).name}/{name}" for namespace, name in host.links.macvlans},
        "tables": {owners.get(name, name) for name in tables},
    }


def unmanaged_nics(world: World, record: Instance) -> set[tuple[str, str, str]]:
    """NICs that are on no managed network: (link of the host, name inside, MAC address)."""
    names = world.parts.services.names
    return {
        (host_link(plug, names), plug.state.facts[NAME], plug.state.facts[HWADDR])
        for plug in world.context.devices.plugs(record)
        if plug.state.kind == "nic" and NETWORK not in plug.state.facts and kind(plug.config) != "macvlan"
    }


def _has(world: World, ref: VolumeRef) -> bool:
    return any(record.ref == ref for record in world.parts.services.volumes)
