"""Files of containers: copied both ways as archives, exported as a whole, and what differs from the image."""

from __future__ import annotations

import base64
import posixpath
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from aiohttp import web

from isola.doors.docker.answers import HEADERS, answer, empty
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import named
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission, Route
from isola.doors.http.json import dumps
from isola.doors.http.storing import stored
from isola.errors import Forbidden, InvalidInput, NotFound
from isola.host.files import Entry, Root
from isola.instances.copying import read_tree
from isola.instances.places import Place
from isola.model.instance import Devices
from isola.settings import boolean

_TAR = {"Content-Type": "application/x-tar"}
_STAT = "X-Docker-Container-Path-Stat"
_GO_MODES = (
    (stat.S_IFDIR, 1 << 31),
    (stat.S_IFLNK, 1 << 27),
    (stat.S_IFBLK, 1 << 26),
    (stat.S_IFCHR, 1 << 26 | 1 << 21),
    (stat.S_IFIFO, 1 << 25),
    (stat.S_IFSOCK, 1 << 24),
)
"""Types of files -> bits of Go's ``FileMode``."""
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_DEFAULT_USERS = ("", "0")
"""Of containers without a user of their own: owners stay as in the archive."""
_FORMATS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


async def changes(request: Request) -> web.StreamResponse:
    """Files that differ from those of the image."""
    found = await request.services.instances.contents.changes(named(request).ref, caller=request.caller)
    return answer([{"Path": each.path, "Kind": int(each.kind)} for each in found])


async def export(request: Request) -> web.StreamResponse:
    """The root file system as a tar archive, without volumes."""
    instance = named(request)
    async with request.services.instances.contents.tree(instance.ref) as pieces:
        request.told("exported", instance.ref)
        return await _send(request, pieces, _TAR)


async def look(request: Request) -> web.StreamResponse:
    """What kind of file a path names, in a header."""
    async with request.services.instances.place(named(request).ref, _path(request)) as place:
        _, entry, name = await _found(request, place)
        return web.Response(headers=HEADERS | {_STAT: _described(entry, name)})


async def get(request: Request) -> web.StreamResponse:
    """A file or directory as a tar archive."""
    instance = named(request)
    async with request.services.instances.place(instance.ref, _path(request)) as place:
        path, entry, name = await _found(request, place)
        request.told("file-retrieved", instance.ref, path=path)
        shown = "." if name == "/" else name
        return await _send(request, read_tree(place.root, path, shown), _TAR | {_STAT: _described(entry, name)})


async def put(request: Request) -> web.StreamResponse:
    """Unpack a tar archive, compressed or not, to a directory of the container."""
    instance, path = named(request), _path(request)
    _require_writable(view(request, instance).devices, path)
    async with request.services.instances.place(instance.ref, path) as place:
        if place.read_only:
            raise Forbidden("mounted volume is marked read-only")
        if (await _status(request, place.root, place.path, follow=True)).kind != "directory":
            raise InvalidInput("extraction point is not a directory")
    if not request.http.body_exists:
        return empty(200)  # nothing to unpack, as in Docker
    async with stored(request.services, request.blocks()) as upload:
        await request.services.instances.contents.put(
            instance.ref,
            upload,
            path,
            own=request.flag("copyUIDGID") and instance.start.user not in _DEFAULT_USERS,
            strict=request.flag("noOverwriteDirNonDir"),
        )
    request.told("file-pushed", instance.ref, path=path)
    return empty(200)


def _require_writable(devices: Devices, path: str) -> None:
    """Raises Forbidden for what is in a root or a volume that was given read-only, running or not."""
    wanted = posixpath.normpath("/" + path.lstrip("/"))
    disks = [(each.get("path", ""), each) for each in devices.values() if each.get("type") == "disk"]
    above = [(point, each) for point, each in disks if point and f"{wanted}/".startswith(f"{point.rstrip('/')}/")]
    point, device = max(above, key=lambda each: len(each[0]), default=("/", {}))
    if boolean(device.get("readonly") or "false"):
        what = "container rootfs" if point == "/" else "mounted volume"
        raise Forbidden(f"{what} is marked read-only")


async def _found(request: Request, place: Place) -> tuple[str, Entry, str]:
    """The path, what it names, and its last component, which is ``.`` if it ends so.

    A path that ends with ``/`` or ``/.`` names a directory, also through a link.
    """
    path = _path(request)
    whole = path.endswith(("/", "/."))
    clean = posixpath.normpath(place.path)
    entry = await _status(request, place.root, clean, follow=whole)
    if whole and entry.kind != "directory":
        raise InvalidInput("not a directory")
    name = "." if path.endswith("/.") else posixpath.basename(posixpath.normpath(path)) or "/"
    return f"{clean.rstrip('/')}/." if whole or clean == "/" else clean, entry, name


async def _status(request: Request, root: Root, path: str, *, follow: bool) -> Entry:
    try:
        return await root.stat(path, follow=follow)
    except NotFound:
        name, asked = request.parameters["name"], posixpath.normpath(_path(request))
        raise NotFound(f"Could not find the file {asked[:500]} in container {name[:200]}") from None


def _path(request: Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidInput("bad parameter: 'path' cannot be empty", field="path")
    return "/" + path.lstrip("/")


def _described(entry: Entry, name: str) -> str:
    moment = datetime.fromtimestamp(min(max(entry.modified, 0), 1 << 33), UTC)
    fields = {
        "name": name,
        "size": entry.size,
        "mode": _go_mode(entry),
        "mtime": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "linkTarget": entry.target,
    }
    return base64.b64encode(dumps(fields)).decode()


def _go_mode(entry: Entry) -> int:
    kind = entry.format or _FORMATS.get(entry.kind, 0)
    mode = entry.mode & 0o777
    mode |= next((bit for format_, bit in _GO_MODES if format_ == kind), 0)
    return mode | sum(bit for flag, bit in _GO_BITS if entry.mode & flag)


async def _send(request: Request, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """Errors before the first piece are responses of their own; a later one breaks the connection."""
    first = await anext(pieces)
    response = web.StreamResponse(headers=HEADERS | headers)
    await response.prepare(request.http)
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


ROUTES: tuple[Route, ...] = (
    ("GET", "/containers/{name}/changes", changes, Permission.VIEW),
    ("GET", "/containers/{name}/export", export, Permission.EDIT),
    ("HEAD", "/containers/{name}/archive", look, Permission.EDIT),
    ("GET", "/containers/{name}/archive", get, Permission.EDIT),
    ("PUT", "/containers/{name}/archive", put, Permission.EDIT),
)
