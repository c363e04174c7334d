"""Unpacks the members of a tar stream into the directory that is ``/`` of this process.

Nothing outside can be reached, because the caller has changed root. In addition:

- A name with ``..``, and a parent that is a symbolic link to an absolute path or one that leads out of the root, are
  refused. A parent that is a relative link within the root is followed, as by every tar program.
- A later entry replaces an earlier one of the same name; a directory that is not empty is never replaced.
- Device nodes are skipped and reported; FIFOs and set-user-id bits are kept, as the root is used only in a user
  namespace. Of extended attributes only ``user.*``, ``security.capability`` and ACLs are kept: ``trusted.overlay.*``
  would be interpreted by overlay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from isola.errors import HostFailure, InvalidInput, IsolaError, StorageFull, TooLarge, UnsafeArchive
from isola.host import kernel
from isola.host.archive.tarstream import Member, TarStream
from isola.host.directories import DIRECTORY

T = TypeVar("T")
_PATH = os.O_PATH | os.O_DIRECTORY
_OPEN_PARENTS = 64
_NAMED = 100
"""Number of skipped entries that the report names."""
_XATTRS = (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")
_WHITEOUT = b".wh."


def clean(name: bytes) -> list[bytes]:
    """Components of a name; leading ``/`` and ``./`` are ignored. Raises UnsafeArchive for ``..``."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name:
        raise UnsafeArchive("The archive contains a path that leads out of its root", evidence=f"entry {shown(name)}")
    return parts


def shown(name: bytes) -> str:
    """A name for messages, bounded and printable."""
    return repr(name[:200].decode("utf-8", "backslashreplace"))


