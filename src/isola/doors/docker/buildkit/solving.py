"""One build for a client of BuildKit: its files come through its session, the rest is done by ``isola.builds``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from posixpath import normpath

from isola.builds.dockerfile.expansion import expand
from isola.builds.dockerfile.instructions import Copy, Dockerfile, Run
from isola.builds.dockerfile.lines import MAX_FILE
from isola.builds.dockerfile.mounts import read_mount, source_of
from isola.builds.dockerfile.parsing import parse
from isola.builds.following import Following
from isola.builds.git import HEADER, TOKEN
from isola.builds.named_contexts import has_repositories, images_of
from isola.builds.parts import CONTEXT
from isola.doors.docker.buildkit.attributes import directories_in, request_of, upload_in
from isola.doors.docker.buildkit.calls import Code, Failure, calling
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.delivering import Counted, deliver, vertex
from isola.doors.docker.buildkit.files import Wanted, archive, small_files, tar_file, uploaded
from isola.doors.docker.buildkit.http2 import Broken
from isola.doors.docker.buildkit.outputs import Kind, Outputs
from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.pushing import Pushed, cancel, push
from isola.doors.docker.buildkit.sending import METHOD
from isola.doors.docker.buildkit.sessions import Session
from isola.doors.docker.buildkit.sources import details, line_of
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import InvalidInput, IsolaError, NotFound, ProgramFailed, Unsupported
from isola.images.registry.credentials import Credentials, credentials_for
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest, Output
from isola.model.build_cache import CacheType
from isola.model.ignore import MAX_FILE as LARGEST_IGNORE
from isola.model.image_reference import parse as parse_reference
from isola.model.reference import Kind as EntityKind
from isola.model.reference import Ref
from isola.operations import Operation

_HIDDEN = ".isola-dockerfile"
"""The Dockerfile's path in the context: its own may be outside of it. Ignored, so that COPY does not see it."""
_IGNORE = ".dockerignore"
_END = bytes(1024)
_MOST_ASKED = 100
_FORWARD = "/moby.sshforward.v1.SSH/ForwardAgent"
_LARGEST_REPLY = 256 << 10


@dataclass(frozen=True, slots=True)
class Solved:
    """An image; without a fingerprint the client got the files."""

    fingerprint: str
    names: tuple[str, ...]
    pushed: Pushed | None = None


async def solve(
    client: Client, session: Session, attributes: Mapping[str, str], outputs: Outputs, progress: Progress
) -> Solved:
    """Build. Raises Failure, an IsolaError, or Broken once the client has gone."""
    wanted, upload = request_of(attributes, client.project), upload_in(attributes)
    exports = tuple(dict.fromkeys((*wanted.exports, *outputs.caches)))
    wanted = replace(wanted, output=outputs.kind, names=outputs.names, exports=exports)
    if outputs.deliveries and METHOD.lower() not in session.methods:
        raise Unsupported("The client's session takes no results", field="output")
    builds, further = client.services.builds, directories_in(attributes)
    wanted, blocks, known = await _asked_for(session, wanted, upload, further, progress)
    received: Path | None = None
    if blocks is not None:
        async with vertex(progress, "[internal] load build context") as loading:
            counted = Counted(blocks)
            received = await builds.receive(counted.blocks(), tuple(further), remote=bool(wanted.remote))
            await progress.status(loading, "transferring context:", counted.size)
    following = Following()
    try:
        operation = builds.start(
            wanted, received, following.tell, caller=client.caller, credentials=partial(credentials_for, known),
            deliver=partial(deliver, session, outputs, progress), interleaved=True,
        )  # fmt: skip
    except BaseException:
        if received is not None:
            await builds.discard(received)
        raise
    await _followed(client, session, operation, following, progress)
    return await _ended(client, session, operation, outputs, progress)


_Given = tuple[BuildRequest, AsyncIterator[bytes] | None, Mapping[str, Credentials]]


async def _asked_for(
    session: Session, wanted: BuildRequest, upload: str, further: Mapping[str, str], progress: Progress
) -> _Given:
    """The complete request, an archive of what the client sends, if it sends something, and passwords."""
    if upload and further:
        raise Unsupported(
            "An archive from standard input is the only context", field="contexts",
            remedy="unpack it, and name the directory",
        )  # fmt: skip
    if upload:
        return wanted, uploaded(session, upload), {}
    if not wanted.remote:
        return await _prepared(session, wanted, progress, further)
    wanted = replace(wanted, secrets=await _tokens(session))
    return wanted, _together(session, further) if further else None, {}


