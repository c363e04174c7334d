"""Members of an archive by their place in the uncompressed file, so that their content is copied without parsing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound
from isola.host.exhaustion import host_refused

PIECE = 64 << 20
"""Bytes that are copied at once; between them a copy can be cancelled."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A regular file, a directory, or a link."""

    name: str
    """With surrogate escapes for bytes that are not UTF-8, without a leading ``/`` or ``./``."""
    offset: int = 0
    size: int = 0
    link: str = ""
    """Target of a symbolic link, or the name that a hard link is another one of."""
    hard: bool = False
    directory: bool = False
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    modified: int = 0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Apart:
    """The content of a member that was stored as a file of its own."""

    path: Path
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """What an archive contains."""

    file: Path
    """The archive itself, or its uncompressed copy."""
    members: Sequence[ArchiveMember]
    apart: Mapping[int, Apart] = field(default_factory=dict)
    """By the offset: content that is not in ``file``."""

    def place(self, member: ArchiveMember) -> tuple[Path, int]:
        """File and offset of a member's content."""
        apart = self.apart.get(member.offset)
        return (self.file, member.offset) if apart is None else (apart.path, 0)


def content(index: ArchiveIndex, member: ArchiveMember, limit: int) -> bytes:
    """The first ``limit`` bytes of a member. Raises InvalidInput if the archive is shorter than it was."""
    file, offset = index.place(member)
    with _opened(file) as descriptor:
        size = min(limit, member.size)
        data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise _truncated(member)
    return data


def adopt(apart: Apart, target: Path) -> str:
    """Give content that was stored apart a further name, synced; returns its digest. Raises HostFailure."""
    try:
        os.link(apart.path, target, follow_symlinks=False)
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already") from error
    except OSError as error:
        raise host_refused(f"Cannot write {target}", error) from error
    with _opened(target) as descriptor:
        os.fsync(descriptor)
    return apart.digest


class Extraction:
    """A member that is being copied to a new file."""

    def __init__(self, index: ArchiveIndex, member: ArchiveMember, target: Path) -> None:
        self._member = member
        file, self._offset = index.place(member)
        self._total = hashlib.sha256()
        self._done = 0
        self._source = _open(file)
        try:
            self._target = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            os.close(self._source)
            raise AlreadyExists(f"{target} exists already") from error
        except OSError as error:
            os.close(self._source)
            raise host_refused(f"Cannot write {target}", error) from error

    def close(self) -> None:
        """Close both files."""
        os.close(self._source)
        os.close(self._target)

    def proceed(self) -> int:
        """Copy the next piece and return its size; 0 when all is copied and synced. Raises HostFailure."""
        end = min(self._done + PIECE, self._member.size)
        before = self._done
        try:
            while self._done < end:
                block = os.pread(self._source, min(_BLOCK, end - self._done), self._offset + self._done)
                if not block:
                    raise _truncated(self._member)
                self._total.update(block)
                view = memoryview(block)
                while view:
                    view = view[os.write(self._target, view) :]
                self._done += len(block)
            if end == before:
                os.fsync(self._target)
        except OSError as error:
            raise host_refused("Cannot copy a member of the archive", error) from error
        return end - before

    @property
    def digest(self) -> str:
        """``sha256:...`` of what was copied."""
        return f"sha256:{self._total.hexdigest()}"


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = _open(file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"{file} does not exist") from error
    except OSError as error:
        raise HostFailure(f"Cannot read {file}", evidence=str(error)) from error


def _truncated(member: ArchiveMember) -> InvalidInput:
    return InvalidInput("The archive is truncated", evidence=f"member {member.name[:200]!r}")
