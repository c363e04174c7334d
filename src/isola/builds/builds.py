"""Builds of images from Dockerfiles, for all doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from posixpath import normpath

from isola.builds.building import Building
from isola.builds.dockerfile.instructions import Arg, Dockerfile
from isola.builds.dockerfile.lines import MAX_FILE as LARGEST_DOCKERFILE
from isola.builds.dockerfile.parsing import parse
from isola.builds.parts import Credential, Job, Parts, Tell, anonymous
from isola.builds.platforms import Platform
from isola.builds.stages import Plan, plan
from isola.builds.state import PROXIES
from isola.errors import InvalidInput, IsolaError, NotFound, TimedOut, TooLarge
from isola.host.cancellation import finish
from isola.host.files import Root
from isola.images.build_limits import BuildLimits
from isola.images.compose import Named
from isola.images.store import Intake
from isola.instances.create import Plan as Draft
from isola.instances.create import check
from isola.instances.expand import root_pool
from isola.model.build import NOTE, BuildEvent, BuildRequest, Told
from isola.model.caller import DAEMON, Caller
from isola.model.ignore import MAX_FILE as LARGEST_IGNORE
from isola.model.ignore import Patterns, read_ignore_file
from isola.model.instance import InstanceRequest
from isola.operations import Operation


@dataclass(frozen=True, slots=True)
class Order:
    """What a build is begun with."""

    request: BuildRequest
    archive: Path
    tell: Tell
    pool: str
    credentials: Credential
    limits: BuildLimits


class Builds:
    """Each is an operation; its result is in the operation's metadata (``fingerprint``)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def open(self) -> None:
        """Remove what builds of an earlier daemon have left: containers, and directories."""
        context = self._parts.context
        for instance in [each for each in context.records if NOTE in each.notes]:
            try:
                await context.operations.finish(self._parts.instances.delete(instance.ref, force=True))
            except IsolaError as error:
                context.tell("build-left", instance.ref, error=str(error))
        # Only root may pass: programs of RUN make files of root's there, with set-user-id bits if they like.
        await context.host.files.make_directory(self._parts.directory, mode=0o700)
        for name in await context.host.files.names(self._parts.directory):
            if name != "cache":
                await context.host.files.remove_tree(self._parts.directory / name)

    async def receive(self, blocks: AsyncIterator[bytes]) -> Path:
        """Write a context to a file, which ``start`` takes over. Raises TooLarge; leaves no file then."""
        host, limit = self._parts.context.host, self._parts.limits().context
        path = self._parts.directory / f"incoming-{host.clock.token(8)}"
        try:
            await host.files.write(path, b"", durable=False)
            size, pending = 0, bytearray()
            async for block in blocks:
                pending += block
                if size + len(pending) > limit:
                    raise TooLarge(f"The build context has more than {limit} bytes", field="context")
                if len(pending) >= 1 << 20:
                    await host.files.extend(path, bytes(pending), at=size)
                    size += len(pending)
                    pending.clear()
            await host.files.extend(path, bytes(pending), at=size)
        except BaseException:
            await finish(host.files.remove_tree(path))
            raise
        return path

    async def discard(self, archive: Path) -> None:
        """Remove a received context that no build takes."""
        await self._parts.context.host.files.remove_tree(archive)

    def start(
        self,
        request: BuildRequest,
        archive: Path,
        tell: Tell,
        *,
        credentials: Credential = anonymous,
        caller: Caller = DAEMON,
    ) -> Operation:
        """Build; the archive is removed at the end. ``tell`` is called for everything that happens.

        Raises InvalidInput, NotFound, Forbidden before anything is begun; the archive is left then.
        """
        limits, trial = self._parts.limits(), self._trial(request)
        request = replace(request, config=limits.applied(request.config, trial.config))
        order = Order(request, archive, tell, root_pool(trial.devices), credentials, limits)

        async def work(op: Operation) -> None:
            try:
                async with asyncio.timeout(limits.seconds):
                    await self._build(op, order)
            except TimeoutError as error:
                raise TimedOut(
                    f"The build took more than {limits.seconds} seconds", remedy="builds.limits.time is the limit"
                ) from error

        operations = self._parts.context.operations
        return operations.start("Building image", work, project=request.project, caller=caller, wait=False)

    async def prune(self, *, most: int = 0, before: datetime | None = None) -> tuple[list[str], int]:
        """Drop kept results until ``most`` bytes are left; and with 0 the directories of caches too."""
        dropped, freed = await self._parts.cache.prune(most=most, before=before)
        await self._parts.context.images.collect_garbage()
        files, place = self._parts.context.host.files, self._parts.directory / "cache"
        if not most and before is None:
            for name in await files.names(place):
                if (lock := self._parts.locks.get(name)) is None or not lock.locked():
                    freed += await files.disk_usage(place / name)
                    await files.remove_tree(place / name)
        return dropped, freed

    def reply(self, token: str, message: bytes) -> None:
        """What an agent of the client says to a program. Raises NotFound, InvalidInput."""
        self._parts.agents.reply(token, message)

    @property
    def cache_size(self) -> int:
        """Bytes of kept layers."""
        return self._parts.cache.size()

    def _trial(self, request: BuildRequest) -> Draft:
        made = InstanceRequest(profiles=("default",), project=request.project, config=dict(request.config))
        return check(self._parts.context, made)

    async def _build(self, op: Operation, order: Order) -> None:
        context, request, archive = self._parts.context, order.request, order.archive
        place = self._parts.directory / f"build-{context.host.clock.token(8)}"
        buildings: list[Building] = []

        async def make(intake: Intake) -> list[Named]:
            await context.host.files.make_directory(place / "context", mode=0o755)
            limits = context.images.limits
            most = order.limits
            limits = replace(limits, bytes=min(most.context, limits.bytes), entries=min(most.entries, limits.entries))
            with op.step("Unpack context"):
                await context.host.archives.unpack(archive, place / "context", limits=limits)
            planned = await self._plan(order, place / "context")
            job = Job(self._parts, op, request, planned, place, intake, order.tell, order.pool, order.credentials, most)
            buildings.append(Building(job))
            with op.step("Build"):
                return await buildings[0].run()

        try:
            await context.images.add(op, make)
        finally:
            await finish(self._cleaned(place, archive, buildings))

    async def _cleaned(self, place: Path, archive: Path, buildings: list[Building]) -> None:
        context = self._parts.context
        await asyncio.gather(context.host.files.remove_tree(place), context.host.files.remove_tree(archive))
        for building in buildings:
            await context.layers.drop_unused(building.release())
        await self._parts.cache.prune(most=self._parts.limits().cache)
        await context.images.collect_garbage()

    async def _plan(self, order: Order, files: Path) -> Plan:
        context, request, tell = self._parts.context, order.request, order.tell
        async with context.host.files.root(files) as root:
            path = "/" + normpath(f"/{request.dockerfile}").lstrip("/")
            dockerfile = await self._dockerfile(root, path)
            _count(dockerfile, order.limits.instructions)
            await self._without_ignored(root, path)
        host = Platform.of_kernel(context.host.system.kernel().architecture)
        wanted = Platform.parse(request.platform) if request.platform else host
        made = plan(dockerfile, given=request.arguments, target=request.target, host=host, platform=wanted)
        for name in sorted(set(request.arguments) - _declared(dockerfile)):
            tell(BuildEvent(Told.WARNING, 0, f"[Warning] One or more build-args [{name[:80]}] were not consumed"))
        return made

    async def _dockerfile(self, root: Root, path: str) -> Dockerfile:
        try:
            data = await _read(root, path, LARGEST_DOCKERFILE)
        except NotFound as error:
            raise InvalidInput(
                f"Cannot locate specified Dockerfile: {path.lstrip('/')[:200]}", field="dockerfile"
            ) from error
        return await asyncio.to_thread(parse, data)

    async def _without_ignored(self, root: Root, dockerfile: str) -> None:
        """Clients send both files even if they are ignored; COPY does not see them then."""
        found = [
            (path, await _optional(root, path, LARGEST_IGNORE))
            for path in (f"{dockerfile}.dockerignore", "/.dockerignore")
        ]
        name, data = next(((path, data) for path, data in found if data is not None), ("", None))
        if data is None:
            return
        patterns: Patterns = read_ignore_file(data)
        for path in (dockerfile, name):
            if patterns.excludes(path.lstrip("/")):
                await root.remove(path)


def _count(dockerfile: Dockerfile, most: int) -> None:
    """Raises TooLarge."""
    if len(dockerfile.arguments) + sum(1 + len(each.instructions) for each in dockerfile.stages) > most:
        raise TooLarge(f"The Dockerfile has more than {most} instructions", field="dockerfile")


def _declared(dockerfile: Dockerfile) -> set[str]:
    found = {name for argument in dockerfile.arguments for name, _ in argument.pairs}
    for stage in dockerfile.stages:
        found |= {name for each in stage.instructions if isinstance(each, Arg) for name, _ in each.pairs}
    return found | PROXIES | {"SOURCE_DATE_EPOCH"}


async def _read(root: Root, path: str, limit: int) -> bytes:
    data = bytearray()
    async for block in await root.read(path):
        data += block
        if len(data) > limit:
            raise TooLarge(f"{path[:200]} has more than {limit} bytes", field="dockerfile")
    return bytes(data)


async def _optional(root: Root, path: str, limit: int) -> bytes | None:
    try:
        return await _read(root, path, limit)
    except NotFound:
        return None