async def _prepared(session: Session, wanted: BuildRequest, progress: Progress, further: Mapping[str, str]) -> _Given:
    """The request with what its Dockerfile asks the client for, the context, and passwords of registries."""
    title = f"[internal] load build definition from {wanted.dockerfile[:200].rpartition('/')[2]}"
    async with vertex(progress, title) as loading:
        text, ignored = await definition(session, wanted.dockerfile)
        await progress.status(loading, "transferring dockerfile:", len(text))
        progress.source = (wanted.dockerfile.rpartition("/")[2], text)
        try:
            dockerfile = await asyncio.to_thread(parse, text)
        except InvalidInput as error:
            raise Failure(Code.UNKNOWN, str(error), details(*progress.source, line_of(error))) from None
        known = await _credentials(session, dockerfile, wanted)
        wanted = replace(
            wanted,
            dockerfile=_HIDDEN,
            secrets=await _secrets(session, dockerfile, wanted),
            agents=_agents(session, dockerfile),
        )
    below = f"{CONTEXT}/" if further else ""
    return wanted, _together(session, further, _context(session, text, ignored, below)), known


async def _context(session: Session, dockerfile: bytes, ignored: Sequence[str], below: str) -> AsyncIterator[bytes]:
    async for block in archive(session, Wanted("context", exclude=ignored), below):
        yield block
    yield tar_file(below + _HIDDEN, dockerfile)
    yield tar_file(f"{below}{_HIDDEN}.dockerignore", f"{_HIDDEN}\n{_HIDDEN}.dockerignore\n".encode())


async def _together(
    session: Session, further: Mapping[str, str], context: AsyncIterator[bytes] | None = None
) -> AsyncIterator[bytes]:
    """One tar archive of all that the client sends."""
    if context is not None:
        async for block in context:
            yield block
    for directory, name in further.items():
        ignored = (await small_files(session, Wanted(name, include=(_IGNORE,)), LARGEST_IGNORE)).get(_IGNORE, b"")
        async for block in archive(session, Wanted(name, exclude=tuple(_patterns(ignored))), f"{directory}/"):
            yield block
    yield _END


async def _followed(
    client: Client, session: Session, operation: Operation, following: Following, progress: Progress
) -> None:
    """Until it has ended; without the client it is cancelled."""
    try:
        async for event in following.events(operation, session.connection.closed.is_set):
            if event.kind is BuildEventKind.AGENT:
                await _asked(client, session, event)
            else:
                await progress.told(event)
    except asyncio.CancelledError:
        cancel(operation)
        raise
    except ConnectionError as error:  # of the session alone: the call is still answered
        cancel(operation)
        raise Broken("the client has closed its session") from error


async def _ended(
    client: Client, session: Session, operation: Operation, outputs: Outputs, progress: Progress
) -> Solved:
    if operation.error is not None:
        command = operation.error.command if isinstance(operation.error, ProgramFailed) else ""
        text, place = failure(operation.error), details(*progress.source, progress.line(command))
        await progress.failed(text)
        raise Failure(Code.UNKNOWN, text, place)
    await progress.failed("")
    solved = Solved(str(operation.metadata.get("fingerprint") or ""), outputs.names)
    if outputs.kind is not Output.IMAGE:
        return solved
    async with vertex(progress, Kind.IMAGE.value) as exporting:
        await progress.status(exporting, f"writing image sha256:{solved.fingerprint}")
        for name in solved.names:
            await progress.status(exporting, f"naming to {name}")
        if not outputs.pushes:
            return solved
        home = client.services.projects.home(client.project, EntityKind.IMAGE)
        image = client.services.images.get(Ref(home, solved.fingerprint))
        told = partial(progress.status, exporting)
        return replace(solved, pushed=await push(client, session, outputs.pushes, image, told))


def failure(error: BaseException) -> str:
    """As BuildKit says it."""
    if isinstance(error, ProgramFailed) and error.command:
        command = json.dumps(error.command, ensure_ascii=False)  # as Go quotes
        return f"process {command} did not complete successfully: exit code: {error.status}"
    return str(error) if isinstance(error, IsolaError) else "the build was cancelled"


