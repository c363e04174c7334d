"""Lines of logs, ``TIME STREAM F|P CONTENT`` (F: a whole line, P: a part of one), cut into what clients want. Pure.

TIME, STREAM and the tag have a fixed width, so whole blocks are processed by the interpreter's own loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

from isola.model.log_query import LogQuery, log_time
from isola.runtimes.output import Channel

_TIME, _ZONE, _START = 29, 35, 45
"""Where the seconds end, where the zone ends, and where the content begins."""
_KINDS = {
    b" stdout F ": (Channel.STDOUT, True),
    b" stderr F ": (Channel.STDERR, True),
    b" stdout P ": (Channel.STDOUT, False),
    b" stderr P ": (Channel.STDERR, False),
}
_KIND = itemgetter(slice(_ZONE, _START))
_CONTENT = itemgetter(slice(_START, None))
_UTC = b"+00:00"


@dataclass(frozen=True, slots=True)
class LogBlock:
    """A piece of the output: bytes of one stream that follow each other."""

    channel: Channel
    data: bytes


class Lines:
    """Turns blocks of whole lines of a log into its output, as a query wants it."""

    def __init__(self, query: LogQuery) -> None:
        self.over = False
        """Everything that follows is later than the query's end."""
        self._wanted = {Channel.STDOUT: query.stdout, Channel.STDERR: query.stderr}
        self._since = log_time(query.since).encode() if query.since is not None else b""
        self._until = log_time(query.until).encode() if query.until is not None else b""
        self._timestamps, self._details = query.timestamps, query.details.encode()
        self._inside = {Channel.STDOUT: False, Channel.STDERR: False}
        """Whether the output so far ends inside a line."""

    def feed(self, block: bytes) -> list[LogBlock]:
        """The output of these lines; lines that cannot be read are left out."""
        if self._since and _moment(block[block.rfind(b"\n", 0, -1) + 1 :]) < self._since:
            return []
        lines = block.split(b"\n")
        lines.pop()
        found: list[LogBlock] = []
        for kind, group in groupby(self._within(lines), key=_KIND):
            channel, whole = _KINDS.get(kind, (None, False))
            if channel is None or not self._wanted[channel]:
                continue
            data = self._output(channel, list(group), whole=whole)
            if found and found[-1].channel is channel:
                data = found.pop().data + data
            found.append(LogBlock(channel, data))
        return found

    def _within(self, lines: list[bytes]) -> list[bytes]:
        """Those of the time that is wanted; nearly always all or none."""
        if self._since:
            lines = [line for line in lines if _moment(line) >= self._since]
        if self._until and lines and _moment(lines[-1]) > self._until:
            self.over = True
            lines = [line for line in lines if _moment(line) <= self._until]
        return lines

    def _output(self, channel: Channel, lines: list[bytes], *, whole: bool) -> bytes:
        if not self._timestamps and not self._details:
            content = map(_CONTENT, lines)
            return b"\n".join(content) + b"\n" if whole else b"".join(content)
        parts: list[bytes] = []
        for line in lines:
            if not self._inside[channel]:
                parts += (_moment(line), b"Z ") if self._timestamps else ()
                parts.append(self._details)
            parts.append(line[_START:])
            if whole:
                parts.append(b"\n")
            self._inside[channel] = not whole
        return b"".join(parts)


def _moment(line: bytes) -> bytes:
    """The time of a line in UTC: logs of other daemons may have local times."""
    if line[_TIME:_ZONE] == _UTC:
        return line[:_TIME]
    try:
        local = datetime.fromisoformat((line[:19] + line[_TIME:_ZONE]).decode())
    except ValueError:
        return line[:_TIME]
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").encode() + line[19:_TIME]


def beginning(block: bytes, missing: int, *, last: bool) -> tuple[int | None, int]:
    """Where the last ``missing`` lines of a log begin in a block of whole lines, and how many are missing then.

    None: in the block before. Parts belong to the line that they begin. ``last``: the log ends with the block.
    """
    at = len(block)
    while at > 0:
        start = block.rfind(b"\n", 0, at - 1) + 1
        if block[start + _ZONE : start + _START] in _ENDS or (last and at == len(block)):
            if missing == 0:
                return at, 0
            missing -= 1
        at = start
    return None, missing


_ENDS = frozenset(kind for kind, (_, whole) in _KINDS.items() if whole)
