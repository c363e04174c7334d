"""All verbs of instances: precondition, request, and check of the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from memory_audit import settle

from isola.host.link_kinds import Bridge
from isola.instances.commit import CommitRequest
from isola.instances.copy import Source
from isola.instances.move import Destination
from isola.model.instance import Config, Desired, Devices, Instance, InstanceRequest, InstanceUpdate, Status
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Ref
from isola.model.snapshot import snapshot_key
from isola.model.storage import Pool
from isola.model.volume import VolumeRef
from isola.testing.parts import IMAGE, World

NAME = "victim"
VICTIM = Ref.default(NAME)
NIC = {"type": "nic", "network": "isolabr0", "name": "eth0", "hwaddr": "10:66:6a:00:00:01"}
NIC_ONE = {"type": "nic", "network": "isolabr0", "name": "eth0"}
NIC_TWO = NIC_ONE | {"name": "eth5"}
ROOT = {"type": "disk", "path": "/", "pool": "default"}
IN_OTHER = ROOT | {"pool": "other"}
OTHER = NIC | {"name": "eth1", "hwaddr": "10:66:6a:00:00:02"}


@dataclass(frozen=True)
class Verb:
    """One verb: precondition, request, description of its operation, and check of the result."""

    name: str
    operation: str | None
    """None: of all operations that it starts."""
    prepare: Callable[[World], Awaitable[None]]
    act: Callable[[World], Awaitable[None]]
    done: Callable[[World], bool]
    background: bool = False
    """Started by the daemon itself, without a caller."""
    always: Callable[[World], bool] = lambda world: True
    """A condition that is also true after a cancellation."""


def record(world: World, name: str = NAME) -> Instance | None:
    found = world.parts.records.instances.find(Ref.default(name))
    return None if found is None or found.deleting else found


async def absent(world: World) -> None:
    for instance in list(world.parts.services.instances):
        await world.finish(world.parts.services.instances.delete(instance.ref, force=True))


async def absent_and_packed(world: World) -> None:
    await absent(world)
    for image in list(world.parts.services.images):
        await world.finish(world.parts.services.images.start_delete(image.ref))
    await world.import_image()


async def stopped(world: World) -> None:
    await absent(world)
    await world.create(NAME)


async def running(world: World) -> None:
    await absent(world)
    await world.create(NAME, start=True)


async def remembers(world: World) -> None:
    """A running instance with something in memory."""
    await running(world)
    world.runtime.instances[require(world).id].memory = b"known"


async def saved(world: World) -> None:
    """The same, stopped with its memory."""
    await remembers(world)
    await world.finish(world.parts.services.instances.stop(VICTIM, stateful=True))


def require(world: World) -> Instance:
    found = record(world)
    assert found is not None
    return found


def is_saved(world: World) -> bool:
    return not runs(world) and world.parts.services.instances.is_saved(require(world))


def continues(world: World) -> bool:
    return runs(world) and world.runtime.instances[require(world).id].memory == b"known"


def begins(world: World) -> bool:
    return runs(world) and world.runtime.instances[require(world).id].memory == b""


async def ephemeral(world: World) -> None:
    await absent(world)
    await world.create(NAME, start=True, ephemeral=True)


async def frozen(world: World) -> None:
    await running(world)
    await world.finish(world.parts.services.instances.pause(Ref.default(NAME)))


async def kept_running(world: World) -> None:
    """It has a restart policy; on the clock of these tests its pauses take no time."""
    await absent(world)
    await world.create(NAME, start=True, config={"isola.restart": "always"})


def runs(world: World) -> bool:
    found = record(world)
    return found is not None and found.desired is Desired.RUNNING


def is_there(world: World) -> bool:
    return record(world) is not None


def instances_do(verb: str, *arguments: object, **named: object) -> Callable[[World], Awaitable[None]]:
    async def act(world: World) -> None:
        await world.finish(getattr(world.parts.services.instances, verb)(*arguments, **named))

    return act


async def two_running(world: World) -> None:
    await absent(world)
    await change_profile(world, "", {}, {"root": ROOT, "eth0": {"type": "nic", "network": "isolabr0"}})
    await world.create(NAME, start=True)
    await world.create("second", start=True)


async def change_profile(world: World, description: str, config: Config, devices: Devices) -> None:
    await world.parts.services.profiles.update(
        Ref.default("default"), lambda profile: Profile(profile.name, description, config, devices)
    )


async def changes_profile(world: World) -> None:
    await change_profile(world, "changed", {"limits.processes": "55"}, {"root": ROOT, "eth1": NIC_ONE, "eth2": NIC_TWO})


def profile_changed(world: World) -> bool:
    return world.parts.services.profiles.get(Ref.default("default")).description == "changed"


CHANGE = InstanceUpdate(
    config={"limits.processes": "77", "limits.cpu": "1"},
    devices={"eth0": OTHER | {"name": "eth0"}, "eth1": NIC | {"name": "eth1"}},
    profiles=("default",),
    description="changed",
)


DEVICES = {
    "here": {"type": "disk", "source": "/srv/shared", "path": "/here"},
    "scratch": {"type": "disk", "source": "tmpfs:", "path": "/scratch"},
    "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
    "tools": {"type": "disk", "source": f"image:{IMAGE}", "path": "/tools"},
    "kvm": {"type": "unix-char", "source": "/dev/kvm"},
    "web": {"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80"},
    "nat": {"type": "proxy", "listen": "tcp:192.0.2.1:81", "connect": "tcp:192.0.2.9:81", "nat": "true"},
    "eth4": {"type": "nic", "nictype": "p2p", "name": "eth4"},
    "eth5": {"type": "nic", "nictype": "macvlan", "parent": "lan0", "name": "eth5"},
    "eth6": {"type": "nic", "network": "isolabr0", "name": "eth6", "security.mac_filtering": "true"},
}
_PLUG = InstanceUpdate(config={}, devices=DEVICES, profiles=("default",), description="changed")
_UNPLUG = InstanceUpdate(config={}, devices={}, profiles=("default",), description="changed")
_REPLUG = InstanceUpdate(
    config={},
    devices={
        "here": DEVICES["here"] | {"readonly": "true"},
        "scratch": DEVICES["scratch"] | {"path": "/other"},
        "data": DEVICES["data"] | {"path": "/data/deep"},
        "tools": DEVICES["tools"] | {"subpath": "etc"},
        "kvm": DEVICES["kvm"] | {"path": "/dev/other"},
        "web": DEVICES["web"] | {"connect": "tcp:127.0.0.1:8080"},
        "nat": {"type": "disk", "source": "tmpfs:", "path": "/nat"},
        "eth4": DEVICES["eth4"] | {"mtu": "1400"},
        "eth5": {"type": "nic", "nictype": "p2p", "name": "eth5"},
        "eth6": DEVICES["eth6"] | {"security.mac_filtering": "true", "limits.egress": "1Mbit"},
    },
    profiles=("default",),
    description="changed",
)


async def pluggable(world: World) -> None:
    """It runs, and the host has the resources for its devices."""
    await running(world)
    await world.host.files.make_directory(Path("/srv/shared"))
    if not await world.host.links.exists("lan0"):
        await world.host.links.create_bridge(Bridge("lan0"))
    data = VolumeRef.custom("default", "data")
    if all(volume.ref != data for volume in world.parts.services.volumes):
        await world.finish(await world.parts.services.volumes.create(data, {}))


async def plugged(world: World) -> None:
    """It runs with a device of each kind."""
    await pluggable(world)
    plain = InstanceUpdate(config={}, devices=DEVICES, profiles=("default",), description="")
    await world.finish(world.parts.services.instances.update(VICTIM, lambda _: plain))


async def plugged_and_stopped(world: World) -> None:
    await plugged(world)
    await world.finish(world.parts.services.instances.stop(VICTIM))


def changed(world: World) -> bool:
    found = record(world)
    return found is not None and found.description == "changed"


async def ends(world: World, reboot: bool = False) -> None:
    instance = record(world)
    assert instance is not None
    (world.runtime.reboot if reboot else world.runtime.end)(instance.id)
    for _ in range(10):
        await asyncio.sleep(0)
    await settle(world)


SNAPSHOT = "before"
COPIED = InstanceRequest(name="copy", devices={"eth0": NIC_ONE, "eth1": NIC_TWO})
"""With MAC addresses of its own."""


async def takes_snapshot(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.create(VICTIM, SNAPSHOT))


async def takes_stateful_snapshot(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.create(VICTIM, SNAPSHOT, stateful=True))


async def restores_memory(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.restore(VICTIM, SNAPSHOT, stateful=True))


async def snapshotted_with_memory(world: World) -> None:
    """A stopped instance with a snapshot of when it ran."""
    await remembers(world)
    await takes_stateful_snapshot(world)
    await world.finish(world.parts.services.instances.stop(VICTIM, force=True))


async def renames_snapshot(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.rename(VICTIM, SNAPSHOT, "other"))


async def deletes_snapshot(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.delete(VICTIM, SNAPSHOT))


async def restores(world: World) -> None:
    await world.finish(world.parts.services.instances.snapshots.restore(VICTIM, SNAPSHOT))


COPY = "copy"


async def copies(world: World) -> None:
    await copied(world, Source(VICTIM))


async def copies_snapshot(world: World) -> None:
    await copied(world, Source(VICTIM, SNAPSHOT))


async def copied(world: World, source: Source) -> None:
    await world.finish(world.parts.services.instances.copy(source, COPIED))


async def snapshotted(world: World) -> None:
    """A snapshot, after which the instance was changed."""
    await stopped(world)
    await takes_snapshot(world)
    await world.finish(world.parts.services.instances.update(VICTIM, lambda _: CHANGE))


async def snapshotted_running(world: World) -> None:
    await snapshotted(world)
    await world.finish(world.parts.services.instances.start(VICTIM))


async def snapshotted_ephemeral(world: World) -> None:
    await ephemeral(world)
    await takes_snapshot(world)
    changed = replace(CHANGE, ephemeral=True)
    await world.finish(world.parts.services.instances.update(VICTIM, lambda _: changed))


async def two_pools(world: World) -> None:
    if "other" not in {pool.name for pool in world.parts.services.pools}:
        await world.finish(world.parts.services.pool_verbs.create(Pool("other", driver="dir")))
    if all(project.name != "blue" for project in world.parts.services.projects):
        await world.parts.services.projects.create(Project("blue", config={"features.profiles": "false"}))


async def snapshotted_beside(world: World) -> None:
    """The same, with another pool and another project."""
    await snapshotted(world)
    await two_pools(world)


async def in_other_pool(world: World) -> None:
    await absent(world)
    await two_pools(world)
    await world.create(NAME, devices={"root": IN_OTHER})
    await takes_snapshot(world)


def moves(**to: object) -> Callable[[World], Awaitable[None]]:
    async def act(world: World) -> None:
        ref = Ref(str(to.get("project", "default")), str(to.get("name", NAME)))
        named = {key: value for key, value in to.items() if key not in {"project", "name"}}
        await world.finish(world.parts.services.instances.move(VICTIM, Destination(ref, **named)))  # type: ignore[arg-type]

    return act


async def copies_beside(world: World) -> None:
    request = replace(COPIED, devices={**COPIED.devices, "root": IN_OTHER})
    await world.finish(world.parts.services.instances.copy(Source(VICTIM), request))


async def outdated_copy(world: World) -> None:
    """A copy; since then its origin has got a further snapshot, and another one of the same name."""
    await snapshotted(world)
    await copies(world)
    await deletes_snapshot(world)
    await world.host.clock.advance(60)
    await takes_snapshot(world)
    await world.finish(world.parts.services.instances.snapshots.create(VICTIM, "more"))


async def refreshes(world: World) -> None:
    await world.finish(world.parts.services.instances.refresh(Source(VICTIM), VICTIM.renamed(COPY)))


def refreshed(world: World) -> bool:
    of = world.parts.services.instances.snapshots.of
    both = [record(world), record(world, COPY)]
    return len({tuple((each.name, each.created_at) for each in of(found)) for found in both if found}) == 1


def lies_in(world: World, pool: str, name: str = NAME) -> bool:
    found = record(world, name)
    return found is not None and found.volatile["root.pool"] == pool


async def running_and_uncommitted(world: World) -> None:
    """A running instance, and no image that was made of it."""
    await absent(world)
    for image in [each for each in world.parts.services.images if each.source.get("instance")]:
        await world.finish(world.parts.services.images.start_delete(image.ref))
    await running(world)


async def commits(world: World) -> None:
    await world.finish(world.parts.services.instances.contents.commit(VICTIM, CommitRequest(names=("made",))))


def has_committed(world: World) -> bool:
    found = world.parts.services.images.resolve(Ref.default("made"))
    return found is not None and found.source.get("instance") == NAME


def has_snapshot(world: World, name: str = SNAPSHOT) -> bool:
    found = record(world)
    held = None if found is None else world.parts.records.instance_snapshots.find(snapshot_key(found.id, name))
    return held is not None and held.ready


def restored(world: World) -> bool:
    found = record(world)
    return found is not None and not found.description


VERBS = (
    Verb("create", "Creating instance", absent_and_packed, lambda w: _create(w, start=False), is_there),
    Verb("launch", "Creating instance", absent_and_packed, lambda w: _create(w, start=True), runs),
    Verb("start", "Starting instance", stopped, instances_do("start", VICTIM), runs),
    Verb("stop", "Stopping instance", running, instances_do("stop", VICTIM), lambda w: not runs(w)),
    Verb("kill", "Stopping instance", frozen, instances_do("stop", VICTIM, force=True), lambda w: not runs(w)),
    Verb("stop-stateful", "Stopping instance", remembers, instances_do("stop", VICTIM, stateful=True), is_saved),
    Verb("start-stateful", "Starting instance", saved, instances_do("start", VICTIM), continues),
    Verb("start-stateless", "Starting instance", saved, instances_do("start", VICTIM, stateful=False), begins),
    Verb("delete-stateful", "Deleting instance", saved, instances_do("delete", VICTIM), lambda w: not is_there(w)),
    Verb("stop-ephemeral", "Stopping instance", ephemeral, instances_do("stop", VICTIM), lambda w: not is_there(w)),
    Verb("restart", "Restarting instance", running, instances_do("restart", VICTIM), runs),
    Verb("pause", "Freezing instance", running, instances_do("pause", VICTIM), runs),
    Verb("resume", "Unfreezing instance", frozen, instances_do("resume", VICTIM), runs),
    Verb("delete", "Deleting instance", stopped, instances_do("delete", VICTIM), lambda w: not is_there(w)),
    Verb(
        "delete-running",
        "Deleting instance",
        running,
        instances_do("delete", VICTIM, force=True),
        lambda w: not is_there(w),
    ),
    Verb(
        "rename",
        "Renaming instance",
        stopped,
        instances_do("rename", VICTIM, "new"),
        lambda w: record(w, "new") is not None,
    ),
    Verb(
        "metadata",
        "Updating instance metadata",
        running,
        instances_do("change_metadata", VICTIM, lambda found: found.with_file("own.tpl", "x")),
        lambda w: (found := record(w)) is not None and bool(found.start.templates),
    ),
    Verb("update", "Updating instance", stopped, instances_do("update", VICTIM, lambda _: CHANGE), changed),
    Verb("update-live", "Updating instance", running, instances_do("update", VICTIM, lambda _: CHANGE), changed),
    Verb("plug", "Updating instance", pluggable, instances_do("update", VICTIM, lambda _: _PLUG), changed),
    Verb("unplug", "Updating instance", plugged, instances_do("update", VICTIM, lambda _: _UNPLUG), changed),
    Verb("replug", "Updating instance", plugged, instances_do("update", VICTIM, lambda _: _REPLUG), changed),
    Verb("start-plugged", "Starting instance", plugged_and_stopped, instances_do("start", VICTIM), runs),
    Verb("stop-plugged", "Stopping instance", plugged, instances_do("stop", VICTIM), lambda w: not runs(w)),
    Verb("profile", "Updating profile", two_running, changes_profile, profile_changed),
    Verb("snapshot", "Snapshotting instance", stopped, takes_snapshot, has_snapshot),
    Verb("snapshot-running", "Snapshotting instance", running, takes_snapshot, has_snapshot),
    Verb(
        "snapshot-stateful",
        "Snapshotting instance",
        remembers,
        takes_stateful_snapshot,
        lambda w: has_snapshot(w) and continues(w),
        always=runs,
    ),
    Verb("restore-stateful", "Restoring snapshot", snapshotted_with_memory, restores_memory, continues),
    Verb(
        "snapshot-delete-stateful",
        "Deleting snapshot",
        snapshotted_with_memory,
        deletes_snapshot,
        lambda w: not has_snapshot(w),
    ),
    Verb("snapshot-rename", "Renaming snapshot", snapshotted, renames_snapshot, lambda w: has_snapshot(w, "other")),
    Verb("snapshot-delete", "Deleting snapshot", snapshotted, deletes_snapshot, lambda w: not has_snapshot(w)),
    Verb("restore", "Restoring snapshot", snapshotted, restores, restored),
    Verb(
        "restore-running",
        "Restoring snapshot",
        snapshotted_running,
        restores,
        lambda w: restored(w) and runs(w),
        always=runs,
    ),
    Verb(
        "restore-ephemeral",
        "Restoring snapshot",
        snapshotted_ephemeral,
        restores,
        lambda w: restored(w) and runs(w),
        always=runs,
    ),
    Verb(
        "delete-with-snapshots",
        "Deleting instance",
        snapshotted,
        instances_do("delete", VICTIM),
        lambda w: not is_there(w),
    ),
    Verb(
        "commit",
        "Creating image from instance",
        running_and_uncommitted,
        commits,
        has_committed,
        always=runs,
    ),
    Verb("copy", "Copying instance", snapshotted, copies, lambda w: record(w, COPY) is not None),
    Verb("copy-running", "Copying instance", snapshotted_running, copies, lambda w: record(w, COPY) is not None),
    Verb("copy-snapshot", "Copying instance", snapshotted, copies_snapshot, lambda w: record(w, COPY) is not None),
    Verb("copy-pool", "Copying instance", snapshotted_beside, copies_beside, lambda w: lies_in(w, "other", COPY)),
    Verb("refresh", "Refreshing instance", outdated_copy, refreshes, refreshed),
    Verb("move-pool", "Moving instance", snapshotted_beside, moves(pool="other"), lambda w: lies_in(w, "other")),
    Verb("move-back", "Moving instance", in_other_pool, moves(pool="default"), lambda w: lies_in(w, "default")),
    Verb(
        "move-alone",
        "Moving instance",
        snapshotted_beside,
        moves(pool="other", name="new", with_snapshots=False),
        lambda w: lies_in(w, "other", "new") and not list(w.parts.records.instance_snapshots),
    ),
    Verb(
        "move-project",
        "Moving instance",
        snapshotted_beside,
        moves(project="blue"),
        lambda w: Ref("blue", NAME) in w.parts.records.instances,
    ),
    Verb("end", "Cleaning up after instance", running, ends, lambda w: not runs(w), True),
    Verb("reboot", "Cleaning up after instance", running, lambda w: ends(w, reboot=True), runs, True, runs),
    Verb("rebooted", "Starting instance after its reboot", running, lambda w: ends(w, reboot=True), runs, True, runs),
    Verb("end-policy", "Cleaning up after instance", kept_running, ends, runs, True, runs),
    Verb("ended-policy", "Starting instance again", kept_running, ends, runs, True, runs),
    Verb("end-ephemeral", "Cleaning up after instance", ephemeral, ends, lambda w: not is_there(w), True),
    Verb("files-ephemeral", "Removing files of an instance", ephemeral, ends, lambda w: not is_there(w), True),
)


async def _create(world: World, *, start: bool) -> None:
    await world.create(NAME, start=start)


async def mend(world: World, point: str) -> None:
    """An instance whose cleanup failed shows an error; starting it again cleans up first."""
    instance = record(world)
    assert instance is not None
    await settle(world)
    broken = [each for each in world.parts.services.instances if each.id in world.context.faults]
    for each in broken:
        assert world.context.faults[each.id].why, point
        assert world.context.status(each) is Status.ERROR
    for each in broken or [instance]:
        if world.context.status(each) is not Status.RUNNING:
            await world.finish(world.parts.services.instances.start(each.ref))