async def definition(session: Session, name: str) -> tuple[bytes, tuple[str, ...]]:
    """The Dockerfile, and the patterns of files that are not sent. Raises InvalidInput."""
    path = normpath(f"/{name}").lstrip("/")
    directory, slash, last = path.rpartition("/")
    other = (
        f"{directory}{slash}{last.lower()}" if last == "Dockerfile" else path
    )  # as Docker does, if there is no other
    included = tuple(dict.fromkeys((path, f"{path}.dockerignore", other, f"{other}.dockerignore")))
    found = await small_files(session, Wanted("dockerfile", include=included), MAX_FILE)
    path = path if path in found else other
    if path not in found:
        raise InvalidInput(f"failed to read dockerfile: open {name[:200]}: no such file or directory")
    ignore = found.get(f"{path}.dockerignore")
    if ignore is None:
        ignore = (await small_files(session, Wanted("context", include=(_IGNORE,)), LARGEST_IGNORE)).get(_IGNORE, b"")
    return found[path], tuple(_patterns(ignore))


def _patterns(ignore: bytes) -> list[str]:
    found = []
    for line in ignore.decode("utf-8", "replace").lstrip("\ufeff").splitlines():
        pattern = "" if line.startswith("#") else line.strip()
        inverted = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if pattern:
            found.append(("!" if inverted else "") + (normpath(pattern).lstrip("/") or "."))
    return found


async def _credentials(session: Session, dockerfile: Dockerfile, wanted: BuildRequest) -> dict[str, Credentials]:
    """For the registries of all images that may be needed."""
    domains = set()
    for name in _images(dockerfile, wanted):
        with suppress(IsolaError):
            domains.add(parse_reference(name).domain)
    return {domain: await session.credentials(domain) for domain in sorted(domains)[:_MOST_ASKED]}


def _images(dockerfile: Dockerfile, wanted: BuildRequest) -> Iterable[str]:
    arguments = {name: default or "" for each in dockerfile.arguments for name, default in each.pairs}
    arguments |= wanted.arguments
    yield from images_of(wanted.contexts)
    yield from (each.name for each in wanted.imports if each.type is CacheType.REGISTRY)
    yield from (each.name for each in wanted.exports if each.type is CacheType.REGISTRY)
    for stage in dockerfile.stages:
        with suppress(ValueError):
            yield expand(stage.base.image, arguments, dockerfile.escape)
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.source_stage:
                yield instruction.source_stage
            if isinstance(instruction, Run):
                for mount in instruction.mounts:
                    with suppress(ValueError):
                        yield source_of(mount)


def _ids(dockerfile: Dockerfile, kind: str) -> list[str]:
    found: dict[str, None] = {}
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            for text in instruction.mounts if isinstance(instruction, Run) else ():
                with suppress(ValueError):
                    if (mount := read_mount(text)).type == kind:
                        found[mount.id] = None
    return list(found)[:_MOST_ASKED]


async def _secrets(session: Session, dockerfile: Dockerfile, wanted: BuildRequest) -> dict[str, bytes]:
    asked = {id: await session.secret(id) for id in _ids(dockerfile, "secret")}
    needed = _has_repositories(dockerfile) or has_repositories(wanted.contexts)
    tokens = await _tokens(session) if needed else {}
    return tokens | {id: value for id, value in asked.items() if value is not None}


def _has_repositories(dockerfile: Dockerfile) -> bool:
    instructions = [each for stage in dockerfile.stages for each in stage.instructions]
    return any(".git" in word for each in instructions if isinstance(each, Copy) and each.add for word in each.sources)


async def _tokens(session: Session) -> dict[str, bytes]:
    """Logins for private repositories."""
    asked = {id: await session.secret(id) for id in (TOKEN, HEADER)}
    return {id: value for id, value in asked.items() if value is not None}


def _agents(session: Session, dockerfile: Dockerfile) -> frozenset[str]:
    return frozenset(_ids(dockerfile, "ssh")) if _FORWARD.lower() in session.methods else frozenset()


async def _asked(client: Client, session: Session, event: BuildEvent) -> None:
    """Pass a program's question to the client's agent, and the reply back."""
    reply = b"\0\0\0\1\5"
    with suppress(Failure, Broken, ValueError):
        async with calling(session.connection, _FORWARD, {"buildkit.ssh.id": [event.text]}) as call:
            await call.send(message({1: event.data}))
            found = bytearray()
            while len(found) < 4 or len(found) < 4 + int.from_bytes(found[:4]) <= _LARGEST_REPLY:
                if (data := await call.read()) is None:
                    raise Broken("the agent has ended")
                found += Message(data).blob(1)
            reply = bytes(found)
    with suppress(NotFound, InvalidInput):
        client.services.builds.reply(event.token, reply)
