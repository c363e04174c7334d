"""``docker buildx history``: builds that run, and the last ones that have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

from isola.doors.docker.buildkit.calls import Call, Code, Failure, Method, only
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.records import Happened, Record
from isola.doors.docker.buildkit.wire import Message, message
from isola.errors import Unsupported


class Looking:
    """Methods of ``Control``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.methods: dict[str, Method] = {
            "ListenBuildHistory": self._listen,
            "UpdateBuildHistory": self._update,
        }

    async def _listen(self, call: Call) -> AsyncIterator[bytes]:
        """Those that are known, then what happens, unless the client wants to hear of the first alone."""
        wanted, records, project = Message(await only(call)), self._client.records, self._client.project
        active, ref, early = bool(wanted.number(1)), wanted.text(2), bool(wanted.number(3))
        if any(wanted.blobs(4)):
            raise Unsupported("Filters of builds are not offered", field="filter")

        def concerns(record: Record) -> bool:
            return not ref or record.ref == ref

        found = [each for each in records.of(project) if concerns(each) and not (active and each.completed)]
        most = max(wanted.number(5), 0)
        with records.followed(project) as events:  # before the first is sent, which takes time
            for each in found[-most:]:
                yield _event(Happened.COMPLETE if each.completed else Happened.STARTED, each)
            if early:
                return
            async for happened, record in events:
                if concerns(record):
                    yield _event(happened, record)

    async def _update(self, call: Call) -> AsyncIterator[bytes]:
        wanted, records = Message(await only(call)), self._client.records
        record = records.find(wanted.text(1), self._client.project)
        if record is None:
            raise Failure(Code.NOT_FOUND, f"no build {wanted.text(1)[:80]!r}")
        if wanted.number(3):
            if not record.completed:
                raise Failure(Code.INVALID, "the build still runs")
            records.remove(record)
        elif not wanted.number(4):  # to complete the record is done already
            record.pinned = bool(wanted.number(2))
        yield b""


def _event(happened: Happened, record: Record) -> bytes:
    return message({1: int(happened), 2: record.shown()})
