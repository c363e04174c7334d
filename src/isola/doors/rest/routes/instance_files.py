"""Files inside instances, with their owners and modes in headers."""

from __future__ import annotations

import stat
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import web

from isola.doors.http.json import dumps
from isola.doors.rest.acting import publishing
from isola.doors.rest.answers import SYNC, sync
from isola.doors.rest.lookup import instance_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission, in_every_tree
from isola.errors import InvalidInput
from isola.host.files import Entry, Root

_RAW = "application/octet-stream"
_TARGET_LIMIT = 4096
_ID = 2**32 - 2
_FILE_TYPES = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_DIRECTORY_MODE = 0o750
"""Mode of a new directory if the client gives none, as in LXD."""


async def get(request: Request) -> web.StreamResponse:
    """The content of a file, the names in a directory, or the target of a symbolic link."""
    path = _path(request)
    async with request.services.instances.files(instance_of(request).ref) as root:
        entry = await root.stat(path, follow=False)
        if request.http.method == "HEAD":
            return _head(entry)
        if entry.kind == "directory":
            return await _list(request, root, path, entry)
        if entry.kind == "symlink":
            target = entry.target.encode(errors="surrogateescape")
            return web.Response(body=target, headers=_headers(entry), content_type=_RAW)
        return await _send(request, root, path, entry)


async def post(request: Request) -> web.StreamResponse:
    """Write a file, create a directory or a symbolic link."""
    path = _path(request)
    uid, gid = (_number(request, name, 10, _ID) for name in ("uid", "gid"))
    mode = _mode(request)
    kind = request.header("type") or "file"
    how = request.header("write") or "overwrite"
    if how not in ("overwrite", "append"):
        raise InvalidInput("Unknown write mode", field="X-LXD-write", remedy="use overwrite or append")
    async with request.services.instances.files(instance_of(request).ref) as root:
        if kind == "directory":
            await root.make_directory(
                path, uid=_owner(uid), gid=_owner(gid), mode=_DIRECTORY_MODE if mode is None else mode
            )
        elif kind == "symlink":
            target = _target(await request.body(_TARGET_LIMIT))
            await root.make_symlink(path, target, uid=_owner(uid), gid=_owner(gid))
        elif kind == "file":
            content = request.blocks()
            await root.write(
                path,
                content,
                uid=-1 if uid is None else uid,
                gid=-1 if gid is None else gid,
                mode=mode,
                append=how == "append",
            )
        else:
            raise InvalidInput("Unknown type", field="X-LXD-type", remedy="use file, directory or symlink")
    return sync()


async def delete(request: Request) -> web.StreamResponse:
    """Remove a file, a link or an empty directory."""
    path = _path(request)
    async with request.services.instances.files(instance_of(request).ref) as root:
        await root.remove(path)
    return sync()


def _head(entry: Entry) -> web.StreamResponse:
    """The response to ``HEAD``: type and size without content."""
    more = {"Content-Type": _RAW, "Content-Length": str(entry.size)} if entry.kind == "file" else {}
    return web.Response(headers=_headers(entry) | more)


async def _list(request: Request, root: Root, path: str, entry: Entry) -> web.StreamResponse:
    """Stream the names in blocks: a directory may have millions."""
    pieces = await root.names(path)
    first, second = await anext(pieces, None), await anext(pieces, None)
    if second is None:
        answer = sync(list(first or ()))
        answer.headers.update(_headers(entry))
        return answer
    response = web.StreamResponse(headers={**_headers(entry), "Content-Type": "application/json"})
    await response.prepare(request.http)
    beginning, end = SYNC
    await response.write(beginning + dumps(first)[:-1])
    await response.write(b"," + dumps(second)[1:-1])
    async for piece in pieces:
        await response.write(b"," + dumps(piece)[1:-1])
    await response.write(b"]" + end)
    await response.write_eof()
    return response


async def _send(request: Request, root: Root, path: str, entry: Entry) -> web.StreamResponse:
    """Send a file, with Content-Length if known: growth meanwhile is cut off, shrinking breaks the connection."""
    content = await root.read(path)
    response = web.StreamResponse(headers={**_headers(entry), "Content-Type": _RAW})
    left = entry.size or None  # files of /proc and /sys have size 0 and content
    response.content_length = left
    await response.prepare(request.http)
    async for block in content:
        await response.write(block if left is None else block[:left])
        if left is not None:
            left = max(0, left - len(block))
        if left == 0:
            break
    if left:
        raise ConnectionError("the file shrank while it was read")
    await response.write_eof()
    return response


def _headers(entry: Entry) -> dict[str, str]:
    values = {
        "uid": str(entry.uid),
        "gid": str(entry.gid),
        "mode": f"{entry.mode & 0o7777:04o}",
        "type": entry.kind if entry.kind in ("file", "directory", "symlink") else "file",
    }
    with suppress(
        ValueError, OverflowError, OSError
    ):  # the instance chooses its times, which may be beyond the year 9999
        values["modified"] = f"{datetime.fromtimestamp(entry.modified, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"
    return {f"X-{dialect}-{name}": value for dialect in ("LXD", "Incus") for name, value in values.items()}


def _path(request: Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidInput("No path is given", field="path", remedy="add ?path=/...")
    return "/" + path.lstrip("/")


def _mode(request: Request) -> int | None:
    """Permissions; clients may send a whole ``st_mode``, whose file type is ignored, as in LXD."""
    mode = _number(request, "mode", 8, 0o177777)
    if mode is None:
        return None
    if stat.S_IFMT(mode) not in _FILE_TYPES:
        raise InvalidInput(f"Invalid mode {mode:#o}", field="X-LXD-mode")
    return stat.S_IMODE(mode)


def _number(request: Request, name: str, base: int, maximum: int) -> int | None:
    text = request.header(name)
    if not text:
        return None
    try:
        number = int(text.removeprefix("0o") if base == 8 else text, base)
    except ValueError:
        number = -1
    if base == 10 and number == -1 and text == "-1":
        return None
    if not 0 <= number <= maximum or not text.isascii():
        raise InvalidInput(f"Invalid {name} {text[:20]!r}", field=f"X-LXD-{name}")
    return number


def _owner(number: int | None) -> int:
    return 0 if number is None else number


def _target(data: bytes) -> str:
    target = data.decode(errors="surrogateescape")
    if not target or "\0" in target:
        raise InvalidInput("The target of the link is missing or contains NUL", field="body")
    return target


def _context(request: Request) -> dict[str, str]:
    return {"path": _path(request)}


_FILES = "/1.0/instances/{name}/files"
ROUTES = in_every_tree(
    ("GET", _FILES, publishing("instance-file-retrieved", get, _context), Permission.OPERATE),
    ("POST", _FILES, publishing("instance-file-pushed", post, _context), Permission.OPERATE),
    ("DELETE", _FILES, publishing("instance-file-deleted", delete, _context), Permission.OPERATE),
)