class Unpacking:
    """One archive that is being unpacked to ``/``."""

    def __init__(
        self, *, subtree: str, make_opaque: Callable[[int], None] | None, limit_bytes: int, limit_entries: int
    ) -> None:
        self.entries = 0
        self.bytes = 0
        self.skipped: list[str] = []
        self._subtree = clean(os.fsencode(subtree))
        self._mark = make_opaque
        """Marks a directory as opaque; None if whiteouts are ordinary files."""
        self._whiteouts = make_opaque is not None
        self._limit_bytes = limit_bytes
        self._limit_entries = limit_entries
        self._root = os.open("/", _PATH | os.O_CLOEXEC)
        self._parents: OrderedDict[tuple[bytes, ...], int] = OrderedDict()
        self._stale = False
        self._made = 0
        """Number of directories without an entry of their own: one long name creates thousands."""
        self._times: dict[bytes, int] = {}

    def run(self, stream: TarStream) -> None:
        """Unpack all members, then set the times of directories."""
        for member in stream.members():
            self._count()
            try:
                parts = self._inside(clean(member.name))
                if parts is not None:
                    self._unpack(member, parts, stream)
            except OSError as error:
                raise _explained(error, member) from error
        for path, mtime in reversed(self._times.items()):
            with contextlib.suppress(OSError):
                os.utime(b"/" + path, ns=(mtime, mtime), follow_symlinks=False)

    def _count(self) -> None:
        self.entries += 1
        self._check_count()

    def _check_count(self) -> None:
        if self.entries + self._made > self._limit_entries:
            raise UnsafeArchive("The archive has too many entries", evidence=f"more than {self._limit_entries}")

    def _inside(self, parts: list[bytes]) -> list[bytes] | None:
        """A path relative to the subtree; None if it is outside of it."""
        depth = len(self._subtree)
        return parts[depth:] if parts[:depth] == self._subtree else None

    def _unpack(self, member: Member, parts: list[bytes], stream: TarStream) -> None:
        if not parts:
            if member.kind == 0x35:
                self._dress_directory(member, self._root, b".", b"")
            return
        if self._stale:
            self._forget_parents()
        name = parts[-1]
        parent = self._parent(tuple(parts[:-1]))
        if self._whiteouts and name.startswith(_WHITEOUT):
            self._white_out(parent, name)
        elif member.kind == 0x30:
            self._file(member, parent, name, stream)
        elif member.kind == 0x31:
            self._hard_link(member, parent, name)
        elif member.kind == 0x32:
            self._symlink(member, parent, name)
        elif member.kind == 0x35:
            self._directory(member, parent, name, b"/".join(parts))
        elif member.kind == 0x36:
            self._fifo(member, parent, name)
        else:
            self._leave_out(member)

    def _leave_out(self, member: Member) -> None:
        if len(self.skipped) < _NAMED:
            self.skipped.append(member.name[:4096].decode("utf-8", "replace"))

    # --- parents ------------------------------------------------------------------------------------------------

    def _parent(self, parts: tuple[bytes, ...]) -> int:
        """A descriptor of a directory, which is created if missing; the most recent ones are kept open."""
        if not parts:
            return self._root
        held = self._parents.get(parts)
        if held is not None:
            self._parents.move_to_end(parts)
            return held
        descriptor = self._open_parent(parts)
        self._parents[parts] = descriptor
        if len(self._parents) > _OPEN_PARENTS:
            os.close(self._parents.popitem(last=False)[1])
        return descriptor

    def _open_parent(self, parts: tuple[bytes, ...]) -> int:
        path = b"/".join(parts)
        resolve = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS
        try:
            return kernel.open_beneath(self._root, path, _PATH, resolve)
        except FileNotFoundError:
            self._make_parents(parts)
            return kernel.open_beneath(self._root, path, _PATH, resolve)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        try:
            return kernel.open_beneath(self._root, path, _PATH, kernel.RESOLVE_BENEATH)
        except OSError as error:
            raise UnsafeArchive(
                "The archive tries to write through a link that leads out", evidence=f"entry below {shown(path)}"
            ) from error

    def _make_parents(self, parts: tuple[bytes, ...]) -> None:
        descriptor = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                    self._made += 1
                self._check_count()
                following = kernel.open_beneath(descriptor, part, _PATH | os.O_NOFOLLOW, kernel.RESOLVE_BENEATH)
                os.close(descriptor)
                descriptor = following
        finally:
            os.close(descriptor)

    def _forget_parents(self) -> None:
        """Something was replaced: a descriptor that is kept open may no longer match its path."""
        for descriptor in self._parents.values():
            os.close(descriptor)
        self._parents.clear()
        self._stale = False

    def _replace(self, parent: int, name: bytes, make: Callable[[], T]) -> T:
        """Create an entry, replacing an earlier one of that name."""
        try:
            return make()
        except FileExistsError:
            self._stale = True
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                raise UnsafeArchive(
                    "The archive replaces a directory that is not empty", evidence=f"entry {shown(name)}"
                ) from error
        return make()

    # --- kinds of entries ---------------------------------------------------------------------------------------

    def _file(self, member: Member, parent: int, name: bytes, stream: TarStream) -> None:
        self.bytes += member.size
        if self.bytes > self._limit_bytes:
            raise UnsafeArchive(
                "The archive is too large when unpacked", evidence=f"more than {self._limit_bytes} bytes"
            )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = self._replace(parent, name, lambda: os.open(name, flags, 0o600, dir_fd=parent))
        try:
            _fill(descriptor, member, stream)
            _dress(descriptor, member)
            os.utime(descriptor, ns=(member.mtime, member.mtime))
        finally:
            os.close(descriptor)

    def _hard_link(self, member: Member, parent: int, name: bytes) -> None:
        target = self._inside(clean(member.link))
        what = f"{shown(member.name)} to {shown(member.link)}"
        if not target:
            raise UnsafeArchive("The archive has a hard link that leads out of its root", evidence=what)
        source = self._parent(tuple(target[:-1]))
        try:
            found = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
        except FileNotFoundError as error:
            raise InvalidInput(
                "The archive has a hard link to a file that it does not contain", evidence=what
            ) from error
        if stat.S_ISDIR(found.st_mode):
            raise UnsafeArchive("The archive has a hard link to a directory", evidence=what)
        with contextlib.suppress(FileNotFoundError):
            here = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino):
                return
        self._replace(
            parent,
            name,
            lambda: os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
        )

    def _symlink(self, member: Member, parent: int, name: bytes) -> None:
        if not member.link:
            raise InvalidInput("The archive is damaged", evidence=f"link {shown(member.name)} has no target")
        self._replace(parent, name, lambda: os.symlink(member.link, name, dir_fd=parent))
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _fifo(self, member: Member, parent: int, name: bytes) -> None:
        self._replace(parent, name, lambda: os.mkfifo(name, member.mode, dir_fd=parent))
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _directory(self, member: Member, parent: int, name: bytes, path: bytes) -> None:
        there = _look(name, parent)
        if there is None or not stat.S_ISDIR(there.st_mode):
            self._replace(parent, name, lambda: os.mkdir(name, 0o700, dir_fd=parent))
        self._dress_directory(member, parent, name, path)
        if self._whiteouts and there is not None and stat.S_ISCHR(there.st_mode):
            self._make_opaque(parent, name)

    def _dress_directory(self, member: Member, parent: int, name: bytes, path: bytes) -> None:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            _dress(descriptor, member)
        finally:
            os.close(descriptor)
        self._times[path] = member.mtime

    # --- what layers hide of the layers below -------------------------------------------------------------------

    def _white_out(self, parent: int, name: bytes) -> None:
        hidden = name[len(_WHITEOUT) :]
        if hidden == b".wh..opq":
            self._make_opaque(parent, b".")
        elif hidden and hidden not in (b".", b"..") and not hidden.startswith(_WHITEOUT):
            there = _look(hidden, parent)
            if there is None:
                os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
            elif stat.S_ISDIR(there.st_mode):
                self._make_opaque(parent, hidden)  # this layer hides the lower directory and has its own

    def _make_opaque(self, parent: int, name: bytes) -> None:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            if self._mark is not None:
                self._mark(descriptor)
        finally:
            os.close(descriptor)


def _look(name: bytes, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _fill(descriptor: int, member: Member, stream: TarStream) -> None:
    if member.pieces is None:
        for block in stream.blocks():
            _write(descriptor, block)
        return
    os.ftruncate(descriptor, member.size)
    for offset, length in member.pieces:
        os.lseek(descriptor, offset, os.SEEK_SET)
        left = length
        while left:
            block = stream.exactly(min(left, 1 << 20))
            _write(descriptor, block)
            left -= len(block)


def _write(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def _dress(descriptor: int, member: Member) -> None:
    """The owner is set first, because changing it clears set-user-id bits and capabilities."""
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, member.mode)
    for name, value in member.xattrs.items():
        if name in _XATTRS or (name.startswith(b"user.") and not name.startswith(b"user.overlay.")):
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP or not name.startswith(b"user."):
                    raise


def _explained(error: OSError, member: Member) -> IsolaError:
    """InvalidInput if the archive caused it, otherwise HostFailure."""
    where = f"{shown(member.name)}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The file system is full", evidence=where, remedy="free some space, or use another pool")
    if error.errno == errno.EFBIG:
        return TooLarge("The archive contains a file that is too large", evidence=where)
    if error.errno in _FAULTS:
        return InvalidInput("The archive cannot be unpacked", evidence=where)
    return HostFailure("The host refused to unpack the archive", evidence=where)


_FAULTS = (
    errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EMLINK, errno.EXDEV,
    errno.ENOENT, errno.EILSEQ, errno.E2BIG, errno.ERANGE,
)  # fmt: skip
