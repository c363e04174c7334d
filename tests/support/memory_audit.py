"""Compare the whole state of a world in memory with its records."""

from __future__ import annotations

import asyncio
from pathlib import Path

from device_audit import device_differences, unmanaged_nics

from isola.daemon.records import Records
from isola.instances.identity import nics_of
from isola.instances.phases import RunState
from isola.instances.volatile import CHANGING, RESTARTING, RESTORING
from isola.model.image import layer_keys
from isola.model.instance import Desired, Instance
from isola.model.reference import Kind, Ref
from isola.state.references import PREFIXES
from isola.testing.parts import World


async def settle(world: World) -> None:
    """Wait for background activities: operations, and cleanups that watchers start."""
    for _ in range(5):
        for operation in world.parts.services.operations:
            if operation.kind == "task" and not operation.status.final:
                assert await operation.wait(5), f"{operation.description} does not end"
        await asyncio.sleep(0)
    for pool in world.parts.services.pools:
        await world.context.pools.driver(pool.name).settled()


async def differences(world: World) -> list[str]:
    """Surplus, missing and different objects, as strings; empty if host, daemon and records agree."""
    await settle(world)
    keys = {entry.key for prefix in PREFIXES for entry in await world.store.range(prefix)}
    records = await Records.load(world.store)
    instances = list(records.instances)
    found = await _instances(world, instances)
    found += await _networks(world, instances)
    found += _references(world, records, keys)
    running = {record.id for record in instances if _runs(record) and not record.deleting}
    found += await device_differences(world, instances, running)
    found += await _layers(world, records)
    found += _daemon(world, instances)
    claimed = {f"{base} {holder}" for base, holder in (await world.host.id_ranges.claims()).items()}
    doomed = {f"{r.idmap.base} {world.directory}/{r.id}" for r in instances if r.deleting}
    having = {f"{r.idmap.base} {world.directory}/{r.id}" for r in instances} - doomed
    found += _compare("id ranges claimed", claimed - doomed, having)
    found += await _unreferenced(world, instances)
    cached = {name: {record.name: record for record in getattr(world.parts.records, name)} for name in _NAMED}
    stored = {name: {record.name: record for record in getattr(records, name)} for name in _NAMED}
    found += await _snapshots(world, records)
    return found + [f"{name} in memory differ from the store" for name in _NAMED if cached[name] != stored[name]]


def _references(world: World, records: Records, keys: set[str]) -> list[str]:
    """References in the store and in memory. Those of objects without a record are in memory alone."""
    wanted = {key for each in records.collections for _, beside in each.beside() for key in beside}
    found = _compare("keys of references", keys, wanted)
    for kind in Kind:
        held = {used: users for used, users in world.parts.records.references.of_kind(kind)}
        cached = {f"{user}: {used}" for used, users in held.items() for user in users if user.kind is not Kind.UNKNOWN}
        stored = {f"{user}: {used}" for used, users in records.references.of_kind(kind) for user in users}
        found += _compare(f"users of {kind}", cached, stored)
    return found


def _pools(world: World) -> list[Path]:
    return [world.directory / "pools" / pool.name for pool in world.parts.services.pools]


def _runs(record: Instance) -> bool:
    """Whether it is expected to run; not while it waits between reboots."""
    return record.desired is Desired.RUNNING and RESTARTING not in record.volatile


DEFAULT_PROCESSES = "8192"
_NAMED = ("instances", "profiles", "networks", "pools")


async def _instances(world: World, instances: list[Instance]) -> list[str]:
    # An incomplete deletion is recorded as begun: its remaining objects belong to it until it is complete.
    doomed = {record.id for record in instances if record.deleting}
    recorded = {record.id for record in instances} - doomed
    running = {record.id for record in instances if _runs(record)} - doomed
    on_host = world.runtime.instances
    custom = {record.volume().id for record in world.parts.services.volumes}
    found, mounted = list[str](), set[str]()
    for pool in _pools(world):
        here = {record.id for record in instances if record.volatile["root.pool"] == pool.name}
        volumes = set(await world.host.files.names(pool / "volumes"))
        found += _compare(f"volumes in {pool.name}", volumes - doomed - custom, here & recorded)
        for place in (pool / "volumes", pool / "mounts"):
            below = [mount.target for mount in world.host.mounts.table if mount.target.is_relative_to(place)]
            mounted |= {target.relative_to(place).parts[0] for target in below}
    roots = {id for id in mounted if "@" not in id}  # custom volumes are mounted for each holder
    found += _compare("roots mounted", roots - doomed, running)
    found += _compare("processes", set(on_host) - doomed, running)
    if world.engine.capabilities.shares_kernel:
        namespaces = {path.name for path in world.host.namespaces.networks}
        found += _compare("network namespaces", namespaces - doomed, running)
    found += _compare("logs", set(await world.host.files.names(world.directory / "logs")) - recorded - doomed, set())
    for record in instances:
        seen = on_host.get(record.id)
        if record.id not in running or seen is None:
            continue
        if not seen.started or seen.status is not None:
            found.append(f"{record.name} has processes but no program that runs")
        if seen.spec.hostname != record.name:
            found.append(f"{record.name} calls itself {seen.spec.hostname}")
    return found


