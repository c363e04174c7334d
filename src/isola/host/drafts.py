"""A file's new content, kept beside the file until it is whole: what breaks off leaves the file as it was.

The draft has no name (``O_TMPFILE``), so that it goes with the daemon, however that ends. It is named at the end, in
two steps where there is a file already, as the kernel links over nothing. The name in between is always the same for a
file: what a daemon that was killed between the steps left goes when the file is next written.
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
"""What file systems without ``O_TMPFILE`` answer, as overlay does before Linux 6.1 and vfat always."""
_BLOCK = 1 << 20
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_", "security.selinux")
"""Not capabilities: those end with the content they were given to."""
_ATTEMPTS = 8
_naming = threading.Lock()
"""No other thread uses the name between the two steps."""


Dress = Callable[[int, os.stat_result | None], None]
"""Sets owner and mode of an open file; told of the file before it, if any."""


class Draft:
    """Content for one place. It is ours to close, which drops what was not committed."""

    def __init__(self, place: Place, *, append: bool) -> None:
        self._directory, self._name = place.directory.descriptor, place.name
        self._found = place.found.descriptor if place.found is not None else None
        self._append = append
        self._temporary = b""
        self._descriptor = self._create()
        # What has other names, or is mounted there, must stay the file it is; an appended end is part of a whole.
        self._in_place = place.found is not None and (
            append or os.fstat(place.found.descriptor).st_nlink > 1 or place.found.mount != place.directory.mount
        )

    def close(self) -> None:
        """Drop it, unless it was committed."""
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
                pass  # made meanwhile: then the later one stays, as with any other program
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
        """Into the file as it is. On a full disk what was appended is taken back; what was overwritten cannot be."""
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
