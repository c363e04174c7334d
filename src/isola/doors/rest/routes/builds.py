"""Builds of images. Not in LXD's API."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from aiohttp import web

from isola.builds.cache_options import MOST as MOST_CACHES
from isola.builds.cache_options import cache_export, cache_import
from isola.builds.cache_options import directories_of as caches_of
from isola.builds.exporting import Export
from isola.builds.following import Following
from isola.builds.named_contexts import directories_of
from isola.doors.http.body import is_gone
from isola.doors.http.json import dumps
from isola.doors.http.reading import Fields, parse_object
from isola.doors.rest.answers import sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.errors import InvalidInput, IsolaError, ProgramFailed, WrongState
from isola.images.registry.credentials import Credentials, credentials_for, credentials_of
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest, Output
from isola.model.image_reference import parse
from isola.model.names import alias_name
from isola.operations import Operation

_LONGEST_OPTIONS = 4 << 20
_MOST_AGENTS = 16


async def build(request: Request) -> web.StreamResponse:
    """The body is a JSON object on one line, then the context as a tar stream. The response is a stream of JSON lines.

    With ``remote`` the daemon fetches the context, and the body ends with the line: a Git repository
    (``https://HOST/NAME.git#REF:DIRECTORY``), an archive or a Dockerfile.

    ``contexts``: further ones by name, each ``docker-image://NAME``, an address as for ``remote``, or
    ``local:context-N``. With one of the last kind the archive has the directories ``context`` and ``context-N``.

    Options: ``names``, ``builder``, ``dockerfile``, ``target``, ``platform``, ``arguments``, ``labels``,
    ``secrets`` (base64), ``no_cache``, ``pull``, ``network``, ``config``, ``agents`` (ids of agents of SSH),
    ``output``: ``image``, ``check`` (only warnings), or for the client alone ``files`` (a tar archive) or ``archive``
    (of the image, in OCI's and Docker's layout).
    ``cache_from`` and ``cache_to`` are lists of objects: ``type`` (``registry`` with ``ref``; ``local`` with
    ``directory``, which is ``cache-N`` and is sent like a context; ``inline``), ``mode``, ``ignore-error``.
    ``credentials`` for registries of these, and of base images, by domain.
    Events have a ``type``: ``step``, ``cached``, ``output``, ``result``, ``removed``, ``warning``, ``agent`` (a
    request, which ``replies/TOKEN`` answers), ``data`` (``size`` bytes of the output, or of the
    cache ``name``, follow the line), and in the last
    line ``image``, ``done`` (without an image) or ``error``.
    """
    builds, blocks = request.services.builds, request.blocks()
    fields, rest = await _options(blocks)
    wanted = _wanted(fields, request.project)
    directories = (*directories_of(wanted.contexts), *caches_of(wanted.imports))
    context = None
    if directories or not wanted.remote:
        context = await builds.receive(_joined(rest, blocks), directories, remote=bool(wanted.remote))
    following = Following()
    try:
        operation = _started(request, wanted, context, fields, following)
    except BaseException:
        if context is not None:
            await builds.discard(context)
        raise
    try:
        return await _streamed(request, operation, following)
    except (asyncio.CancelledError, ConnectionError):
        with suppress(WrongState):
            operation.cancel()
        raise


def _started(
    request: Request, wanted: BuildRequest, context: Path | None, fields: Fields, following: Following
) -> Operation:
    async def deliver(export: Export) -> None:
        async for block in export.blocks():
            await following.send(block)

    async def deliver_cache(name: str, archive: AsyncIterator[bytes]) -> None:
        async for block in archive:
            await following.send(block, name)

    return request.services.builds.start(
        wanted,
        context,
        following.tell,
        credentials=partial(credentials_for, _credentials(fields)),
        caller=request.caller,
        deliver=deliver if wanted.output is not Output.IMAGE else None,
        deliver_cache=deliver_cache,
    )


async def builders(request: Request) -> web.StreamResponse:
    """What builds images, whether it works on this host and what it needs, and its options."""
    return sync(
        [
            {
                "name": each.name,
                "description": each.kind.summary,
                "file": each.kind.file,
                "available": each.probe.available,
                "reason": each.probe.reason,
                "remedy": each.probe.remedy,
                "options": {row.key: row.help for row in each.kind.settings},
            }
            for each in await request.services.builds.builders()
        ]
    )


async def prune(request: Request) -> web.StreamResponse:
    """Drop kept results, the least recently used first, until ``most`` bytes are left."""
    text = request.query.get("most", "") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidInput("most must be a number of bytes", field="most")
    dropped, freed = await request.services.builds.prune(most=int(text))
    return sync({"dropped": len(dropped), "freed": freed})


async def reply(request: Request) -> web.StreamResponse:
    """What an agent says to a program of a build: ``data``, in base64."""
    fields = await request.fields()
    try:
        message = base64.b64decode(fields.text("data"), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInput("The reply is not base64", field="data") from None
    request.services.builds.reply(request.parameters["token"], message)
    return sync()


async def _options(blocks: AsyncIterator[bytes]) -> tuple[Fields, bytes]:
    """The first line, and what was read of the rest."""
    head = bytearray()
    async for block in blocks:
        head += block
        line, found, rest = head.partition(b"\n")
        if found:
            return parse_object(bytes(line)), bytes(rest)
        if len(head) > _LONGEST_OPTIONS:
            break
    raise InvalidInput("The body does not begin with a line of options", field="body")


async def _joined(first: bytes, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in blocks:
        yield block


def _wanted(fields: Fields, project: str) -> BuildRequest:
    return BuildRequest(
        names=tuple(_name(name) for name in fields.texts("names")),
        builder=fields.text("builder", "") or "dockerfile",
        dockerfile=fields.text("dockerfile", ""),
        target=fields.text("target", ""),
        platform=fields.text("platform", ""),
        arguments=fields.mapping("arguments", empty=True),
        labels=fields.mapping("labels", empty=True),
        secrets=_secrets(fields.mapping("secrets", empty=True)),
        no_cache=fields.boolean("no_cache"),
        pull=fields.boolean("pull"),
        network=fields.text("network", "") or "default",
        agents=_agents(fields.texts("agents")),
        remote=fields.text("remote", ""),
        contexts=fields.mapping("contexts", empty=True),
        imports=tuple(filter(None, map(cache_import, _caches(fields, "cache_from")))),
        exports=tuple(map(cache_export, _caches(fields, "cache_to"))),
        config=fields.mapping("config"),
        output=_output(fields.text("output", "")),
        project=project,
    )


def _caches(fields: Fields, name: str) -> list[dict[str, str]]:
    found = [{key: each.text(key, "") for key in each.names()} for each in fields.objects(name)]
    if len(found) > MOST_CACHES:
        raise InvalidInput(f"There are more than {MOST_CACHES} caches", field=name)
    return found


def _credentials(fields: Fields) -> Mapping[str, Credentials]:
    given = fields.inside("credentials")
    return {domain: credentials_of(given.mapping(domain)) for domain in given.names()}


def _name(name: str) -> str:
    """The full name of an image of a registry. Raises InvalidInput."""
    return alias_name(parse(name).tagged().full, "names")


def _output(text: str) -> Output:
    try:
        return Output(text or "image")
    except ValueError:
        raise InvalidInput(
            f"There is no output {text[:40]!r}", field="output", remedy=f"use {', '.join(Output)}"
        ) from None


def _agents(found: Sequence[str]) -> frozenset[str]:
    if len(found) > _MOST_AGENTS or any(not name or len(name) > 100 for name in found):
        raise InvalidInput("There are too many agents, or an id of an agent is empty or too long", field="agents")
    return frozenset(found)


def _secrets(found: Mapping[str, str]) -> Mapping[str, bytes]:
    try:
        return {name: base64.b64decode(value, validate=True) for name, value in found.items()}
    except (ValueError, binascii.Error):
        raise InvalidInput("A secret is not base64", field="secrets") from None


async def _streamed(request: Request, operation: Operation, following: Following) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request.http)
    async for event in following.events(operation, lambda: is_gone(request.http)):
        await response.write(
            dumps(_document(event)) + b"\n" + (event.data if event.kind is BuildEventKind.DATA else b"")
        )
    await response.write(dumps(_ending(operation)) + b"\n")
    await response.write_eof()
    return response


def _document(event: BuildEvent) -> Mapping[str, object]:
    found: dict[str, object] = {"type": event.kind.value, "stage": event.stage}
    if event.kind is BuildEventKind.AGENT:
        return {**found, "id": event.text, "token": event.token, "data": base64.b64encode(event.data).decode()}
    if event.kind is BuildEventKind.DATA:
        return {"type": event.kind.value, "size": len(event.data), **({"name": event.text} if event.text else {})}
    if event.kind is BuildEventKind.OUTPUT:
        return {**found, "text": event.data.decode("utf-8", "replace"), "stderr": event.stderr}
    if event.kind is BuildEventKind.STEP:
        found |= {"number": event.number, "total": event.total}
    return {**found, "text": event.text}


def _ending(operation: Operation) -> Mapping[str, object]:
    error = operation.error
    if error is None:
        fingerprint = operation.metadata.get("fingerprint")
        return {"type": "image", "fingerprint": fingerprint} if fingerprint else {"type": "done"}
    if not isinstance(error, IsolaError):
        return {"type": "error", "text": "the build was cancelled", "code": "cancelled"}
    status = {"status": error.status} if isinstance(error, ProgramFailed) else {}
    return {"type": "error", "text": str(error), "code": error.code, **status}


ROUTES = (
    ("GET", "/1.0/isola/builds/builders", builders, Permission.TRUSTED),
    ("POST", "/1.0/isola/builds", build, Permission.EDIT),
    ("POST", "/1.0/isola/builds/replies/{token}", reply, Permission.EDIT),
    ("DELETE", "/1.0/isola/builds/cache", prune, Permission.ADMIN),
)
