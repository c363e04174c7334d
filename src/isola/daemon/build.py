"""Build the parts and join them: the only place that knows them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from isola.certificates import Certificates, Identity, Tokens
from isola.doors import Services
from isola.events import Events
from isola.host import Host
from isola.images import ImageLibrary
from isola.instances import Instances
from isola.instances.after_end import after_end
from isola.instances.context import Context
from isola.instances.expand import merge, validate
from isola.model.certificate import Certificate
from isola.model.identity import NO_MEMBER, HostNames
from isola.model.image import Alias, Image
from isola.model.instance import Config as InstanceConfig
from isola.model.instance import Devices, Instance
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Entity, Kind, Ref
from isola.model.snapshot import InstanceSnapshot
from isola.model.storage import Pool
from isola.model.volume import VolumeRecord, VolumeSnapshot
from isola.network import NetworkDriver, Networks, NetworkVerbs
from isola.operations import Observer, Operations
from isola.profiles import Profiles
from isola.projects import Guard, Projects
from isola.runtimes import Runtime, Runtimes
from isola.runtimes.lxcfs import Lxcfs
from isola.server import Server
from isola.state import Collection, Intents, Keyed, Scoped, Store, mapping_codec, record_codec
from isola.state.follow import Follower
from isola.state.schema import upgrade
from isola.storage import Pools, PoolVerbs, VolumeDriver, Volumes

T = TypeVar("T")
Access = Callable[[str, str], Awaitable[None]]
Lives = TypeVar("Lives", Instance, VolumeRecord)
"""What lives on one member of a cluster."""


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that is remembered, by noun."""

    server: Collection[Mapping[str, str]]
    projects: Collection[Project]
    instances: Scoped[Instance]
    profiles: Scoped[Profile]
    images: Scoped[Image]
    aliases: Scoped[Alias]
    networks: Scoped[Network]
    pools: Collection[Pool]
    volumes: Collection[VolumeRecord]
    volume_snapshots: Collection[VolumeSnapshot]
    instance_snapshots: Collection[InstanceSnapshot]
    certificates: Collection[Certificate]
    intents: Intents

    @property
    def collections(self) -> tuple[Keyed[Any, Any], ...]:
        """All that is a copy of the store; each is loaded and followed."""
        held = [getattr(self, each.name) for each in fields(self)]
        return tuple(each for each in held if isinstance(each, Keyed))

    @classmethod
    async def load(cls, store: Store, member: str = NO_MEMBER) -> Records:
        """Read all records, brought to the present form before. What is written lives on ``member``."""
        await upgrade(store)

        def here(record: Lives) -> Lives:
            return replace(record, member=member) if record.member == NO_MEMBER else record

        def of(kind: type[T], noun: str, prefix: str) -> Scoped[T]:
            return Scoped(store, noun, f"/{prefix}/", record_codec(kind))

        def plain(kind: type[T], noun: str, prefix: str) -> Collection[T]:
            return Collection(store, noun, f"/{prefix}/", record_codec(kind))

        records = cls(
            server=Collection(store, "server configuration", "/server/", mapping_codec()),
            projects=plain(Project, "project", "projects"),
            instances=Scoped(store, "instance", "/instances/", record_codec(Instance), stamp=here),
            profiles=of(Profile, "profile", "profiles"),
            images=of(Image, "image", "images"),
            aliases=of(Alias, "image alias", "aliases"),
            networks=of(Network, "network", "networks"),
            pools=plain(Pool, "storage pool", "pools"),
            volumes=Collection(store, "storage volume", "/volumes/", record_codec(VolumeRecord), stamp=here),
            volume_snapshots=plain(VolumeSnapshot, "snapshot of a storage volume", "volume-snapshots"),
            instance_snapshots=plain(InstanceSnapshot, "snapshot of an instance", "instance-snapshots"),
            certificates=plain(Certificate, "certificate", "certificates"),
            intents=Intents(store),
        )
        await records.intents.load()
        for collection in records.collections:
            await collection.load()
        return records


@dataclass(frozen=True, slots=True)
class Drivers:
    """Drivers by name to use instead of those found by their file names; None means those."""

    runtimes: Mapping[str, type[Runtime]] | None = None
    storage: Mapping[str, type[VolumeDriver]] | None = None
    network: Mapping[str, type[NetworkDriver]] | None = None


_FOUND = Drivers()


@dataclass(frozen=True, slots=True)
class Parts:
    """The services doors speak for, and what only the daemon needs."""

    services: Services
    context: Context
    records: Records
    lxcfs: Lxcfs
    follower: Follower

    async def open(self) -> None:
        """From the bottom up: ask what works here, then bring the host to what the records say."""
        services = self.services
        self.follower.begin()
        await asyncio.gather(
            services.runtimes.probe(), services.networks.probe(), services.pools.probe(), services.images.probe()
        )
        await services.pools.open()
        await services.volumes.open()
        await services.projects.open()
        await services.instances.look()
        await services.networks.open()
        self.context.lxcfs = await self.lxcfs.ensure()
        await services.instances.open()
        await services.images.open()
        await services.certificates.open()

    async def close(self) -> None:
        """In reverse; instances and networks run on."""
        await self.services.operations.close()
        await self.services.instances.close()
        await self.services.networks.close()
        self.lxcfs.leave()
        await self.follower.end()
        self.services.events.close()

    async def shutdown(self) -> None:
        """Stop instances, networks and lxcfs too."""
        await self.services.instances.shutdown()
        await self.services.pools.close()
        await self.services.networks.stop_all()
        await self.lxcfs.stop()
        await self.services.host.cgroups.remove(self.services.names.cgroup())


