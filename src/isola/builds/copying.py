"""COPY, ADD and WORKDIR: layers written by a confined process, without a container."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from isola.builds.fetching import fetched
from isola.builds.parts import Found, Job, Result
from isola.builds.repositories import require_commit
from isola.builds.roots import root_of, written
from isola.builds.steps import CopyFiles, MakeDirectory
from isola.errors import InvalidInput, IsolaError, NotFound, TooLarge, UnsafeArchive
from isola.host.archive.archives import CopySource, CopyTarget, LayerReport
from isola.host.files import Root
from isola.model.build import BuildEvent, BuildEventKind
from isola.model.git_address import GitAddress
from isola.model.image import Layer

Find = Callable[[str], Awaitable[Found]]
"""What ``--from`` names."""
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_USTAR = slice(257, 262)


async def make_directory(job: Job, result: Result, step: MakeDirectory) -> Layer | None:
    """None if it is there."""
    if step.path == "/":
        return None
    owner = step.owner if step.owner not in ("", "0", "root") else ""
    return await _layer(job, result, [], CopyTarget(None, f"{step.path}/", owner))


async def copy_files(job: Job, result: Result, step: CopyFiles, find: Find) -> Layer | None:
    """Raises InvalidInput, TooLarge, UnsafeArchive."""
    with _failing(step):
        async with _sources(job, step, find) as sources:
            target = CopyTarget(None, step.target, step.owner, step.mode)
            if step.link:
                result = replace(result, layers=()) if not step.owner or _numeric(step.owner) else result
            return await _layer(job, result, sources, target)


@contextmanager
def _failing(step: CopyFiles) -> Iterator[None]:
    """Errors say which instruction has failed."""
    try:
        yield
    except InvalidInput as error:
        name = "ADD" if step.add else "COPY"
        message = f"{name} failed: {error.message}"
        raise type(error)(message, field=error.field, evidence=error.evidence, remedy=error.remedy) from error


def _numeric(owner: str) -> bool:
    return all(part.isdigit() or not part for part in owner.split(":"))


async def digests(job: Job, step: CopyFiles, find: Find) -> tuple[str, ...]:
    """What is copied, for the cache: of other stages and images all of their layers."""
    found = await find(step.source_stage) if step.source_stage else None
    if isinstance(found, Result):
        return found.diff_ids
    with _failing(step):
        if found is not None:
            return (await job.parts.context.host.archives.survey_copy([_of_tree(found, step)]),)
        sources = [_of_context(job, step, step.sources)] if step.sources else []
        sources += [_of_address(job, await fetched(job, address, step.checksum)) for address in step.addresses]
        commits = [await _commit(job, step, address) for address in step.repositories]
        return (*([await job.parts.context.host.archives.survey_copy(sources)] if sources else []), *commits)


async def _layer(job: Job, result: Result, sources: Sequence[CopySource], to: CopyTarget) -> Layer | None:
    archives, now = job.parts.context.host.archives, int(job.now().timestamp())
    async with root_of(job, result) as root:

        async def write(file: Path, compression: str) -> LayerReport | None:
            return await archives.copy_layer(
                sources, replace(to, root=root), file, now=now, newest=job.epoch, compression=compression
            )

        return await written(job, write)


@asynccontextmanager
async def _sources(job: Job, step: CopyFiles, find: Find) -> AsyncIterator[list[CopySource]]:
    async with AsyncExitStack() as stack:
        found: list[CopySource] = []
        if step.source_stage:
            found.append(await _from(job, step, await find(step.source_stage), stack))
        elif step.sources:
            found += await _with_archives(job, step) if step.add and step.unpack is not False else [
                _of_context(job, step, step.sources)
            ]  # fmt: skip
        if step.files:
            found.append(await _inline(job, step))
        for address in step.addresses:
            found.append(await _from_address(job, address, step))
        for repository in step.repositories:
            found.append(await _from_repository(job, repository, step))
        yield found


async def _from(job: Job, step: CopyFiles, found: Found, stack: AsyncExitStack) -> CopySource:
    if isinstance(found, Path):
        return _of_tree(found, step)
    tree = await stack.enter_async_context(root_of(job, found))
    if tree is None:
        raise InvalidInput(f"{step.source_stage[:80]} has no files", field="dockerfile")
    return CopySource(tree, step.sources, True, step.parents, step.excludes, f"stage or image {step.source_stage}")


def _of_tree(tree: Path, step: CopyFiles) -> CopySource:
    name = f"build context {step.source_stage}"
    return CopySource(tree, step.sources, False, step.parents, step.excludes, name)


def _of_context(job: Job, step: CopyFiles, sources: Sequence[str]) -> CopySource:
    return CopySource(job.files, tuple(sources), False, step.parents, step.excludes)


def _of_address(job: Job, file: Path) -> CopySource:
    return CopySource(file.parent, (_literal(file.name),), name="address", modified=job.modified.get(file))


async def _from_address(job: Job, address: str, step: CopyFiles) -> CopySource:
    """Archives are unpacked only if ``--unpack`` says so."""
    file = await fetched(job, address, step.checksum)
    if not step.unpack:
        return _of_address(job, file)
    place = job.temporary("unpacked")
    await job.parts.context.host.files.make_directory(place, mode=0o755)
    await job.parts.context.host.archives.unpack(file, place, limits=job.parts.context.images.limits)
    return CopySource(place, (".",), True, False, step.excludes, "archive", keep_mode=True)


async def _commit(job: Job, step: CopyFiles, address: GitAddress) -> str:
    """What names the files of a repository. One that is named by its commit is not fetched for it."""
    commit = address.commit
    if not commit or step.checksum:
        checkout = await job.repositories.checkout(address, keep_git=step.keep_git_dir)
        require_commit(checkout, step.checksum, address)
        commit = checkout.commit
    return f"git:{commit}:{address.directory}"


async def _from_repository(job: Job, address: GitAddress, step: CopyFiles) -> CopySource:
    """Its submodules are not fetched: each is a further address, which the build's file does not name."""
    checkout = await job.repositories.checkout(address, keep_git=step.keep_git_dir)
    if checkout.submodules:
        text = f"[Warning] Submodules of {address.url} are not fetched: ADD them one by one"
        job.tell(BuildEvent(BuildEventKind.WARNING, 0, text))
    return CopySource(checkout.tree, (".",), False, False, step.excludes, "repository", modified=checkout.modified)


