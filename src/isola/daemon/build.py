"""Builds and connects all parts of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isola.builds import Agents, Builds, Cache
from isola.builds import Parts as BuildParts
from isola.certificates import Certificates, Identity, LoginTokens, Tokens, TrustPassword
from isola.daemon.records import Records
from isola.daemon.warn import warn_of_networks, warn_of_pools
from isola.doors import Services
from isola.events import Events
from isola.host import Host
from isola.images import ImageLibrary
from isola.images.build_limits import BuildLimits
from isola.images.repositories import Repositories
from isola.instances import Instances
from isola.instances.after_end import after_end
from isola.instances.background_repair import repair_in_background
from isola.instances.context import Context
from isola.instances.disk_growth import disk_grown
from isola.instances.expand import merge, validate
from isola.instances.layers import Layers
from isola.instances.nics import Nics
from isola.instances.unknowns import Unknowns
from isola.model.build import BUILDS
from isola.model.caller import Caller
from isola.model.identity import HostNames
from isola.model.instance import Config as InstanceConfig
from isola.model.instance import Devices, Instance
from isola.model.profile import Profile
from isola.model.reference import Kind, Ref
from isola.model.units import parse_size
from isola.network import NetworkDriver, Networks, NetworkVerbs
from isola.operations import Observer, Operations
from isola.profiles import Profiles
from isola.projects import Guard, Projects
from isola.runtimes import Runtime, Runtimes
from isola.runtimes.lxcfs import Lxcfs
from isola.server import PRIVILEGED, TRUST_PASSWORD, UPLOAD_LIMIT, Server
from isola.settings import boolean
from isola.state import Store
from isola.state.follow import Follower
from isola.storage import Pools, PoolVerbs, VolumeDriver, Volumes
from isola.warnings import Warnings

Access = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Drivers:
    """Drivers by name, for tests; None: those found by their file names."""

    runtimes: Mapping[str, type[Runtime]] | None = None
    storage: Mapping[str, type[VolumeDriver]] | None = None
    network: Mapping[str, type[NetworkDriver]] | None = None


_FOUND = Drivers()


@dataclass(frozen=True, slots=True)
class Parts:
    """The services that doors use, and parts that only the daemon needs."""

    services: Services
    context: Context
    records: Records
    lxcfs: Lxcfs
    follower: Follower

    async def open(self) -> None:
        """Open the parts from the bottom up: probe the host, then reconcile it with the records."""
        services = self.services
        self.follower.begin()
        await asyncio.gather(
            services.runtimes.probe(), services.networks.probe(), services.pools.probe(), services.images.probe()
        )
        await services.runtimes.open()
        await services.pools.open()
        warn_of_pools(services.pools, services.warnings)
        await services.volumes.open()
        await services.projects.open()
        await services.instances.look()
        await services.networks.open()
        warn_of_networks(services.networks, services.warnings)
        self.context.lxcfs = await self.lxcfs.ensure()
        await services.instances.open()
        await services.images.open()
        await services.builds.open()
        await services.repositories.open()
        await services.certificates.open()

    async def close(self) -> None:
        """Close the parts in reverse order; instances and networks keep running."""
        await self.services.operations.close()
        await self.services.repositories.close()
        await self.services.instances.close()
        await self.services.runtimes.close()
        await self.services.networks.close()
        await self.services.host.http.close()
        self.lxcfs.leave()
        await self.follower.end()
        self.services.warnings.close()
        self.services.events.close()

    async def shutdown(self) -> None:
        """Stop instances, networks and lxcfs too."""
        await self.services.instances.shutdown()
        await self.services.pools.close()
        await self.services.networks.stop_all()
        await self.lxcfs.stop()
        await self.services.runtimes.close()
        await self.services.host.cgroups.remove(self.services.names.cgroup())


@dataclass(frozen=True, slots=True)
class _Ground:
    """The parts that all others use."""

    host: Host
    directory: Path
    names: HostNames
    store: Store
    records: Records
    events: Events
    operations: Operations
    guard: Guard
    drivers: Drivers
    warnings: Warnings


@dataclass(frozen=True, slots=True)
class _Stock:
    """The resources that instances use, and the indexes of who uses them."""

    pools: Pools
    volumes: Volumes
    networks: Networks
    images: ImageLibrary
    runtimes: Runtimes
    unknown: Unknowns
    layers: Layers
    nics: Nics


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
        partial(_expanded, records),
        records.volumes,
        records.images,
        records.repository_blobs,
        privileged=partial(_privileged, records),
        furnished={},
    )
    warnings = Warnings(records.warnings, events, host.clock)
    ground = _Ground(host, directory, names, store, records, events, operations, guard, drivers, warnings)
    stock = _stock(ground)
    context = _context(ground, stock)
    stock.volumes.grown = partial(disk_grown, context)
    services = _services(ground, stock, context, Instances(context))
    follower = Follower(store, host.clock, records.collections)
    return Parts(services, context, records, Lxcfs(host, directory), follower)


def _stock(ground: _Ground) -> _Stock:
    host, directory, names, records = ground.host, ground.directory, ground.names, ground.records
    operations, events, references = ground.operations, ground.events, records.references
    unknown = Unknowns(references, records.home)
    nics = Nics(references, records.instances, unknown, records.home, names)
    pools = Pools(host, records.pools, operations, events, directory, references, ground.drivers.storage)
    layers = Layers(pools, references, unknown)
    volumes = Volumes(
        host,
        pools,
        records.volumes,
        records.volume_snapshots,
        operations,
        events,
        references,
        ground.guard.volume,
        ground.guard.snapshot,
    )
    networks = Networks(
        host,
        records.networks,
        operations,
        events,
        directory,
        names,
        records.intents,
        nics=nics.on,
        references=references,
        drivers=ground.drivers.network,
        permit=ground.guard.network,
    )
    images = ImageLibrary(
        host,
        records.images,
        records.aliases,
        events,
        directory,
        references=references,
        operations=operations,
        released=layers.drop_unused,
        intents=records.intents,
        permit=ground.guard.image,
        config=lambda: records.server.find("config") or {},
    )
    runtimes = Runtimes(host, directory, names, drivers=ground.drivers.runtimes)
    return _Stock(pools, volumes, networks, images, runtimes, unknown, layers, nics)


def _context(ground: _Ground, stock: _Stock) -> Context:
    records = ground.records
    return Context(
        host=ground.host,
        directory=ground.directory,
        names=ground.names,
        records=records.instances,
        intents=records.intents,
        profiles=records.profiles,
        projects=records.projects,
        references=records.references,
        home=records.home,
        unknown=stock.unknown,
        layers=stock.layers,
        nics=stock.nics,
        saved=stock.nics.saved,
        permit=ground.guard.instances_as,
        disk_paths=ground.guard.disk_paths,
        block_devices=ground.guard.block_devices,
        permit_host_path=ground.guard.host_path,
        furnished=ground.guard.furnished,
        snapshots=records.instance_snapshots,
        permit_snapshot=ground.guard.snapshot,
        images=stock.images,
        networks=stock.networks,
        pools=stock.pools,
        volumes=stock.volumes,
        runtimes=stock.runtimes,
        operations=ground.operations,
        events=ground.events,
        warnings=ground.warnings,
        after_end=after_end,
        repair_in_background=repair_in_background,
    )


def _builds(ground: _Ground, context: Context, instances: Instances) -> Builds:
    store = context.images.store

    def limits() -> BuildLimits:
        return BuildLimits.of(ground.records.server.find("config") or {})

    cache = Cache(ground.records.build_results, store.has, store.mark_removable, context.layers.drop_unused)
    return Builds(
        BuildParts(
            context, instances, cache, ground.directory / BUILDS, limits, Agents(lambda: ground.host.clock.token(16))
        )
    )


def _services(ground: _Ground, stock: _Stock, context: Context, instances: Instances) -> Services:
    host, records, events, operations = ground.host, ground.records, ground.events, ground.operations
    certificates = Certificates(records.certificates, events, host.clock.now, records.projects.__contains__)
    tokens = Tokens(operations, host.clock)
    login_tokens = LoginTokens(records.login_tokens, events, host.clock, records.projects.__contains__)
    server = Server(records.server, ground.store.copy, lambda: host.clock.token(16))
    profiles = Profiles(
        records.profiles,
        events,
        check=partial(_check_profile, ground.guard),
        references=records.references,
        changed=instances.profile_changed,
    )
    return Services(
        directory=ground.directory,
        names=ground.names,
        host=host,
        server=server,
        identity=Identity(host, ground.directory),
        certificates=certificates,
        tokens=tokens,
        login_tokens=login_tokens,
        trust_password=TrustPassword(lambda: server.config.get(TRUST_PASSWORD, ""), tokens.attempts, host.clock),
        operations=operations,
        events=events,
        instances=instances,
        images=stock.images,
        repositories=_repositories(ground, stock.images, server),
        networks=stock.networks,
        network_verbs=NetworkVerbs(stock.networks, operations),
        pools=stock.pools,
        pool_verbs=PoolVerbs(stock.pools, operations),
        volumes=stock.volumes,
        profiles=profiles,
        projects=_projects(ground, profiles, _access(certificates, tokens, login_tokens)),
        runtimes=stock.runtimes,
        warnings=ground.warnings,
        builds=_builds(ground, context, instances),
    )


def _repositories(ground: _Ground, images: ImageLibrary, server: Server) -> Repositories:
    return Repositories(
        host=ground.host,
        directory=ground.directory,
        records=ground.records.of_repositories,
        library=images,
        intents=ground.records.intents,
        events=ground.events,
        upload_limit=lambda: parse_size(server.setting(UPLOAD_LIMIT)),
        permit=ground.guard.blob,
    )


def _expanded(records: Records, instance: Instance, profile: Profile | None) -> tuple[InstanceConfig, Devices]:
    """Configuration and devices including profiles, with ``profile`` in place of its record."""
    home = records.home(instance.project, Kind.PROFILE)
    known = [records.profiles.find(Ref(home, name)) for name in instance.profiles]
    given = [profile if profile is not None and found and found.ref == profile.ref else found for found in known]
    return merge([each for each in given if each is not None], instance.config, instance.devices)


def _privileged(records: Records) -> bool:
    return boolean((records.server.find("config") or {}).get(PRIVILEGED) or "false")


def _check_profile(guard: Guard, profile: Profile) -> None:
    validate(profile.config, profile.devices)
    guard.profile(profile)


def _access(certificates: Certificates, tokens: Tokens, login_tokens: LoginTokens) -> Access:
    async def change(project: str, instead: str) -> None:
        tokens.project_gone(project)
        await login_tokens.project_gone(project, instead)
        await (certificates.project_renamed(project, instead) if instead else certificates.project_deleted(project))

    return change


def _projects(ground: _Ground, profiles: Profiles, access: Access) -> Projects:
    records = ground.records

    async def profile(ref: Ref, wanted: bool, caller: Caller) -> None:
        there = ref in records.profiles
        if wanted and there:
            await records.profiles.refer_anew(ref)
        elif wanted:
            made = Profile(ref.name, f"Default profile of project {ref.project}", project=ref.project)
            await profiles.create(made, caller=caller)
        elif there:
            await records.profiles.remove(ref)

    return Projects(
        records.projects,
        ground.events,
        ground.guard,
        nouns=(
            records.instances,
            records.profiles,
            records.images,
            records.networks,
            records.volumes,
            records.repositories,
        ),
        references=records.references,
        profile=profile,
        access=access,
    )
