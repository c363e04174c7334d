"""Copies files into and out of instances. Everything from an instance or an image is hostile: names are checked,
symbolic links on this side are never followed, and a file gets its name only when it is complete."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from isola.cli.arguments import UsageError
from isola.cli.terminal import clean
from isola.client import Client
from isola.client.files import DIRECTORY, FILE, SYMLINK, Entry, Files
from isola.client.writing import write_all
from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported

OPEN_DIRECTORY = 0o755
"""Mode of created parent directories; the daemon's default permits only their owner."""
_NO_RECURSION = "--recursive copies directories"


class Owner:
    """Owner, group and mode given by the user; None means those of the source or the daemon's default."""

    def __init__(self, uid: int | None = None, gid: int | None = None, mode: int | None = None) -> None:
        self.uid = uid
        self.gid = gid
        self.mode = mode


# --- into an instance ---------------------------------------------------------------------------------------------


def push_all(
    files: Files, sources: Sequence[str], target: str, owner: Owner, *, recursive: bool, parents: bool
) -> None:
    """Copy into an instance: into ``target`` if it is a directory, else to the path ``target``."""
    into = target.endswith("/") or len(sources) > 1 or _kind_inside(files, target) == DIRECTORY
    if parents:
        make_parents(files, target if into else os.path.dirname(target), itself=True)
    for source in sources:
        if into and source == "-":
            raise UsageError("Standard input needs a file name", hint="as in web1/etc/motd")
        name = os.path.basename(os.path.abspath(source))
        place = f"{target.rstrip('/')}/{name}" if into else target
        with needing_directories(files, place):
            push_one(files, source, place, owner, recursive=recursive)


def push_one(files: Files, source: str, target: str, owner: Owner, *, recursive: bool) -> None:
    """Copy one file, or with ``recursive`` a directory."""
    if source == "-":
        sys.stdin.flush()
        files.write(target, 0, uid=owner.uid, gid=owner.gid, mode=owner.mode)
        return
    if not os.path.isdir(source):
        with open(source, "rb", buffering=0) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) if owner.mode is None else owner.mode
            files.write(target, file.fileno(), uid=owner.uid or 0, gid=owner.gid or 0, mode=mode)
        return
    if not recursive:
        raise UsageError(f"{source} is a directory", hint=_NO_RECURSION)
    _push_tree(files, source, target, owner)


def _push_tree(files: Files, source: str, target: str, owner: Owner) -> None:
    mode = stat.S_IMODE(os.stat(source).st_mode)
    files.make_directory(target, uid=owner.uid, gid=owner.gid, mode=mode)
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            inner = f"{target}/{entry.name}"
            if entry.is_symlink():
                files.make_symlink(inner, os.readlink(entry.path), uid=owner.uid, gid=owner.gid)
            elif entry.is_dir():
                _push_tree(files, entry.path, inner, owner)
            elif entry.is_file():
                push_one(files, entry.path, inner, owner, recursive=False)
            else:
                sys.stderr.write(f"Skipped: {entry.path} is neither file, directory nor symbolic link\n")


@contextmanager
def needing_directories(files: Files, path: str) -> Iterator[None]:
    """Adds a remedy to an error caused by a missing parent directory of ``path``."""
    try:
        yield
    except NotFound:
        folder = os.path.dirname(path)
        if not _kind_inside(files, "/") or _kind_inside(files, folder):
            raise
        raise NotFound(f"There is no directory {folder} in the instance", remedy="create it with -p") from None


def make_parents(files: Files, path: str, *, itself: bool = False) -> None:
    """Create the parent directories of ``path``."""
    parts = [part for part in path.split("/") if part]
    for depth in range(1, len(parts) + (1 if itself else 0)):
        folder = "/" + "/".join(parts[:depth])
        if not _kind_inside(files, folder):
            files.make_directory(folder, mode=OPEN_DIRECTORY)


def _kind_inside(files: Files, path: str) -> str:
    """The kind of file at a path; empty if there is none."""
    try:
        with files.follow(path) as entry:
            return entry.kind
    except NotFound:
        return ""


# --- out of an instance -------------------------------------------------------------------------------------------