def _literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in name)


async def _inline(job: Job, step: CopyFiles) -> CopySource:
    """Here-documents as files."""
    place, files = job.temporary("files"), job.parts.context.host.files
    await files.make_directory(place, mode=0o755)
    for name, content in step.files:
        if "/" in name or name in (".", ".."):
            raise InvalidInput(f"A heredoc cannot be named {name[:80]!r}", field="dockerfile")
        await files.write(place / name, content.encode(), mode=0o644, durable=False)
    return CopySource(place, tuple(_literal(name) for name, _ in step.files), name="heredocs")


async def _with_archives(job: Job, step: CopyFiles) -> list[CopySource]:
    """Archives of the context are unpacked first, by a confined process."""
    plain, found = list[str](), list[CopySource]()
    host = job.parts.context.host
    async with host.files.root(job.files) as root:
        for source in step.sources:
            if not await _is_archive(root, source):
                plain.append(source)
                continue
            copy, place = job.temporary("archive"), job.temporary("unpacked")
            await _copied(root, source, copy, host.files.write, host.files.extend)
            await host.files.make_directory(place, mode=0o755)
            whole = await _unpacked(job, copy, place)
            await host.files.remove_tree(copy)
            if not whole:
                plain.append(source)
                continue
            found.append(CopySource(place, (".",), True, False, step.excludes, "archive", keep_mode=True))
    return ([_of_context(job, step, plain)] if plain else []) + found


async def _unpacked(job: Job, file: Path, place: Path) -> bool:
    """Whether it is an archive: what only begins as one, such as a single compressed file, is copied as it is."""
    host = job.parts.context.host
    try:
        await host.archives.unpack(file, place, limits=job.parts.context.images.limits)
    except (TooLarge, UnsafeArchive):
        raise
    except InvalidInput:
        if await host.files.names(place):  # a damaged one
            raise
        return False
    return True


async def _is_archive(root: Root, path: str) -> bool:
    try:
        blocks = await root.read(f"/{path}")
        async for block in blocks:
            return block.startswith(_MAGIC) or block[_USTAR] == b"ustar"
    except (NotFound, IsolaError):  # a pattern, a directory or nothing: the copy says what is wrong
        return False
    return False


async def _copied(
    root: Root, path: str, target: Path,
    write: Callable[..., Awaitable[object]], extend: Callable[..., Awaitable[object]],
) -> None:  # fmt: skip
    """A private copy, because the path may lead through links."""
    await write(target, b"", durable=False)
    size = 0
    async for block in await root.read(f"/{path}"):
        await extend(target, block, at=size)
        size += len(block)
