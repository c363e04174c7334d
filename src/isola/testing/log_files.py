"""Log files in memory, which a test writes and replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from isola.host.log_files import LogFile


def logged(now: datetime, channel: str, data: bytes) -> bytes:
    """The lines of a log for this output."""
    stamp = f"{now:%Y-%m-%dT%H:%M:%S.%f}000+00:00 {channel} ".encode()
    kinds = [(b"F ", line) if line.endswith(b"\n") else (b"P ", line + b"\n") for line in data.splitlines(True)]
    return b"".join(stamp + kind + line for kind, line in kinds)


class FakeLogFile:
    """The content, which a test extends."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def identity(self) -> object:
        return self

    async def size(self) -> int:
        """Bytes so far."""
        return len(self.data)

    async def read(self, at: int, size: int) -> bytes:
        """A copy."""
        return bytes(self.data[at : at + size])

    def close(self) -> None:
        """No effect."""


class FakeLogFiles:
    """Generations by the path of the log, the oldest first. ``kept``: how many there may be."""

    def __init__(self) -> None:
        self.logs: dict[Path, list[FakeLogFile]] = {}
        self.kept: dict[Path, int] = {}
        self._watching: dict[Path, list[tuple[Callable[[], None], bool]]] = {}

    def append(self, path: Path, data: bytes) -> None:
        """For tests: the writer writes."""
        self.logs.setdefault(path, [FakeLogFile()])[-1].data.extend(data)
        self._tell(path, written=True)

    def replace(self, path: Path) -> None:
        """For tests: the writer begins a new file."""
        files = [*self.logs.get(path, []), FakeLogFile()]
        self.logs[path] = files[-self.kept.get(path, 1) :]
        self._tell(path, written=False)

    async def open(self, path: Path) -> Sequence[LogFile]:
        return list(self.logs.get(path, []))

    def watch(self, path: Path, on_change: Callable[[], None], *, writes: bool) -> Callable[[], None]:
        """There is always a directory."""
        entry = (on_change, writes)
        self._watching.setdefault(path, []).append(entry)
        return lambda: self._watching[path].remove(entry)

    async def keep(self, path: Path, files: int) -> None:
        """From now on."""
        self.kept[path] = files

    async def rotate(self, path: Path, files: int, *, most: int) -> None:
        """If it is that long."""
        self.kept[path] = files
        if path in self.logs and len(self.logs[path][-1].data) >= most:
            self.replace(path)

    async def remove(self, path: Path) -> None:
        """All generations."""
        self.logs.pop(path, None)

    def _tell(self, path: Path, *, written: bool) -> None:
        for on_change, writes in list(self._watching.get(path, [])):
            if writes or not written:
                on_change()
