"""Builds of images, for all doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from isola import registry
from isola.builds.arguments import CHECKS, OPTIONS, with_hostname
from isola.builds.builder import Builder
from isola.builds.building import Building
from isola.builds.cache_exports import DeliverCache, export
from isola.builds.cache_options import with_inline_cache
from isola.builds.contexts import Sources, fetch, remote_of
from isola.builds.dockerfile.checks import Report
from isola.builds.dockerfile.checks import check as check_file
from isola.builds.dockerfile.instructions import Arg, Dockerfile
from isola.builds.dockerfile.parsing import parse
from isola.builds.exporting import Deliver, Export
from isola.builds.named_contexts import named_contexts
from isola.builds.parts import CONTEXT, Credential, Job, Parts, Result, Tell, anonymous
from isola.builds.platforms import Platform
from isola.builds.repositories import Repositories, limits_within
from isola.builds.stages import Plan, plan
from isola.builds.state import PROXIES
from isola.builds.trees import take_apart
from isola.errors import DriverUnavailable, IsolaError, NotFound, TimedOut, TooLarge, Unsupported
from isola.host.cancellation import finish
from isola.host.probing import probed
from isola.images.build_limits import BuildLimits
from isola.images.compose import Named
from isola.images.store import Intake
from isola.instances.create import Plan as Draft
from isola.instances.create import check
from isola.instances.expand import root_pool
from isola.model.build import NOTE, BuildEvent, BuildEventKind, BuildRequest, BuildResult, Output
from isola.model.caller import DAEMON, Caller
from isola.model.instance import InstanceRequest
from isola.model.probe import Probe
from isola.model.reference import Kind
from isola.operations import Operation

_RECEIVED = "received"
KIND = "builds"
"""Of the drivers of builders in the registry."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a build is begun with."""

    request: BuildRequest
    place: Path
    """Of the files of this build; the context is in ``CONTEXT`` there, unless it is fetched."""
    tell: Tell
    pool: str
    credentials: Credential
    limits: BuildLimits
    builder: Builder
    deliver: Deliver | None
    deliver_cache: DeliverCache | None
    interleaved: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A builder, as it is listed."""

    name: str
    kind: type[Builder]
    probe: Probe


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

    async def receive(
        self, blocks: AsyncIterator[bytes], directories: tuple[str, ...] = (), *, remote: bool = False
    ) -> Path:
        """Unpack a context while it arrives, in a directory that ``start`` takes over.

        With ``directories`` (``directories_of``) the archive has them, and the context in ``context`` unless that is
        ``remote``. Raises TooLarge, InvalidInput, UnsafeArchive; leaves nothing then.
        """
        host, most = self._parts.context.host, self._parts.limits()
        limits = limits_within(self._parts.context.images.limits, most.context, most.entries)
        place = self._new_place()
        try:
            target = place / (_RECEIVED if directories else CONTEXT)
            await host.files.make_directory(target, mode=0o755)
            await host.archives.unpack_stream(_at_most(blocks, most.context), target, limits=limits)
            if directories:
                await take_apart(host, target, place, directories if remote else (CONTEXT, *directories))
        except BaseException:
            await finish(host.files.remove_tree(place))
            raise
        return place

    async def discard(self, place: Path) -> None:
        """Remove a received context that no build takes."""
        await self._parts.context.host.files.remove_tree(place)

    def start(
        self,
        request: BuildRequest,
        place: Path | None,
        tell: Tell,
        *,
        credentials: Credential = anonymous,
        caller: Caller = DAEMON,
        deliver: Deliver | None = None,
        deliver_cache: DeliverCache | None = None,
        interleaved: bool = False,
    ) -> Operation:
        """Build in what ``receive`` has returned, which is removed at the end. ``tell`` is called for all that happens.

        A context that ``request.remote`` names is fetched; ``place`` has then at most the other directories.
        ``deliver`` takes a result that is no image of the project, or one beside that image; ``deliver_cache`` caches
        for the client. ``interleaved``: events of stages that are built side by side are mixed.

        Raises InvalidInput, NotFound, Forbidden before anything is begun; the context is left then.
        """
        request = with_inline_cache(with_hostname(request))
        limits, trial = self._parts.limits(), self._trial(request)
        builder = self._builder(request.builder)
        builder.check(request)
        named_contexts(request.contexts)
        if request.remote:
            remote_of(request.remote)
        place = place or self._new_place()
        request = replace(request, config=limits.applied(request.config, trial.config))
        pool = root_pool(trial.devices)
        order = Order(request, place, tell, pool, credentials, limits, builder, deliver, deliver_cache, interleaved)

        async def work(op: Operation) -> None:
            try:
                async with asyncio.timeout(limits.seconds):
                    await self._build(op, order)
            except TimeoutError as error:
                raise TimedOut(
                    f"The build took more than {limits.seconds} seconds", remedy="raise builds.limits.time"
                ) from error

        operations = self._parts.context.operations
        return operations.start("Building image", work, project=request.project, caller=caller, wait=False)

    async def prune(
        self, *, most: int = 0, before: datetime | None = None, only: Collection[str] | None = None
    ) -> tuple[list[str], int]:
        """Drop kept results until ``most`` bytes are left; and with 0 the directories of caches too.

        ``only``: keys of results and names of directories.
        """
        dropped, freed = await self._parts.cache.prune(most=most, before=before, only=only)
        await self._parts.context.images.collect_garbage()
        files, place = self._parts.context.host.files, self._parts.directory / "cache"
        if not most and before is None:
            for name in await files.names(place):
                if not self.is_in_use(name) and (only is None or name in only):
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

    @property
    def most_kept(self) -> int:
        """Bytes of kept layers beyond which the oldest are dropped."""
        return self._parts.limits().cache

    def kept(self) -> list[BuildResult]:
        """Results of instructions, of all projects."""
        return self._parts.cache.all()

    async def kept_directories(self) -> list[tuple[str, int]]:
        """Names and sizes of what ``RUN --mount=type=cache`` keeps."""
        files, place = self._parts.context.host.files, self._parts.directory / "cache"
        return [(name, await files.disk_usage(place / name)) for name in sorted(await files.names(place))]

    def is_in_use(self, directory: str) -> bool:
        """Whether a program of a build has one of those directories."""
        return (lock := self._parts.locks.get(directory)) is not None and lock.locked()

    @property
    def cached_since(self) -> datetime | None:
        """When the oldest kept result was made."""
        return self._parts.cache.since()

    async def builders(self) -> list[Known]:
        """All of them, with what they need."""
        host = self._parts.context.host
        kinds: dict[str, type[Builder]] = {name: registry.load(KIND, name) for name in registry.names(KIND)}
        return [Known(name, kind, await probed(name, kind.probe(host))) for name, kind in kinds.items()]

    def _new_place(self) -> Path:
        return self._parts.directory / f"build-{self._parts.context.host.clock.token(8)}"

    def _builder(self, name: str) -> Builder:
        try:
            kind: type[Builder] = registry.load(KIND, name)
        except NotFound as error:
            raise NotFound(f"There is no builder {name[:80]!r}", field="builder", remedy=error.remedy) from error
        return kind(self._parts.context.host)

    def _trial(self, request: BuildRequest) -> Draft:
        made = InstanceRequest(profiles=("default",), project=request.project, config=dict(request.config))
        return check(self._parts.context, made)

    async def _build(self, op: Operation, order: Order) -> None:
        context, request, place, most = self._parts.context, order.request, order.place, order.limits
        buildings: list[Building] = []

        async def make(intake: Intake) -> list[Named]:
            await self._require(order)
            limits = limits_within(context.images.limits, most.context, most.entries)

            # Two: what is fetched as the context becomes its directory, and an ADD of the same would miss it.
            def repositories() -> Repositories:
                return Repositories(context.host, place, limits, request.secrets)

            wanted = request
            if request.remote:
                with op.step("Fetch context"):
                    await context.host.files.make_directory(place, mode=0o755)
                    wanted = await fetch(request, place / CONTEXT, Sources(repositories(), limits, order.tell))
            planned = await self._plan(replace(order, request=wanted), place / CONTEXT)
            if request.output is Output.CHECK:
                return []
            job = Job(
                self._parts, op, wanted, planned, place, intake, order.tell, order.pool, order.credentials, most,
                repositories(),
            )  # fmt: skip
            buildings.append(Building(job, interleaved=order.interleaved))
            with op.step("Build"):
                result = await buildings[0].run()
            return await _made(order, buildings[0], job, result)

        try:
            await context.images.add(op, make, project=context.home(request.project, Kind.IMAGE))
        finally:
            await finish(self._cleaned(place, buildings))

    async def _require(self, order: Order) -> None:
        """Raises DriverUnavailable if its builder does not work on this host."""
        name = order.request.builder
        probe = await probed(name, order.builder.probe(self._parts.context.host))
        if not probe.available:
            raise DriverUnavailable(
                f"The builder {name!r} does not work on this host", evidence=probe.reason, remedy=probe.remedy
            )

    async def _cleaned(self, place: Path, buildings: list[Building]) -> None:
        """What the build has held is given up also if its files cannot be removed, which the next start does."""
        context = self._parts.context
        released = [building.release() for building in buildings]
        try:
            await context.host.files.remove_tree(place)
        finally:
            for names in released:
                await context.layers.drop_unused(names)
            await self._parts.cache.prune(most=self._parts.limits().cache)
            await context.images.collect_garbage()

    async def _plan(self, order: Order, files: Path) -> Plan:
        context, request, tell = self._parts.context, order.request, order.tell
        async with context.host.files.root(files) as root:
            data = await order.builder.instructions(root, request)
        checks = request.arguments.get(CHECKS) if order.builder.is_checked else "skip=all"
        dockerfile, report = await asyncio.to_thread(_read, data, checks)
        _count(dockerfile, order.limits.instructions)
        for finding in report.findings:
            tell(BuildEvent(BuildEventKind.WARNING, 0, f"[Warning] {finding}"))
        report.require_none()
        host, given = Platform.of_kernel(context.host.system.kernel().architecture), order.builder.arguments(request)
        wanted = Platform.parse(request.platform) if request.platform else host
        contexts = named_contexts(request.contexts)
        made = plan(dockerfile, given=given, target=request.target, host=host, platform=wanted, contexts=contexts)
        for name in sorted(each for each in set(given) - _declared(dockerfile) if not each.startswith(OPTIONS)):
            tell(
                BuildEvent(
                    BuildEventKind.WARNING, 0, f"[Warning] One or more build-args [{name[:80]}] were not consumed"
                )
            )
        return made


async def _made(order: Order, building: Building, job: Job, result: Result) -> list[Named]:
    """What is recorded of it: an image, or nothing."""
    output, deliver = order.request.output, order.deliver
    named = None if output is Output.FILES else await building.composed(result)
    await export(job, building.borrowed, building.results, order.deliver_cache)
    if output is not Output.IMAGE and deliver is None:
        raise Unsupported("This client cannot take the result of a build", field="output")
    if deliver is not None:
        with job.op.step("Send result"):
            await deliver(Export(job, result, named))
    if output is Output.IMAGE and named is not None:
        return [named]
    if named is not None:
        job.op.update_metadata(fingerprint=named.image.fingerprint)
    return []


async def _at_most(blocks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Raises TooLarge."""
    size = 0
    async for block in blocks:
        size += len(block)
        if size > most:
            raise TooLarge(f"The build context has more than {most} bytes", field="context")
        yield block


def _read(data: bytes, checks: str | None) -> tuple[Dockerfile, Report]:
    dockerfile = parse(data)
    return dockerfile, check_file(data, dockerfile, checks)


def _count(dockerfile: Dockerfile, most: int) -> None:
    """Raises TooLarge."""
    if len(dockerfile.arguments) + sum(1 + len(each.instructions) for each in dockerfile.stages) > most:
        raise TooLarge(f"The Dockerfile has more than {most} instructions", field="dockerfile")


def _declared(dockerfile: Dockerfile) -> set[str]:
    found = {name for argument in dockerfile.arguments for name, _ in argument.pairs}
    for stage in dockerfile.stages:
        found |= {name for each in stage.instructions if isinstance(each, Arg) for name, _ in each.pairs}
    return found | PROXIES | {"SOURCE_DATE_EPOCH"}
