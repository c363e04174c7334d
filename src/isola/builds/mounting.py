"""``RUN --mount``: devices of the container in which a program runs, and what they are made of."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from isola.builds.agents import served
from isola.builds.applying import SCRIPTS
from isola.builds.copying import Find
from isola.builds.dockerfile.mounts import Mount
from isola.builds.parts import Found, Job
from isola.builds.roots import root_of
from isola.builds.steps import RunProgram
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host.archive.archives import CopySource, CopyTarget
from isola.instances.settings import HOSTNAME

Device = Mapping[str, str]
Given = tuple[Mapping[str, Device], Mapping[str, str]]
"""Devices by name, and environment variables with secrets."""
_SECRET_MODE, _CACHE_MODE, _SCRIPT_MODE, _AGENT_MODE = 0o400, 0o755, 0o755, 0o600
_AGENTS = "/run/buildkit/ssh_agent"


@asynccontextmanager
async def given(job: Job, step: RunProgram, stage: int, find: Find) -> AsyncIterator[Given]:
    """What a program gets while it runs. Raises InvalidInput, NotFound, Unsupported."""
    async with AsyncExitStack() as stack:
        devices: dict[str, Device] = {}
        environment: dict[str, str] = {}
        for number, mount in enumerate(step.mounts):
            if mount.type == "secret" and mount.variable and mount.id in job.request.secrets:
                environment[mount.variable] = job.request.secrets[mount.id].decode("utf-8", "replace")
            if mount.type == "ssh":
                path = _absolute(mount.target or f"{_AGENTS}.{number}")
                if (agent := await _agent(job, mount, path, stage, stack)) is not None:
                    devices[f"mount{number}"] = agent
                    environment.setdefault("SSH_AUTH_SOCK", path)
                continue
            device = await _device(job, mount, find, stack)
            if device is not None:
                devices[f"mount{number}"] = device
        if step.script is not None:
            devices["script"] = await _script(job, *step.script)
        yield devices, environment


async def digests(job: Job, step: RunProgram, find: Find) -> tuple[str, ...]:
    """Of what is mounted and can be read, for the cache."""
    found: list[str] = []
    for mount in step.mounts:
        if mount.type == "bind" and mount.source_stage:
            found += await _content(job, mount, await find(mount.source_stage))
        elif mount.type == "bind":
            found.append(await job.parts.context.host.archives.survey_copy([_of_context(job, mount)]))
    return tuple(found)


async def _content(job: Job, mount: Mount, found: Found) -> tuple[str, ...]:
    """What names the files of ``from``."""
    if isinstance(found, Path):
        return (await job.parts.context.host.archives.survey_copy([_of_tree(found, mount)]),)
    return found.diff_ids


def around(job: Job) -> tuple[str, ...]:
    """What a program depends on besides files, for the key of the cache.

    Results never pass from one project to another: a project decides by its networks, names of hosts, caches and
    secrets what its programs see, and would decide what programs of others have done.
    """
    request = job.request
    names = (request.config.get("isola.hosts", ""), request.config.get(HOSTNAME, ""))
    return request.project, request.network, " ".join(filter(None, names))


async def _device(job: Job, mount: Mount, find: Find, stack: AsyncExitStack) -> Device | None:
    if mount.type == "tmpfs":
        return _disk("tmpfs:", mount, mode="1777", **({"size": str(mount.size)} if mount.size else {}))
    if mount.type == "secret":
        return await _secret(job, mount)
    if mount.type == "cache":
        return _disk(str(await _cache(job, mount, find, stack)), mount, shift="true")
    return _disk(str(await _bound(job, mount, find)), mount, shift="true")


async def _agent(job: Job, mount: Mount, path: str, stage: int, stack: AsyncExitStack) -> Device | None:
    """None if the client has no such agent."""
    if mount.id not in job.request.agents:
        if mount.required:
            raise NotFound(
                f"unset ssh forward key {mount.id[:80]}", field="ssh", remedy="forward an agent of that name"
            )
        return None
    place, mode = job.temporary("agent"), _AGENT_MODE if mount.mode is None else mount.mode

    async def ask(message: bytes) -> bytes:
        return await job.parts.agents.ask(job.tell, stage, mount.id, message)

    listener = job.parts.context.host.sockets.listener(place, mode=mode, uid=mount.uid, gid=mount.gid)
    await stack.enter_async_context(served(listener, ask))
    return {"type": "disk", "source": str(place), "path": path, "shift": "true"}


def _disk(source: str, mount: Mount, **more: str) -> Device:
    read_only = {"readonly": "true"} if mount.read_only else {}
    return {"type": "disk", "source": source, "path": _absolute(mount.target), **read_only, **more}


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


async def _secret(job: Job, mount: Mount) -> Device | None:
    if mount.id not in job.request.secrets:
        if mount.required:
            raise NotFound(f"secret {mount.id[:80]}: not found", field="secrets")
        return None
    if not mount.target:
        return None
    place = job.temporary("secret")
    await _write(job, place, job.request.secrets[mount.id], mount.mode if mount.mode is not None else _SECRET_MODE)
    if mount.uid or mount.gid:
        source = CopySource(place.parent, (place.name,), name="secret")
        place = await _made(job, [source], CopyTarget(None, "/it", _owner(mount)))
    return _disk(str(place), mount, shift="true")


async def _script(job: Job, name: str, content: str) -> Device:
    place = job.temporary("script")
    await _write(job, place, content.encode(), _SCRIPT_MODE)
    return {"type": "disk", "source": str(place), "path": f"{SCRIPTS}/{name}", "readonly": "true", "shift": "true"}


async def _write(job: Job, path: Path, data: bytes, mode: int) -> None:
    await job.parts.context.host.files.write(path, data, mode=mode, durable=False)


async def _cache(job: Job, mount: Mount, find: Find, stack: AsyncExitStack) -> Path:
    """The directory of its id, alone if it is locked; private and in use, a new one."""
    if mount.source and not mount.source_stage:
        raise Unsupported("A cache cannot begin with files of the build context", remedy="name a stage with from")
    begins = await _content(job, mount, await find(mount.source_stage)) if mount.source_stage else ()
    name = hashlib.sha256(_cache_name(job, mount, begins).encode()).hexdigest()
    lock = job.parts.locks.setdefault(name, asyncio.Lock())
    if mount.sharing == "private" and lock.locked():
        place = job.temporary("cache")
    else:
        place = job.parts.directory / "cache" / name
        if mount.sharing != "shared":
            await stack.enter_async_context(lock)
    files = job.parts.context.host.files
    if not await files.exists(place):
        await files.make_directory(place.parent, mode=0o711)
        if mount.source_stage or mount.uid or mount.gid:
            await files.rename(await _first_content(job, mount, find), place)
        else:
            await files.make_directory(place, mode=_CACHE_MODE if mount.mode is None else mount.mode)
    return place


def _cache_name(job: Job, mount: Mount, begins: tuple[str, ...]) -> str:
    """What begins otherwise is another cache, though its id is the same."""
    name = f"{job.request.project}/{mount.id}"
    if mount.source_stage:
        return f"{name}\0{mount.source}\0{' '.join(begins)}"
    return f"{name}\0{_owner(mount)} {mount.mode}" if mount.uid or mount.gid else name


async def _first_content(job: Job, mount: Mount, find: Find) -> Path:
    """A new directory with the owner that is wanted, or with the files of a stage."""
    if mount.source_stage:
        return await _of_stage(job, mount, await find(mount.source_stage))
    mode = _CACHE_MODE if mount.mode is None else mount.mode
    return await _made(job, [], CopyTarget(None, "/it/", _owner(mount), f"{mode:04o}"))


def _owner(mount: Mount) -> str:
    return f"{mount.uid}:{mount.gid}"


def _of_context(job: Job, mount: Mount) -> CopySource:
    return CopySource(job.files, (mount.source or ".",))


def _of_tree(tree: Path, mount: Mount) -> CopySource:
    return CopySource(tree, (mount.source or ".",), name=f"build context {mount.source_stage}")


async def _bound(job: Job, mount: Mount, find: Find) -> Path:
    """A copy of what is mounted, which the program may change; the whole context is mounted itself, read-only."""
    whole = mount.read_only and mount.source in ("", ".", "/")
    if mount.source_stage:
        found = await find(mount.source_stage)
        return found if whole and isinstance(found, Path) else await _of_stage(job, mount, found)
    if whole:
        return job.files
    return await _made(job, [_of_context(job, mount)], CopyTarget(None, "/it", like_source=True))


async def _of_stage(job: Job, mount: Mount, found: Found) -> Path:
    if isinstance(found, Path):
        return await _made(job, [_of_tree(found, mount)], CopyTarget(None, "/it", like_source=True))
    async with root_of(job, found) as tree:
        if tree is None:
            raise InvalidInput(f"{mount.source_stage[:80]} has no files", field="dockerfile")
        source = CopySource(tree, (mount.source or ".",), True, name=f"stage or image {mount.source_stage}")
        return await _made(job, [source], CopyTarget(None, "/it", like_source=True))


async def _made(job: Job, sources: Sequence[CopySource], to: CopyTarget) -> Path:
    """A copy of files, which go to ``/it``, in the directory of the build."""
    host, file, place = job.parts.context.host, job.temporary("made.tar"), job.temporary("made")
    await host.archives.copy_layer(sources, to, file, now=int(job.now().timestamp()))
    await host.files.make_directory(place, mode=0o711)
    await host.archives.unpack(file, place, limits=job.parts.context.images.limits)
    await host.files.remove_tree(file)
    return place / "it"
