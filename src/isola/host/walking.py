"""Resolves paths inside a root that programs may change concurrently.

The kernel resolves a path in one call as long as it stays on the root's own mount, which is the normal case. A path
that crosses a mount is resolved one component at a time: each is opened with ``O_PATH``, and not accessed before the
mount table shows that its file system is not one that may never respond.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from isola.errors import Forbidden, InvalidInput, Unsupported
from isola.host import kernel
from isola.host.mount_table import Mount, MountTable
from isola.model.identity import IdRange

_AT_ONCE = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
_WITHIN = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
_LINKS = 40
"""Symbolic links in one path; the kernel's limit too."""
_DEPTH = 256
"""Directories that are open during a walk."""


@dataclass(frozen=True, slots=True)
class Found:
    """The file at a path, as an ``O_PATH`` descriptor, and its mount."""

    descriptor: int
    mount: Mount
    ids: IdRange | None = None
    """The instance's ids, if the mount may contain files of other owners; None: all files are the instance's."""

    def require(self, bits: int, path: str) -> None:
        """Check that root inside has these permissions: read 4, write 2, search 1. Raises Forbidden.

        The kernel does not check it, because the daemon is root of the host. Capabilities inside an instance apply
        only to files whose owner and group are mapped.
        """
        status = os.fstat(self.descriptor)
        if self.ids is None or self._is_own(status):
            return
        allowed = status.st_mode >> 6 if status.st_uid == self.ids.base else status.st_mode
        if allowed & bits != bits:
            raise _refusal(path)

    def require_own(self, path: str) -> None:
        """Check that root inside may change owner, permissions and times. Raises Forbidden."""
        if self.ids is not None and not self._is_own(os.fstat(self.descriptor)):
            raise _refusal(path)

    def require_change(self, name: bytes, path: str) -> None:
        """Check that root inside may create, rename or remove a name in this directory. Raises Forbidden."""
        self.require(3, path)
        status = os.fstat(self.descriptor)
        if self.ids is None or self._is_own(status) or not status.st_mode & stat.S_ISVTX:
            return
        with contextlib.suppress(FileNotFoundError):
            theirs = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            if not self._is_own(theirs) and theirs.st_uid != self.ids.base:
                raise _refusal(path)

    def _is_own(self, status: os.stat_result) -> bool:
        return self.ids is not None and self.ids.holds(status.st_uid) and self.ids.holds(status.st_gid)

    @property
    def mode(self) -> int:
        """Type and permissions."""
        return os.fstat(self.descriptor).st_mode


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory, and the file of this name, if it exists."""

    directory: Found
    name: bytes
    found: Found | None
    linked: bool = False
    """Reached by a symbolic link at the end of the path."""


class Walker:
    """Resolves paths with one open directory as ``/``. Raises OSError, Unsupported at mounts that are not entered."""

    def __init__(self, root: int, mounts: MountTable, ids: IdRange | None) -> None:
        mounts.root.require_entry("/")
        self._ids = ids
        self._root = Found(root, mounts.root)
        self._mounts = mounts

    @contextlib.contextmanager
    def found(self, path: str, *, follow: bool = True) -> Iterator[Found]:
        with self._place(encoded(path), path, follow=follow) as place:
            if place.found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            yield place.found

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[Found, bytes]]:
        """The directory of the last component, and that component. Raises Unsupported on pseudo file systems."""
        directory, _, name = encoded(path).rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise InvalidInput(f"{path!r} does not name anything in a directory", field="path")
        with self._place(directory + b"/", path) as place:
            if place.found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            _require_directory(place.found)
            place.found.require(1, path)
            place.found.mount.require_store(path)
            yield place.found, name

    @contextlib.contextmanager
    def target(self, path: str) -> Iterator[Place]:
        """The place of an existing or new file of this path, symbolic links followed."""
        with self.parent(path) as (directory, name):
            plain, found = _plain(directory, name)
            if plain:
                try:
                    yield Place(directory, name, found)
                finally:
                    if found is not None:
                        os.close(found.descriptor)
                return
        with contextlib.closing(_Walk(self._root, self._mounts, path, self._ids)) as walk:
            yield walk.run(encoded(path), follow=True)

    @contextlib.contextmanager
    def _place(self, path: bytes, shown: str, *, follow: bool = True) -> Iterator[Place]:
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        try:
            descriptor = kernel.open_beneath(self._root.descriptor, path or b".", flags, _AT_ONCE)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            descriptor = -1
        if descriptor < 0:
            with contextlib.closing(_Walk(self._root, self._mounts, shown, self._ids)) as walk:
                yield walk.run(path, follow=follow or path.endswith(b"/"))
            return
        try:
            yield Place(self._root, path, Found(descriptor, self._root.mount))
        finally:
            os.close(descriptor)


class _Walk:
    """Resolves one path, component by component; descriptors of the result are open until ``close``."""

    def __init__(self, root: Found, mounts: MountTable, shown: str, ids: IdRange | None) -> None:
        self._mounts = mounts
        self._ids = ids
        self._shown = shown
        self._trail = [root]
        self._end: Found | None = None

    def close(self) -> None:
        """Close all but the root."""
        self._close_end()
        self._back_to(1)

    def run(self, path: bytes, *, follow: bool) -> Place:
        pending, links, linked = _names(path), 0, False
        while pending:
            name, here = pending.pop(), self._trail[-1]
            if name == b"..":
                self._back_to(max(1, len(self._trail) - 1))
                continue
            found = self._end = self._step(here, name)
            if found is not None and stat.S_ISLNK(found.mode) and (pending or follow):
                links, linked = links + 1, linked or not pending
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if found.mount.keeps_files:
                    pending += self._target_names(os.readlink(b"", dir_fd=found.descriptor))
                    continue
                found = self._resolved(here, name, found.mount)
            if not pending:
                return Place(here, name, found, linked)
            self._enter(found)
        return Place(self._trail[-1], b"", self._trail[-1], linked)

    def _step(self, here: Found, name: bytes) -> Found | None:
        """Open one component, crossing a mount if there is one; a symbolic link is not followed."""
        try:
            flags = os.O_PATH | os.O_NOFOLLOW
            descriptor = kernel.open_beneath(here.descriptor, name, flags, kernel.RESOLVE_NO_MAGICLINKS)
        except FileNotFoundError:
            return None
        try:
            mount = self._mounts.mount(descriptor, here.mount)
            mount.require_entry(self._shown)
        except BaseException:
            os.close(descriptor)
            raise
        return Found(descriptor, mount, None if mount == self._trail[0].mount else self._ids)

    def _target_names(self, target: bytes) -> list[bytes]:
        """The components of a symbolic link's target."""
        self._close_end()
        if target.startswith(b"/"):
            self._back_to(1)
        return _names(target)

    def _resolved(self, here: Found, name: bytes, mount: Mount) -> Found:
        """On pseudo file systems the kernel follows links, because some of them (``/proc/PID/fd/3``) are not paths."""
        self._close_end()
        self._end = Found(kernel.open_beneath(here.descriptor, name, os.O_PATH, _WITHIN), mount, self._ids)
        return self._end

    def _enter(self, found: Found | None) -> None:
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        _require_directory(found)
        found.require(1, self._shown)
        if len(self._trail) >= _DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        self._trail.append(found)
        self._end = None

    def _close_end(self) -> None:
        if self._end is not None:
            os.close(self._end.descriptor)
            self._end = None

    def _back_to(self, length: int) -> None:
        while len(self._trail) > length:
            os.close(self._trail.pop().descriptor)