async def _snapshots(world: World, records: Records) -> list[str]:
    """The snapshots on the host must match the records; those of partly deleted instances may be missing."""
    kept = {record.id: record for record in records.instances if not record.deleting}
    found = [f"frozen: {world.context.records.get(each.ref).name}" for each in kept.values() if _frozen(world, each)]
    found += [f"{each.name} has an incomplete restore" for each in kept.values() if RESTORING in each.volatile]
    doomed = {each.id for each in records.instance_snapshots if not each.ready}
    for record in kept.values():
        ours = {each.id for each in records.instance_snapshots if each.instance.id == record.id}
        seen = set(await world.context.storage(record).snapshots(world.context.volume(record)))
        found += _compare("snapshots", seen - doomed, ours - doomed)
    known = {record.id for record in records.instances}
    found += [
        f"snapshot of nothing: {each.key}" for each in records.instance_snapshots if each.instance.id not in known
    ]
    # The next attempt of a started deletion removes these.
    gone = doomed | {record.id for record in records.instances if record.deleting}
    for pool in world.parts.services.pools:
        await world.parts.services.pools.driver(pool.name).settled()
    partial = {name for pool in _pools(world) for name in await world.host.files.names(pool / "partial")}
    return found + [f"incomplete: {name}" for name in sorted(partial) if name.partition(".")[0] not in gone]


def _frozen(world: World, record: Instance) -> bool:
    """Whether it is frozen although no user has requested it."""
    seen = world.runtime.instances.get(record.id)
    live = world.context.live.get(record.id)
    return seen is not None and live is not None and seen.frozen != (live.state is RunState.FROZEN)


async def _networks(world: World, instances: list[Instance]) -> list[str]:
    kept = [record for record in instances if not record.deleting]
    context = world.context
    doomed = {nic.host_link for record in instances if record.deleting for nic in nics_of(context, record)}
    home = world.directory / "networks/isolabr0"
    registered = {
        name: (await world.host.files.read(home / name)).decode() for name in await world.host.files.names(home)
    }
    expected = {
        nic.host_link: f"{nic.mac} {nic.ipv4} {nic.ipv6} {nic.instance_name}"
        for record in kept
        if _runs(record)
        for nic in nics_of(context, record)
    }
    found = _compare("NICs registered", set(registered) - doomed, set(expected))
    found += [
        f"{link} is registered as {registered[link]!r}"
        for link in expected
        if registered.get(link, expected[link]) != expected[link]
    ]
    seen = {(pair.host, pair.peer, pair.mac) for pair, _ in world.host.links.inside.values() if pair.host not in doomed}
    wired = {
        (nic.host_link, nic.interface, nic.mac) for record in kept if _runs(record) for nic in nics_of(context, record)
    }
    wired |= {nic for record in kept if _runs(record) for nic in unmanaged_nics(world, record)}
    if not world.engine.capabilities.shares_kernel:
        inside = [(seen.spec.id, nic) for seen in world.runtime.instances.values() for nic in seen.nics]
        seen = {(nic.link, nic.interface, nic.mac) for _, nic in inside if nic.link not in doomed}
    veths = {view.name for view in await world.host.links.all() if view.kind in ("veth", "tun")} - doomed
    links = {link for link, _, _ in wired}
    links |= set(world.parts.services.names.loop) if any(world.host.firewall.others.values()) else set()
    return found + _compare("NICs attached", seen, wired) + _compare("links", veths, links)