async def build(
    host: Host,
    directory: Path,
    store: Store,
    observer: Observer | None = None,
    drivers: Drivers = _FOUND,
    *,
    names: HostNames | None = None,
) -> Parts:
    """All parts of the daemon of a directory, not yet opened."""
    names = names or HostNames.of_directory(str(directory))
    records = await Records.load(store, host.system.kernel().hostname)
    events = Events(host.clock.now)
    operations = Operations(events, now=host.clock.now, new_id=host.clock.uuid, observer=observer)
    guard = Guard(
        records.projects,
        records.instances,
        records.networks,
        lambda instance, profile: _expanded(records, instance, profile),
        lambda project: [each.size for each in records.volumes if each.project == project],
    )
    # Users of a noun are known one row above it: the lambdas below look up what is built last.
    instances: Instances
    images = ImageLibrary(
        host,
        records.images,
        records.aliases,
        events,
        directory,
        used_by=lambda image: instances.used_by_image(image),  # noqa: PLW0108 - bound later
        operations=operations,
        layers_in_use=lambda: instances.layers(),  # noqa: PLW0108 - bound later
        released=lambda layers: instances.image_deleted(layers),  # noqa: PLW0108 - bound later
        intents=records.intents,
    )
    networks = Networks(
        host,
        records.networks,
        operations,
        events,
        directory,
        names,
        records.intents,
        nics=lambda network: instances.nics(network),  # noqa: PLW0108 - bound later
        used_by=lambda network: instances.used_by_network(network),  # noqa: PLW0108 - bound later
        drivers=drivers.network,
        permit=guard.network,
    )
    pools = Pools(
        host,
        records.pools,
        operations,
        events,
        directory,
        lambda name: [*instances.used_by_pool(name), *volumes.lying_in(name)],
        drivers.storage,
    )
    volumes = Volumes(
        host,
        pools,
        records.volumes,
        records.volume_snapshots,
        operations,
        events,
        lambda ref: instances.used_by_volume(ref),  # noqa: PLW0108 - bound later
    )
    runtimes = Runtimes(host, directory, names, drivers=drivers.runtimes)
    context = Context(
        host=host,
        directory=directory,
        names=names,
        records=records.instances,
        intents=records.intents,
        profiles=records.profiles,
        projects=records.projects,
        permit=guard.instances_as,
        snapshots=records.instance_snapshots,
        permit_snapshot=guard.snapshot,
        images=images,
        networks=networks,
        pools=pools,
        volumes=volumes,
        runtimes=runtimes,
        operations=operations,
        events=events,
        after_end=after_end,
    )
    instances = Instances(context)
    profiles = Profiles(
        records.profiles,
        events,
        check=lambda profile: _check_profile(guard, profile),
        used_by=instances.used_by_profile,
        changed=instances.profile_changed,
    )
    certificates = Certificates(records.certificates, events, host.clock.now, records.projects.__contains__)
    tokens = Tokens(operations, host.clock)
    services = Services(
        directory=directory,
        names=names,
        host=host,
        server=Server(records.server, store.copy),
        identity=Identity(host, directory),
        certificates=certificates,
        tokens=tokens,
        operations=operations,
        events=events,
        instances=instances,
        images=images,
        networks=networks,
        network_verbs=NetworkVerbs(networks, operations),
        pools=pools,
        pool_verbs=PoolVerbs(pools, operations),
        volumes=volumes,
        profiles=profiles,
        projects=_projects(records, events, guard, profiles, _access(certificates, tokens)),
        runtimes=runtimes,
    )
    follower = Follower(store, host.clock, records.collections)
    return Parts(services, context, records, Lxcfs(host, directory), follower)


def _expanded(records: Records, instance: Instance, profile: Profile | None) -> tuple[InstanceConfig, Devices]:
    """With what its profiles add, ``profile`` in place of the one that is recorded."""
    home = (records.projects.find(instance.project) or Project(instance.project)).home(Kind.PROFILE)
    known = [records.profiles.find(Ref(home, name)) for name in instance.profiles]
    given = [profile if profile is not None and found and found.ref == profile.ref else found for found in known]
    return merge([each for each in given if each is not None], instance.config, instance.devices)


def _check_profile(guard: Guard, profile: Profile) -> None:
    validate(profile.config, profile.devices)
    guard.profile(profile)


def _access(certificates: Certificates, tokens: Tokens) -> Access:
    async def change(project: str, instead: str) -> None:
        tokens.project_gone(project)
        await (certificates.project_renamed(project, instead) if instead else certificates.project_deleted(project))

    return change


def _projects(records: Records, events: Events, guard: Guard, profiles: Profiles, access: Access) -> Projects:
    nouns = (records.instances, records.profiles, records.images, records.networks)

    def used_by(name: str) -> list[Entity]:
        found = [each.entity for noun in nouns for each in noun if each.project == name]
        return found + [each.ref.entity for each in records.volumes if each.project == name]

    async def profile(ref: Ref, wanted: bool) -> None:
        there = ref in records.profiles
        if wanted and not there:
            await profiles.create(Profile(ref.name, f"Default profile of project {ref.project}", project=ref.project))
        elif there and not wanted:
            await records.profiles.remove(ref)

    return Projects(records.projects, events, guard, nouns=nouns, used_by=used_by, profile=profile, access=access)
