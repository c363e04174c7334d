"""Storage pools: records, and the drivers that implement them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from isola import registry
from isola.errors import AlreadyExists, DriverUnavailable, HostFailure, InUse, InvalidInput, IsolaError, NotFound
from isola.events import Events
from isola.host import Host
from isola.host.probing import probed
from isola.model.caller import DAEMON, Caller
from isola.model.names import plain_name
from isola.model.probe import Probe
from isola.model.reference import Entity, Kind
from isola.model.references import users_text
from isola.model.storage import Pool, Space
from isola.operations import Operation, Operations
from isola.state import Collection, Described, References, record_codec
from isola.storage.driver import VolumeDriver
from isola.storage.foreign import refuse_foreign

_KIND = "storage"
log = logging.getLogger(__name__)


class Pools:
    """All pools of a daemon, sorted by name. A record that is not ``ready`` is being created or deleted."""

    def __init__(  # noqa: PLR0917 - one for each part that it uses
        self,
        host: Host,
        records: Collection[Pool],
        operations: Operations,
        events: Events,
        directory: Path,
        references: References | None = None,
        drivers: Mapping[str, type[VolumeDriver]] | None = None,
    ) -> None:
        self.probes: dict[str, Probe] = {}
        """Driver name -> result of its probe."""
        self._host = host
        self._records = records
        self._operations = operations
        self._events = events
        self._directory = directory / "pools"
        self._trials = directory / "trials"
        self._references = references or References()
        self._kinds = drivers
        self._drivers: dict[str, VolumeDriver] = {}
        self.closed: dict[str, IsolaError] = {}
        """Errors of pools that could not be opened; nothing in those is accessed."""
        self._opening: set[asyncio.Task[None]] = set()
        """Tasks that open pools created by another process."""
        records.on_change = self._follow
        self._described = Described(host.files, directory / "described" / "pools", record_codec(Pool))

    async def probe(self) -> None:
        """Probe all drivers."""
        await self._clear_trials()  # a daemon that was killed during a probe leaves mounts in it
        for name in self._kinds or registry.names(_KIND):
            self.probes[name] = await probed(name, self._kind(name).probe(self._host, self._trials))
        await self._clear_trials()

    async def _clear_trials(self) -> None:
        try:
            for mount in await self._host.mounts.below(self._trials):
                await self._host.mounts.unmount(mount)
            await self._host.files.remove_tree(self._trials)
        except IsolaError as error:
            log.warning("Cannot remove files of earlier probes in %s: %s", self._trials, error)

    async def open(self) -> None:
        """At daemon start: clean up after a crash, and remove pools that are only partly created or deleted."""
        await self._described.load()
        for pool in self:
            try:
                await self._open(pool)
            except IsolaError as error:
                log.warning("Storage pool %s: %s", pool.name, error)

    async def _open(self, pool: Pool) -> None:
        self._drivers[pool.name] = driver = self._build(pool)
        if not pool.ready:
            await self._finish_deleting(pool)
            return
        try:
            await driver.open()
        except IsolaError as error:
            self.closed[pool.name] = error
            raise
        await driver.clean()
        await self._keep_described(pool)

    def _follow(self, name: str) -> None:
        """Follow changes of pools by other processes; changes by this one are known already."""
        pool = self._records.find(name)
        if pool is None:
            self._drivers.pop(name, None)
            self.closed.pop(name, None)
        elif name in self._drivers:
            self._drivers[name].pool = pool
        elif pool.ready:
            task = asyncio.get_running_loop().create_task(self._open_new(name), name=f"open storage pool {name}")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_new(self, name: str) -> None:
        pool = self._records.find(name)
        if pool is None or name in self._drivers:
            return
        driver = self._build(pool)
        try:
            await driver.open()
        except IsolaError as error:
            self.closed[name] = error
            log.warning("Storage pool %s: %s", name, error)
        self._drivers.setdefault(name, driver)

    async def close(self) -> None:
        """Before the host shuts down, after instances have stopped."""
        for name, driver in self._drivers.items():
            try:
                await driver.close()
            except IsolaError as error:
                log.warning("Storage pool %s: %s", name, error)

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._records)

    def get(self, name: str) -> Pool:
        """The record. Raises NotFound."""
        return self._records.get(name)

    def revision(self, name: str) -> int:
        """Changes with every write of the record."""
        return self._records.revision(name)

    def used_by(self, name: str) -> Sequence[Entity]:
        """Resources that are in a pool or name it."""
        return self._references.users(Entity.of_host(Kind.STORAGE_POOL, name))

    def driver(self, name: str) -> VolumeDriver:
        """The driver of a pool. Raises NotFound."""
        self.get(name)
        if name not in self._drivers:
            raise NotFound(f"The driver of storage pool {name!r} is not part of this installation")
        if (error := self.closed.get(name)) is not None:
            raise HostFailure(f"Storage pool {name!r} is not available", evidence=str(error), remedy=error.remedy)
        return self._drivers[name]

    async def create(self, op: Operation, pool: Pool) -> None:
        """Raises InvalidInput, AlreadyExists, DriverUnavailable."""
        plain_name(pool.name)
        if self._records.find(pool.name) is not None:
            raise AlreadyExists(f"Storage pool {pool.name!r} already exists", field="name")
        self._require(pool.driver)
        self._kind(pool.driver).settings.validate(pool.config)
        pool = replace(pool, config=dict(await self._build(pool).complete(pool.config)))
        driver = self._build(pool)
        self._refuse_own_source(pool)
        await self._refuse_used_place(pool)
        await driver.check_place()  # before the record, which marks all content of the directory as ours

        async def record() -> None:
            await self._records.add(pool.name, replace(pool, ready=False))

        async def finish() -> None:
            await self._records.change(pool.name, lambda made: replace(made, ready=True))
            self._drivers[pool.name] = driver

        with op.step(f"Create storage pool {pool.name}"):
            await op.effect(f"record pool {pool.name}", record, undo=lambda: self._records.remove(pool.name))
            await driver.create_pool(op)
            made = replace(pool, ready=True)
            await op.effect(
                f"describe pool {pool.name}",
                lambda: self._described.write(pool.name, made),
                undo=lambda: self._described.remove(pool.name),
            )
            await op.commit(finish)
        self._tell("created", pool.name, op.caller)

    async def update(self, name: str, decide: Callable[[Pool], Pool], *, caller: Caller = DAEMON) -> None:
        """Change description and configuration. Raises InvalidInput for keys that cannot be changed."""
        driver = self.driver(name)

        def checked(pool: Pool) -> Pool:
            wanted = decide(pool)
            driver.settings.validate(wanted.config)
            if wanted.config.get("source", "") != pool.config.get("source", ""):
                raise InvalidInput("The source of a storage pool cannot be changed", field="config.source")
            return replace(pool, description=wanted.description, config=dict(wanted.config))

        await driver.update_pool(checked(self.get(name)).config)
        driver.pool = (await self._records.change(name, checked)).value
        await self._keep_described(driver.pool)
        self._tell("updated", name, caller)

    async def delete(self, op: Operation, name: str) -> None:
        """Remove a pool and all its layers. Raises InUse naming users, or files that the daemon has not created."""
        driver = self.driver(name)
        self._refuse_if_used(name)
        refuse_foreign(name, await driver.foreign())
        with op.step(f"Delete storage pool {name}"):
            # After this commit it can only be completed, by this operation or the next daemon.
            await op.commit(lambda: self._records.change(name, self._doomed))
            await driver.delete_pool(op)
            await self._described.remove(name)
            await self._records.remove(name)
        self._drivers.pop(name, None)
        self._tell("deleted", name, op.caller)

    def _doomed(self, pool: Pool) -> Pool:
        self._refuse_if_used(pool.name)
        return replace(pool, ready=False)

    def _refuse_if_used(self, name: str) -> None:
        if users := self.used_by(name):
            raise InUse(
                f"Storage pool {name!r} is in use",
                evidence=f"by {users_text(users)}",
                remedy="delete or move these first",
            )

    async def unknown(self) -> Mapping[str, Pool | None]:
        """Pools on the host without a record, each with its description, or None if that is missing."""
        described = await self._described.load()
        names = {*await self._host.files.names(self._directory), *described} - {pool.name for pool in self}
        return {name: described.get(name) for name in sorted(names)}

    async def adopt(self, op: Operation, name: str) -> None:
        """Restore the record of a pool without changing its content. Raises NotFound, InvalidInput."""
        unknown = await self.unknown()
        if name not in unknown:
            raise NotFound(f"There is no unknown storage pool {name[:80]!r}")
        pool = unknown[name]
        if pool is None or pool.name != name:
            raise InvalidInput(f"Storage pool {name!r} has no readable description", field="id")
        self._require(pool.driver)
        driver = self._build(pool)
        await driver.open()
        await op.commit(lambda: self._records.add(name, replace(pool, ready=True)))
        self._drivers[name] = driver
        self._tell("created", name, op.caller)

    async def space(self, name: str) -> Space:
        """Size and use of a pool."""
        return await self.driver(name).space()

    def _build(self, pool: Pool) -> VolumeDriver:
        return self._kind(pool.driver)(self._host, pool, self._directory / pool.name)

    def _kind(self, name: str) -> type[VolumeDriver]:
        if self._kinds is not None and name in self._kinds:
            return self._kinds[name]
        kind: type[VolumeDriver] = registry.load(_KIND, name)
        return kind

    def _require(self, name: str) -> None:
        try:
            self._kind(name)
        except NotFound as error:
            raise InvalidInput(error.message, remedy=error.remedy, field="driver") from error
        probe = self.probes.get(name)
        if probe is not None and not probe.available:
            raise DriverUnavailable(
                f"The storage driver {name!r} does not work on this host", evidence=probe.reason, remedy=probe.remedy
            )

    def _refuse_own_source(self, pool: Pool) -> None:
        source = pool.config.get("source")
        if not source:
            return
        place = Path(source)
        if place.is_relative_to(self._directory.parent) or self._directory.is_relative_to(place):
            raise InvalidInput(
                f"{source} is Isola's own directory", field="config.source", remedy="name a directory elsewhere"
            )

    async def _refuse_used_place(self, pool: Pool) -> None:
        place = self._directory / pool.name
        if await self._host.files.names(place):
            raise AlreadyExists(
                f"{place} contains an earlier storage pool",
                field="name",
                remedy="adopt it, move it away, or choose another name",
            )

    async def _keep_described(self, pool: Pool) -> None:
        try:
            await self._described.write(pool.name, pool)
        except IsolaError as error:
            log.warning("Cannot update the description of storage pool %s: %s", pool.name, error)

    async def _finish_deleting(self, pool: Pool) -> None:
        refuse_foreign(pool.name, await self._drivers[pool.name].foreign())
        driver = self._drivers.pop(pool.name)

        async def work(op: Operation) -> None:
            await driver.delete_pool(op)
            await self._described.remove(pool.name)
            await self._records.remove(pool.name)

        description = f"Removing incomplete storage pool {pool.name}"
        await self._operations.finish(self._operations.start(description, work))

    def _tell(self, what: str, name: str, caller: Caller) -> None:
        self._events.lifecycle(f"storage-pool-{what}", Entity.of_host(Kind.STORAGE_POOL, name), caller=caller)
