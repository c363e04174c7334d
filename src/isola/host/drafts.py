"""New content of a file, written beside it until it is complete: an interrupted write leaves the file unchanged.

The draft has no name (``O_TMPFILE``), so it disappears if the daemon is killed. It is named at the end, in
two steps if the file exists, because link(2) replaces nothing. The temporary name is always the same for a
file, so a leftover of a daemon that was killed between the steps is removed when the file is next written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Callable

from isola.host.walking import Place

_NO_DRAFTS = (errno.EOPNOTSUPP, errno.EISDIR)
"""Errors of file systems without ``O_TMPFILE``: overlay before Linux 6.1, vfat."""
_BLOCK = 1 << 20
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_", "security.selinux")
"""Not capabilities: they are removed when the content changes."""
_ATTEMPTS = 8
_naming = threading.Lock()
"""Protects the temporary name between the two steps."""


Dress = Callable[[int, os.stat_result | None], None]
"""Sets owner and mode of an open file; its second argument is the status of the file that is replaced, if any."""


class Draft:
    """New content for one path. The caller closes it, which discards it unless it was committed."""

    def __init__(self, place: Place, *, append: bool) -> None:
        self._directory, self._name = place.directory.descriptor, place.name
        self._found = place.found.descriptor if place.found is not None else None
        self._append = append
        self._temporary = b""
        self._descriptor = self._create()
        # A file with several hard links, or a mount point, must keep its inode; so must a file that is appended to.
        self._in_place = place.found is not None and (
            append or os.fstat(place.found.descriptor).st_nlink > 1 or place.found.mount != place.directory.mount
        )

    def close(self) -> None:
        """Discard it, unless it was committed."""
        os.close(self._descriptor)
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory)

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self, dress: Dress) -> None:
        """Make it the file's content."""
        if self._found is None:
            dress(self._descriptor, None)
            self._appear()
        elif self._in_place:
            self._copy_into(self._found, dress)
        else:
            _copy_attributes(self._found, self._descriptor)
            dress(self._descriptor, os.fstat(self._found))
            self._take_the_place()

    def _create(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(b".", flags | os.O_TMPFILE, 0o600, dir_fd=self._directory)
        except OSError as error:
            if error.errno not in _NO_DRAFTS:
                raise
        self._temporary = b".isola-" + secrets.token_hex(12).encode()
        return os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._directory)

    def _appear(self) -> None:
        if not self._temporary:
            try:
                return self._link(self._name)
            except FileExistsError:
                pass  # created meanwhile: the later one wins, as with any other program
        self._take_the_place()

    def _take_the_place(self) -> None:
        if self._temporary:
            self._rename(self._temporary)
            self._temporary = b""
            return
        between = b".isola-" + hashlib.blake2b(self._name, digest_size=12).hexdigest().encode()
        with _naming:
            for attempt in range(_ATTEMPTS):
                try:
                    self._link(between)
                    break
                except FileExistsError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(between, dir_fd=self._directory)
            try:
                self._rename(between)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(between, dir_fd=self._directory)
                raise

    def _link(self, name: bytes) -> None:
        source = f"/proc/self/fd/{self._descriptor}".encode()
        os.link(source, name, dst_dir_fd=self._directory, follow_symlinks=True)

    def _rename(self, name: bytes) -> None:
        os.rename(name, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _copy_into(self, found: int, dress: Dress) -> None:
        """Write into the existing file. If the disk is full, appended data is removed; overwritten data is lost."""
        mode = os.O_APPEND if self._append else 0
        target = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | mode)
        before, written = os.fstat(target), 0
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while block := os.read(self._descriptor, _BLOCK):
                view = memoryview(block)
                while view:
                    count = os.write(target, view)
                    view, written = view[count:], written + count
            if not self._append:
                os.ftruncate(target, written)
            dress(target, before)
        except OSError:
            if (
                self._append and os.fstat(target).st_size == before.st_size + written
            ):  # no other program appended meanwhile
                os.ftruncate(target, before.st_size)
            raise
        finally:
            os.close(target)


def _copy_attributes(source: int, target: int) -> None:
    path = f"/proc/self/fd/{source}"
    with contextlib.suppress(OSError):
        for name in os.listxattr(path):
            if name.startswith(_KEPT_ATTRIBUTES):
                with contextlib.suppress(OSError):
                    os.setxattr(target, name, os.getxattr(path, name))
