"""Runs of instances: their output, their end, their processes and what they use."""

from __future__ import annotations

from isola.client.api import cast, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isola.client.api import Api
    from isola.client.http import Response
    from isola.client.shapes import ProcessTable, StatisticsInfo

_HEAD = 8
_TIMEOUT = 60
"""Seconds after which a wait is asked for again."""


def _path(name: str) -> str:
    return f"/1.0/instances/{quote(name)}"


def output(client: Api, name: str, **query: int | bool | None) -> Iterator[tuple[int, bytes]]:
    """Its output in pieces: 1 for standard output or 2 for standard error, and the data.

    ``query``: ``stdout``, ``stderr``, ``timestamps``, ``follow``, ``tail`` (lines), and ``since`` and ``until`` in
    nanoseconds since 1970.
    """
    asked = {key: int(value) for key, value in query.items() if value is not None and value is not False}
    response = client.exchange("GET", f"{_path(name)}/output", query=asked)
    if response.status >= 400:
        from isola.client.reply import Reply

        try:
            Reply.read(response)
        finally:
            client.release(response)
    try:
        yield from _frames(response)
    finally:
        client.release(response)


def _frames(response: Response) -> Iterator[tuple[int, bytes]]:
    rest, left, number = b"", 0, 0
    while data := response.read_some():
        rest += data
        while rest:
            if not left:
                if len(rest) < _HEAD:
                    break
                number, left, rest = rest[0], int.from_bytes(rest[4:_HEAD], "big"), rest[_HEAD:]
            yield number, rest[:left]
            taken = min(left, len(rest))
            left, rest = left - taken, rest[taken:]


def wait(client: Api, name: str, condition: str = "not-running") -> int:
    """Wait until it does not run, until its ``next-exit``, or until it is ``removed``; returns the exit status."""
    while True:
        found = client.get(f"{_path(name)}/wait", {"condition": condition, "timeout": _TIMEOUT})
        status = found.get("exit_status") if isinstance(found, dict) else None
        if isinstance(status, int):
            return status


def processes(client: Api, name: str, options: str = "") -> ProcessTable:
    """As the host's ``ps`` shows them, with these options."""
    return cast("ProcessTable", client.get(f"{_path(name)}/processes", {"options": options} if options else None))


def statistics(client: Api, name: str) -> StatisticsInfo:
    """Raises WrongState if it does not run."""
    return cast("StatisticsInfo", client.get(f"{_path(name)}/statistics"))
