"""Files inside an instance."""

from __future__ import annotations

import os
import stat

from isola.client.api import Api
from isola.client.http import FileBody, Response
from isola.client.reply import Reply
from isola.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isola.client.interpreter import socket

FILE, DIRECTORY, SYMLINK = "file", "directory", "symlink"
_LINKS = 40
"""Symbolic links to follow for one path; the kernel's limit too."""


class Entry:
    """A file, directory or symbolic link. Iterating reads a file's content; ``close`` releases the connection."""

    def __init__(self, client: Api, response: Response) -> None:
        self._client = client
        self._response = response
        self.kind = _header(response, "type") or FILE
        self.uid = _number(_header(response, "uid"), 10)
        self.gid = _number(_header(response, "gid"), 10)
        self.mode = _number(_header(response, "mode"), 8)
        length = response.headers.get("content-length", "")
        self.size = int(length) if length.isdigit() and self.kind == FILE else None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def names(self) -> list[str]:
        """Names in a directory, sorted; invalid names are left out."""
        listed = Reply.read(self._response).metadata
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        return sorted(name for name in names if name not in ("", ".", "..") and "/" not in name and "\0" not in name)

    def target(self) -> str:
        """The target of a symbolic link."""
        return self._response.read(65536).decode("utf-8", "surrogateescape").rstrip("\n")

    def close(self) -> None:
        self._client.release(self._response)

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Files:
    """The file system of an instance, running or not. Paths are absolute."""

    def __init__(self, client: Api, instance: str) -> None:
        self._client = client
        self._path = f"{instance}/files"
        self._sftp = f"{instance}/sftp"

    def sftp(self) -> tuple[socket, bool]:
        """A connection for SFTP, which the caller closes, and whether it uses TLS."""
        from isola.client.upgrade import upgrade

        return upgrade(self._client, self._sftp, "sftp")

    def open(self, path: str) -> Entry:
        """The entry at ``path``; symbolic links are not followed. Raises NotFound."""
        response = self._client.exchange("GET", self._path, query={"path": path})
        if response.status >= 400:
            self._fail(response)
        return Entry(self._client, response)

    def follow(self, path: str) -> Entry:
        """The entry at ``path``, with symbolic links followed inside the instance. Raises NotFound, InvalidInput."""
        place = path
        for _ in range(_LINKS):
            entry = self.open(place)
            if entry.kind != SYMLINK:
                return entry
            with entry:
                target = entry.target()
            # Not normalized: ``..`` is resolved inside the instance.
            place = os.path.join(os.path.dirname(place.rstrip("/")), target)
        raise InvalidInput(f"{path} leads through too many symbolic links")

    def read(self, path: str) -> bytes:
        with self.follow(path) as entry:
            return b"".join(entry)

    def names(self, path: str) -> list[str]:
        """Names in a directory; empty for other files. Raises NotFound."""
        with self.follow(path) as entry:
            return entry.names() if entry.kind == DIRECTORY else []

    def write(
        self,
        path: str,
        body: bytes | int | Iterable[bytes],
        *,
        uid: int | None = None,
        gid: int | None = None,
        mode: int | None = None,
        append: bool = False,
    ) -> None:
        """Write a file from bytes, blocks of bytes, or a descriptor."""
        how = "append" if append else "overwrite"
        headers = [*_owner(uid, gid, mode), ("X-LXD-type", FILE), ("X-LXD-write", how)]
        self._post(path, headers, _body_of(body) if isinstance(body, int) else body)

    def make_directory(
        self, path: str, *, uid: int | None = None, gid: int | None = None, mode: int | None = None
    ) -> None:
        """Create a directory; no effect if it exists."""
        self._post(path, [*_owner(uid, gid, mode), ("X-LXD-type", DIRECTORY)], b"")

    def make_symlink(self, path: str, target: str, *, uid: int | None = None, gid: int | None = None) -> None:
        data = target.encode("utf-8", "surrogateescape")
        self._post(path, [*_owner(uid, gid, None), ("X-LXD-type", SYMLINK)], data)

    def delete(self, path: str) -> None:
        """Delete a file or an empty directory."""
        self._client.call("DELETE", self._path, query={"path": path})

    def delete_tree(self, path: str) -> None:
        """Delete a file, or a directory with its contents."""
        with self.open(path) as entry:
            names = entry.names() if entry.kind == DIRECTORY else []
        for name in names:
            self.delete_tree(f"{path.rstrip('/')}/{name}")
        self.delete(path)

    def _post(self, path: str, headers: list[tuple[str, str]], body: bytes | FileBody | Iterable[bytes]) -> None:
        headers = [*headers, ("Content-Type", "application/octet-stream")]
        response = self._client.exchange("POST", self._path, body, query={"path": path}, headers=headers)
        try:
            Reply.read(response)
        finally:
            self._client.release(response)

    def _fail(self, response: Response) -> None:
        try:
            Reply.read(response)
        finally:
            self._client.release(response)


def _owner(uid: int | None, gid: int | None, mode: int | None) -> list[tuple[str, str]]:
    headers = []
    if uid is not None:
        headers.append(("X-LXD-uid", str(uid)))
    if gid is not None:
        headers.append(("X-LXD-gid", str(gid)))
    if mode is not None:
        headers.append(("X-LXD-mode", f"{mode:04o}"))
    return headers


def _body_of(fd: int) -> FileBody | Iterator[bytes]:
    """A regular file is sent by sendfile; any other is read until EOF."""
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        return FileBody(fd, max(0, found.st_size - os.lseek(fd, 0, os.SEEK_CUR)))
    return iter(lambda: os.read(fd, 262144), b"")


def _header(response: Response, name: str) -> str:
    return response.headers.get(f"x-lxd-{name}") or response.headers.get(f"x-incus-{name}") or ""


def _number(text: str, base: int) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None