def encoded(path: str) -> bytes:
    """The path in bytes. Raises InvalidInput for NUL."""
    if "\0" in path:
        raise InvalidInput("A path cannot contain NUL", field="path")
    return path.encode("utf-8", "surrogateescape")


def _names(path: bytes) -> list[bytes]:
    """Path components, the last one first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]


def _plain(directory: Found, name: bytes) -> tuple[bool, Found | None]:
    """Whether the name is neither a symbolic link nor a mount point, and in that case its file, if it exists."""
    try:
        descriptor = kernel.open_beneath(directory.descriptor, name, os.O_PATH | os.O_NOFOLLOW, _WITHIN)
    except FileNotFoundError:
        return True, None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False, None
    found = Found(descriptor, directory.mount, directory.ids)
    if stat.S_ISLNK(found.mode):
        os.close(descriptor)
        return False, None
    return True, found


def is_mount_point(directory: Found, name: bytes) -> bool:
    """Whether something is mounted on the name, as seen from that directory's own namespace."""
    try:
        os.close(kernel.open_beneath(directory.descriptor, name, os.O_PATH | os.O_NOFOLLOW, _WITHIN))
    except OSError as error:
        return error.errno == errno.EXDEV
    return False


@contextlib.contextmanager
def just_made(directory: Found, name: bytes, flags: int) -> Iterator[int]:
    """Open a new file, to set its owner. Raises OSError (EXDEV) if something is mounted on it.

    A program inside may be faster, and mount a file there that is not the instance's. Files of sysfs, for example, have
    one owner for the whole host: changing it would give the instance access to them.
    """
    descriptor = kernel.open_beneath(directory.descriptor, name, flags | os.O_NOFOLLOW, _WITHIN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def require_file(found: Found, path: str) -> None:
    """Raises IsADirectoryError, and Unsupported for special files and on pseudo file systems."""
    mode = found.mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise Unsupported(f"{path!r} is not a regular file", remedy="only files, directories and links are transferred")
    found.mount.require_store(path)


def _refusal(path: str) -> Forbidden:
    return Forbidden(
        f"{path!r} belongs to the host, which does not let the instance do this",
        field="path",
        remedy="change its permissions on the host, or set shift=true of the disk device",
    )


def _require_directory(found: Found) -> None:
    if not stat.S_ISDIR(found.mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
