"""Images as archives: saved, loaded, and made of root file systems."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from isola.doors.docker.answers import HEADERS
from isola.doors.docker.architectures import SYSTEMS, require_platform_name
from isola.doors.docker.image_lookup import check_platform, find_image, fits, image_id, wanted_platform
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.json import dumps
from isola.doors.http.storing import new_scratch, store
from isola.errors import InvalidInput, IsolaError
from isola.host.cancellation import finish
from isola.images.architecture import of_platform
from isola.images.platforms import parse_platform
from isola.images.root_import import RootImport
from isola.model.image import Image
from isola.model.image_reference import is_id, parse, parse_full
from isola.model.reference import Kind, Ref
from isola.operations import Operation

_MOST = 200
_PAUSE = 0.1
_BAR = 50
_UNITS = ("B", "kB", "MB", "GB", "TB")


async def get_one(request: Request) -> web.StreamResponse:
    """One image, or all of a repository, as an archive that ``load`` reads."""
    return await _save(request, [request.parameters["name"]])


async def get_several(request: Request) -> web.StreamResponse:
    """Several images in one archive."""
    names = [name for text in request.values("names") for name in text.split(",") if name]
    if not names or len(names) > _MOST:
        raise InvalidInput(f"from 1 to {_MOST} names are expected", field="names")
    return await _save(request, names)


async def load(request: Request) -> web.StreamResponse:
    """Load all images of an archive; progress and names as lines of JSON."""
    _require_one_platform(request)
    directory = await new_scratch(request.services)
    try:
        archives = request.services.images.archives
        operation = archives.load(
            await archives.receive(request.blocks(), directory),
            scratch=directory,
            project=request.home(Kind.IMAGE),
            caller=request.caller,
        )
    except BaseException as error:
        await finish(request.services.host.files.remove_tree(directory))
        if not isinstance(error, InvalidInput):
            raise
        return await _refused(request, error)  # clients look for it among the lines
    wanted = wanted_platform(request)
    lines_of = partial(_loaded, request, fits=lambda fingerprint: _fits(request, fingerprint, wanted), platform=wanted)
    return await _follow(request, operation, lines_of, quiet=request.flag("quiet"))


def _fits(request: Request, fingerprint: str, wanted: Mapping[str, str]) -> bool:
    image = request.services.images.resolve(Ref(request.home(Kind.IMAGE), fingerprint)) if wanted else None
    return image is None or fits(image, wanted)


async def import_root(request: Request) -> web.StreamResponse:
    """Make an image of a root file system in the body."""
    query = request.query
    if query.get("fromSrc") != "-":
        raise InvalidInput("only an archive in the body can be imported", field="fromSrc", remedy="use -")
    reference = parse(query["repo"]) if query.get("repo") else None
    if reference is not None and reference.digest:
        raise InvalidInput("cannot import digest reference", field="repo")
    if reference is not None:
        reference = reference.at(tag=query["tag"]) if query.get("tag") else reference.tagged()
    machine = _machine(query.get("platform", ""))
    wanted = RootImport(
        (reference.full,) if reference is not None else (),
        tuple(request.values("changes")),
        query.get("message", ""),
        machine,
    )
    wanted.check()
    directory = await new_scratch(request.services)
    try:
        await store(request.blocks(), directory / "upload")
        operation = request.services.images.archives.import_root(
            directory / "upload", wanted, scratch=directory, project=request.home(Kind.IMAGE), caller=request.caller
        )
    except BaseException:
        await finish(request.services.host.files.remove_tree(directory))
        raise
    # Nothing is sent before the end: clients that do not read the lines take the response for it.
    await operation.wait()
    return await _follow(request, operation, partial(_imported, request), quiet=True)


def _machine(text: str) -> str:
    """The architecture of a platform; empty if none is given. Raises InvalidInput."""
    system = require_platform_name(text).partition("/")[0]
    if system in SYSTEMS - {"linux"}:
        raise InvalidInput("operating system is not supported", field="platform")
    try:
        name, variant = parse_platform(text.lower())
        return of_platform(name, variant) if name else ""
    except (ValueError, InvalidInput):
        raise InvalidInput(f'"{text[:80]}": unknown operating system or architecture', field="platform") from None


async def _save(request: Request, names: list[str]) -> web.StreamResponse:
    _require_one_platform(request)
    chosen: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        for image, aliases in _named(request, name):
            check_platform(request, image, name)
            known = chosen.setdefault(image.fingerprint, (image, []))[1]
            known.extend(alias for alias in aliases if alias not in known)
    pieces = request.services.images.archives.save(list(chosen.values()))
    first = await anext(pieces)
    response = web.StreamResponse(headers=HEADERS | {"Content-Type": "application/x-tar"})
    await response.prepare(request.http)
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    for id in map(image_id, chosen):
        request.history.tell("image", "save", id, name=id)
    await response.write_eof()
    return response


def _require_one_platform(request: Request) -> None:
    if len(request.values("platform")) > 1:
        raise InvalidInput("multiple platform parameters not supported", field="platform")


def _named(request: Request, text: str) -> Iterator[tuple[Image, list[str]]]:
    """The image that a text names, with this name; for a repository without a tag all of its images."""
    if not is_id(text):
        try:
            reference = parse(text)
        except InvalidInput:
            reference = None
        if reference is not None and reference.is_name_only:
            found = list(_of_repository(request, reference.name))
            if found:
                yield from found
                return
    image = find_image(request, text)
    own = {alias.name for alias in request.services.images.names_of(image)}
    try:
        full = parse(text).tagged().full
    except InvalidInput:
        full = text
    yield image, [name for name in (full, text) if name in own][:1]


def _of_repository(request: Request, name: str) -> Iterator[tuple[Image, list[str]]]:
    images, home = request.services.images, request.home(Kind.IMAGE)
    for alias in images.aliases():
        found = parse_full(alias.name) if alias.project == home else None
        if found is not None and found.name == name and found.tag:
            image = images.resolve(alias.ref)
            if image is not None:
                yield image, [alias.name]


async def _follow(request: Request, operation: Operation, lines_of: Any, *, quiet: bool) -> web.StreamResponse:
    """The progress of an operation, and its result, as lines of JSON."""
    response = web.StreamResponse(headers=HEADERS | {"Content-Type": "application/json"})
    await response.prepare(request.http)
    try:
        async for line in _progress(operation, quiet):
            await response.write(dumps(line) + b"\n")
        await request.services.operations.finish(operation)
        for line in lines_of(operation):
            await response.write(dumps(line) + b"\n")
    except IsolaError as error:
        await response.write(_error_line(error))
    await response.write_eof()
    return response


async def _refused(request: Request, error: IsolaError) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS | {"Content-Type": "application/json"})
    await response.prepare(request.http)
    await response.write(_error_line(error))
    await response.write_eof()
    return response


def _error_line(error: IsolaError) -> bytes:
    return dumps({"errorDetail": {"message": str(error)}, "error": str(error)}) + b"\n"


async def _progress(operation: Operation, quiet: bool) -> AsyncIterator[dict[str, object]]:
    while not await operation.wait(_PAUSE):
        for step in () if quiet else operation.view().steps:
            if step.unit == "bytes" and step.total:
                current = min(step.done, step.total)
                detail = {"current": current, "total": step.total}
                status, _, id = step.name.rpartition(" ")
                yield {"status": status, "progressDetail": detail, "progress": _bar(current, step.total), "id": id}


def _bar(current: int, total: int) -> str:
    filled = _BAR * current // total
    return f"[{'=' * filled}>{' ' * (_BAR - filled)}]  {_size(current)}/{_size(total)}"


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.4g}{unit}"


def _loaded(
    request: Request, operation: Operation, fits: Callable[[str], bool], platform: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    images = operation.metadata.get("images")
    for image in images if isinstance(images, list) else ():
        request.history.tell("image", "load", id := f"sha256:{image['fingerprint']}", name=id)
        if not fits(image["fingerprint"]):
            name = next(iter(image["names"]), f"sha256:{image['fingerprint']}")
            found = parse_full(name)
            raise InvalidInput(
                f"image {found.familiar if found is not None else name} was loaded, but doesn't provide the requested "
                f"platform ({'/'.join(platform.values())})"
            )
        for name in image["names"]:
            found = parse_full(name)
            yield {"stream": f"Loaded image: {found.familiar if found is not None else name}\n"}
        if not image["names"]:
            yield {"stream": f"Loaded image ID: sha256:{image['fingerprint']}\n"}


def _imported(request: Request, operation: Operation) -> Iterator[dict[str, object]]:
    id = f"sha256:{operation.metadata['fingerprint']}"
    request.history.tell("image", "import", id, name=id)
    yield {"status": id}


ROUTES: tuple[Route, ...] = (
    ("GET", "/images/get", get_several, Permission.VIEW),
    ("GET", "/images/{name...}/get", get_one, Permission.VIEW),
    ("POST", "/images/load", load, Permission.EDIT),
)