def pull_all(places: Sequence[tuple[Files, str]], target: str, *, recursive: bool, parents: bool) -> None:
    """Copy out of instances: into ``target`` if it is a directory, else to the path ``target``."""
    if target == "-":
        for files, path in places:
            with files.follow(path) as entry:
                _only_a_file(entry, path)
                for piece in entry:
                    write_all(1, piece)
        return
    into = target.endswith("/") or len(places) > 1 or os.path.isdir(target)
    if parents:
        os.makedirs(target if into else os.path.dirname(target) or ".", exist_ok=True)
    for files, path in places:
        folder, name = (target, os.path.basename(path.rstrip("/"))) if into else os.path.split(target)
        if not name:
            raise UsageError("The target needs a name", hint="name the file or directory to create")
        fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _pull(files, path, fd, name, recursive=recursive, named=True)
        finally:
            os.close(fd)


def _only_a_file(entry: Entry, path: str) -> None:
    if entry.kind != FILE:
        raise InvalidInput(f"{path} is a {entry.kind}, not a file")


def _pull(files: Files, path: str, folder: int, name: str, *, recursive: bool, named: bool = False) -> None:
    """A symbolic link is followed if the user ``named`` it; one inside a directory is copied as a link."""
    with files.follow(path) if named else files.open(path) as entry:
        if entry.kind == FILE:
            save(entry, folder, name, mode=entry.mode)
            return
        if entry.kind == SYMLINK:
            _link(entry.target(), folder, name)
            return
        if not recursive:
            raise UsageError(f"{path} is a directory", hint=_NO_RECURSION)
        names = entry.names()
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    # O_NOFOLLOW: an existing symbolic link must not redirect the copy
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        for child in names:
            place = f"{path.rstrip('/')}/{child}"
            try:
                _pull(files, place, inner, child, recursive=True)
            except (NotFound, Unsupported) as error:
                # Deleted meanwhile, a name that is not UTF-8, or a FIFO, socket or device: the copy continues.
                sys.stderr.write(f"Skipped: {clean(place)}: {clean(error.message)}\n")
    finally:
        os.close(inner)


def _link(target: str, folder: int, name: str) -> None:
    temporary = f".{name}.isola"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    os.symlink(target, temporary, dir_fd=folder)
    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def save(pieces: Iterable[bytes], folder: int, name: str, *, mode: int | None = None) -> None:
    """Write a file that gets its name only when it is complete; setuid and setgid bits are dropped."""
    temporary = f".{name[:200]}.{os.getpid()}.isola"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        for piece in pieces:
            write_all(fd, piece)
        os.fchmod(fd, 0o644 if mode is None else mode & 0o777)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(fd)


# --- images -------------------------------------------------------------------------------------------------------


def save_image(client: Client, reference: str, target: str, *, oci: bool = False) -> list[str]:
    """Write an exported image; returns the paths written."""
    response = client.images.export(reference, oci=oci)
    try:
        if response.headers.get("content-type", "").startswith("multipart/"):
            from isola.client.multipart import Splitter

            if target == "-":
                raise IsolaError("This image consists of two files", remedy="name a directory to write them to")
            return [_save_as(pieces, target, name, whole=False) for name, pieces in Splitter(response).parts()]
        if target == "-":
            for piece in response:
                write_all(1, piece)
            return []
        offered = _offered_name(response.headers.get("content-disposition", "")) or f"{reference.replace('/', '-')}.tar"
        return [_save_as(response, target, offered, whole=True)]
    finally:
        client.release(response)


def _save_as(pieces: Iterable[bytes], target: str, offered: str, *, whole: bool) -> str:
    """The path to write: in ``target`` if that is a directory, else ``target`` with the suggested suffix."""
    offered = _plain_name(offered)
    if target and not target.endswith("/") and not os.path.isdir(target):
        folder, name = os.path.split(target)
        suffix = offered[offered.index(".") :] if "." in offered else ""
        if not whole:
            name += "." + offered
        elif "." not in name:
            name += suffix
    else:
        folder, name = target, offered
    fd = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        save(pieces, fd, name)
    finally:
        os.close(fd)
    return os.path.join(folder, name)


def _offered_name(disposition: str) -> str:
    _, found, rest = disposition.partition("filename=")
    return rest.partition(";")[0].strip().strip('"') if found else ""


def _plain_name(name: str) -> str:
    """A name from the server as a single safe path component."""
    plain = "".join(c for c in os.path.basename(name) if c.isprintable() and c not in '/\\"')
    return plain.lstrip(".")[:200] or "image"
