"""Read the output of an instance from its log, in pieces: the log may have any length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from isola.errors import NotFound, Unsupported
from isola.host.log_files import LogFile, LogFiles
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.log_settings import log_of, shown_size
from isola.model.instance import Instance
from isola.model.last_run import Until
from isola.model.log_query import BILLION, LogQuery
from isola.runtimes import CONSOLE_LOG, Lines, LogBlock
from isola.runtimes.log_lines import beginning

_BLOCK = 128 << 10


async def read(context: Context, instance: Instance, query: LogQuery) -> AsyncGenerator[LogBlock, None]:
    """Its output as far as it is kept: what there is now, with ``follow`` until its run ends.

    Raises Unsupported if none is kept.
    """
    config, _ = expanded(context, instance)
    if not log_of(config, system=instance.start.system).kept:
        raise Unsupported("The output of this instance is not kept", remedy="set isola.log.driver to local")
    reader = _Reader(context.host.log_files, context.logs(instance) / CONSOLE_LOG, Lines(query))
    follower = _Follower(context, instance, reader.path, query) if query.follow else None
    try:
        await reader.open(query.tail, shown_size(config, system=instance.start.system))
        if follower is None:
            await reader.end_here()
        while not reader.lines.over:
            last = follower is None or follower.ended
            if blocks := await reader.blocks():
                for block in blocks:
                    yield block
            elif reader.at_end:
                if last or follower is None:
                    return
                await follower.wait()
    finally:
        reader.close()
        if follower is not None:
            follower.close()


class _Reader:
    """The position in a log and its generations."""

    def __init__(self, files: LogFiles, path: Path, lines: Lines) -> None:
        self.path = path
        self.lines = lines
        self.at_end = False
        """The last call of ``blocks`` has found nothing, and no newer file."""
        self._files = files
        self._open: list[LogFile] = []
        """The one that is read, then those that follow."""
        self._at = 0
        self._rest = b""
        self._most: tuple[object, int] | None = None
        """The last file that is read, and how many bytes of it; None: all that comes."""

    async def open(self, tail: int | None, most: int | None = None) -> None:
        """At the beginning, or where the last lines begin, but at most so many bytes before the end."""
        self._open = list(await self._files.open(self.path))
        starts = [(0, 0)]
        if tail is not None:
            starts.append(await _find_tail(self._open, tail))
        if most is not None:
            starts.append(await _find_last(self._open, most))
        index, self._at = max(starts)
        for skipped in self._open[:index]:
            skipped.close()
        self._open = self._open[index:]

    async def end_here(self) -> None:
        """Leave out what is written from now on: a reader may be slower than the writer, and would never end."""
        self._most = (self._open[-1].identity, await self._open[-1].size()) if self._open else (None, 0)

    async def blocks(self) -> Sequence[LogBlock]:
        """The next output; may be empty although more follows."""
        newer = len(self._open) > 1
        data = await self._open[0].read(self._at, self._left(self._open[0])) if self._open else b""
        self.at_end = not (data or newer) and (self._most is not None or not await self._look())
        if not data:
            if newer:  # they were there before the end of this one was read
                self._open.pop(0).close()
                self._at, self._rest = 0, b""
            return ()
        self._at += len(data)
        end = data.rfind(b"\n") + 1
        block, self._rest = self._rest + data[:end], data[end:] if end else self._rest + data
        if not end:
            self._rest = self._rest[-_BLOCK:]  # not a log: lines are short
            return ()
        return self.lines.feed(block)

    def _left(self, file: LogFile) -> int:
        if self._most is None or file.identity != self._most[0]:
            return _BLOCK
        return max(0, min(_BLOCK, self._most[1] - self._at))

    async def _look(self) -> bool:
        """Open the files that have come since; whether there are any."""
        found = list(await self._files.open(self.path))
        here = self._open[0].identity if self._open else None
        index = next((at for at, file in enumerate(found) if file.identity == here), -1)
        for known in found[: index + 1]:
            known.close()
        self._open += found[index + 1 :]
        return len(found) > index + 1

    def close(self) -> None:
        for file in self._open:
            file.close()
        self._open = []


class _Follower:
    """Waits until more is written, the run ends, or the time is over."""

    def __init__(self, context: Context, instance: Instance, path: Path, query: LogQuery) -> None:
        self._clock = context.host.clock
        self._until = query.until
        self._written = asyncio.Event()
        self._end = context.waits.add(instance.id, Until.NEXT_EXIT)
        self._unwatch: Callable[[], None] = lambda: None
        if instance.id not in context.live:
            self._end.set_result(0)
            return
        with suppress(NotFound):
            self._unwatch = context.host.log_files.watch(path, self._written.set, writes=True)

    @property
    def ended(self) -> bool:
        """All output of the run is in the log."""
        late = self._until is not None and self._clock.now().timestamp() * BILLION > self._until
        return self._end.done() or late

    async def wait(self) -> None:
        writing = asyncio.ensure_future(self._written.wait())
        timer = asyncio.ensure_future(self._clock.sleep(self._left())) if self._until is not None else None
        waiting: list[asyncio.Future[object]] = [writing, self._end, *([timer] if timer else [])]  # type: ignore[list-item]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            if timer is not None:
                timer.cancel()
        self._written.clear()

    def _left(self) -> float:
        assert self._until is not None
        return max(0.001, self._until / BILLION - self._clock.now().timestamp() + 0.001)

    def close(self) -> None:
        self._unwatch()
        self._end.cancel()


async def _find_tail(files: Sequence[LogFile], wanted: int) -> tuple[int, int]:
    """Where the last lines begin: index of the file, and offset. Read from the end."""
    missing, last = wanted, True
    for index in range(len(files) - 1, -1, -1):
        end = await files[index].size()
        while end > 0:
            start = max(0, end - _BLOCK)
            block = await files[index].read(start, end - start)
            cut = block.find(b"\n") + 1 if start else 0
            if cut == len(block):
                cut = 0
            if last:  # a line that is just being written does not count
                block = block[: block.rfind(b"\n") + 1]
            at, missing = beginning(block[cut:], missing, last=last)
            if at is not None:
                return index, start + cut + at
            end, last = start + cut, False
    return 0, 0


async def _find_last(files: Sequence[LogFile], most: int) -> tuple[int, int]:
    """Where the first whole line of the last bytes begins."""
    for index in range(len(files) - 1, -1, -1):
        size = await files[index].size()
        if size >= most:
            at = size - most
            before = await files[index].read(max(0, at - 1), _BLOCK)  # a line that begins just there is whole
            return index, max(0, at - 1) + before.find(b"\n") + 1 if at else 0
        most -= size
    return 0, 0