async def _layers(world: World, records: Records) -> list[str]:
    here = set(await world.context.pools.driver("default").layers.stored())
    ours = [record for record in records.instances if record.volatile["root.pool"] == "default"]
    needed = {digest for record in ours for digest in record.start.layers}
    known = needed | {key for image in records.images for key in layer_keys(image.layers)}
    partial = [n for n in await world.host.files.names(world.directory / "pools/default/layers") if "." in n]
    found = [f"incomplete layer: {name}" for name in partial]
    return found + [f"layer missing: {d}" for d in needed - here] + [f"layer too many: {d}" for d in here - known]


async def _unreferenced(world: World, instances: list[Instance]) -> list[str]:
    """There are no intents, no objects without a record, and descriptions match the records."""
    found = [f"begun and not ended: {entry.key}" for entry in await world.store.range("/intents/")]
    found += [f"in no record: {each.id}" for each in world.context.unknown.values()]
    doomed = {record.id for record in instances if record.deleting}
    for pool in _pools(world):
        described = await world.context.descriptions(pool.name).load()
        here = {record.id: record for record in instances if record.volatile["root.pool"] == pool.name}
        found += _compare(f"described in {pool.name}", set(described) - doomed, set(here) - doomed)
        found += [_described(described[id], here[id]) for id in set(described) & set(here) - doomed]
    return list(filter(None, found))


def _described(has: Instance, wanted: Instance) -> str:
    if all(getattr(has, each) == getattr(wanted, each) for each in ("ref", "config", "devices", "idmap")):
        return ""
    return f"{wanted.name} is described as {has.ref} with {has.config} {has.devices}"


def _daemon(world: World, instances: list[Instance]) -> list[str]:
    """State that the daemon keeps in memory in addition to records."""
    context = world.context
    kept = {record.id: record for record in instances if not record.deleting}
    found = _compare("watched", set(context.live), {id for id, record in kept.items() if _runs(record)})
    pausing = {id for id, record in kept.items() if RESTARTING in record.volatile}
    found += _compare("pausing", set(context.restarts), pausing)
    found += [f"{kept[id].name} counts as broken: {why}" for id, why in context.faults.items() if id in kept]
    found += [f"broken but unknown: {id}" for id in set(context.faults) - {record.id for record in instances}]
    found += [
        f"{kept[id].name} is about to stop" for id, live in context.live.items() if live.state is RunState.STOPPING
    ]
    found += [f"{record.name} counts as half changed" for record in kept.values() if CHANGING in record.volatile]
    held = [str(user) for _, users in context.references.of_kind(Kind.IMAGE_LAYERS) for user in users]
    found += [f"layers are still reserved by {user}" for user in held if user.startswith(Kind.OPERATION)]
    if context.operations.locked():
        found.append(f"locked: {sorted(context.operations.locked())}")
    pool = context.networks._pools.get(Ref.default("isolabr0"))
    if pool is not None:
        macs = {nic.mac for record in kept.values() for nic in nics_of(context, record)}
        doomed = {nic.mac for record in instances if record.deleting for nic in nics_of(context, record)}
        found += _compare("addresses held", set(pool.owned) - doomed, macs)
    found += _limits(world, kept)
    return found


def _limits(world: World, kept: dict[str, Instance]) -> list[str]:
    found = []
    for id, live in world.context.live.items():
        record, seen = kept[id], world.runtime.instances[id]
        config, _ = world.parts.services.instances.expanded(record)
        wanted = (config.get("limits.processes"), config.get("limits.cpu"))
        has = (seen.limits.processes, seen.limits.cpus)
        if (wanted[0] or DEFAULT_PROCESSES) != str(has[0]):
            found.append(f"{record.name} may have {has[0]} processes, configured are {wanted[0]}")
        if wanted[1] is not None and wanted[1] != str(len(has[1] or ())):
            found.append(f"{record.name} runs on CPUs {has[1]}, configured are {wanted[1]}")
        if live.limits != seen.limits or record.volatile.get("last_state.cpus", "") != ",".join(map(str, has[1] or ())):
            found.append(f"{record.name} is bound to CPUs {has[1]}, remembered are {live.limits}")
    return found


def _compare(
    what: str, seen: set[str] | set[tuple[str, str, str]], expected: set[str] | set[tuple[str, str, str]]
) -> list[str]:
    found = [f"{what} too many: {sorted(seen - expected)}"] if seen - expected else []
    return found + ([f"{what} missing: {sorted(expected - seen)}"] if expected - seen else [])
