"""What an instance uses, by its record alone. Pure."""

from __future__ import annotations

from isola.devices.uses import Home, had_by, named_by
from isola.model.image import digests_entity, layers_entity
from isola.model.instance import Instance, Start, Unknown
from isola.model.project import project_entity
from isola.model.reference import Entity, Kind, Ref
from isola.model.snapshot import InstanceSnapshot
from isola.state.references import Used

_ON_HOST = (Kind.STORAGE_POOL, Kind.STORAGE_VOLUME, Kind.NETWORK)


def uses(home: Home, instance: Instance) -> Used:
    """What cannot be removed before it. Its devices as recorded have those of its profiles among them."""
    project = instance.project
    found = {project_entity(project)}
    found |= {Entity.of(Kind.PROFILE, Ref(home(project, Kind.PROFILE), name)) for name in instance.profiles}
    found.update(named_by(home, project, instance.devices))
    for states in (instance.plugged, instance.changing):
        found.update(had_by(home, project, states))
    if pool := instance.volatile.get("root.pool"):
        found.add(Entity.of_host(Kind.STORAGE_POOL, pool))
    return frozenset(found)


def mentions(home: Home, instance: Instance) -> Used:
    """Its image, which may be removed before it, and the layers that its root uses."""
    found = set(layers_of(instance.start))
    if instance.image:
        found.add(Entity.of(Kind.IMAGE, Ref(home(instance.project, Kind.IMAGE), instance.image)))
    return frozenset(found)


def layers_of(start: Start) -> Used:
    """What pools and the content store call the layers of one instance."""
    return layers_entity(start.layers) | digests_entity(blob.digest for blob in start.blobs)


def snapshot_holder(snapshot: InstanceSnapshot) -> Entity:
    """With the id of the instance, which may have another name by now."""
    instance = snapshot.instance
    return Entity(Kind.INSTANCE_SNAPSHOT, instance.project, (instance.name, snapshot.name, instance.id))


def snapshot_uses(home: Home, snapshot: InstanceSnapshot) -> Used:
    """The images whose content it has disks of: what else it names may be gone when it is restored."""
    instance = snapshot.instance
    return frozenset(each for each in had_by(home, instance.project, instance.plugged) if each.kind is Kind.IMAGE)


def unknown_uses(home: Home, unknown: Unknown) -> Used:
    """What is on the host of an instance without a record keeps its pool, its networks, its volumes and its layers."""
    found = {Entity.of_host(Kind.STORAGE_POOL, unknown.pool)} if unknown.pool else set()
    if (described := unknown.instance) is not None:
        found |= {each for each in uses(home, described) if each.kind in _ON_HOST} | layers_of(described.start)
    return frozenset(found)
