"""What clients ask about the builder itself: its version, its workers, and the results that it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from isola import __version__
from isola.access import Permission, refusal
from isola.doors.docker.build_records import Record, expression, records
from isola.doors.docker.buildkit.calls import Call, Method, only
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.wire import Message, Value, message, timestamp
from isola.doors.docker.times import nanoseconds
from isola.errors import Forbidden, Unsupported
from isola.images.architecture import architecture
from isola.images.architecture import platform as oci_platform

_RESERVED, _MOST, _FREE = 4, 5, 6
"""Fields of ``PruneRequest``: what stays."""
_EXECUTOR = "org.mobyproject.buildkit.worker.executor"


class Housekeeping:
    """Methods of ``Control``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.methods: dict[str, Method] = {
            "Info": self._info,
            "ListWorkers": self._workers,
            "DiskUsage": self._usage,
            "Prune": self._prune,
        }

    async def _info(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        yield message({1: _version()})

    async def _workers(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        yield message({1: worker(self._client)})

    async def _usage(self, call: Call) -> AsyncIterator[bytes]:
        """Results are those of all projects: who is restricted to some sees their sum."""
        wanted, client = Message(await only(call)), self._client
        if refusal(client.caller, Permission.ADMIN, client.project):
            size = client.services.builds.cache_size
            yield message({1: _record("results", size) if size else None})
            return
        found = await records(client.services)
        yield message({1: [_usage(each) for each in _chosen(wanted, found)]})

    async def _prune(self, call: Call) -> AsyncIterator[bytes]:
        wanted, client = Message(await only(call)), self._client
        if reason := refusal(client.caller, Permission.ADMIN, client.project):
            raise Forbidden(reason)
        chosen = None
        if any(wanted.blobs(1)):
            chosen = {each.id for each in _chosen(wanted, await records(client.services))}
        before = None
        if age := max(wanted.number(3), 0):
            before = client.services.host.clock.now() - timedelta(microseconds=age // 1000)
        if wanted.number(_FREE) > 0:
            raise Unsupported("Prunes by free space are not offered: use --max-used-space", field="min-free-space")
        most = max(wanted.number(_RESERVED), wanted.number(_MOST), 0)
        sizes = {each.key: each.size for each in client.services.builds.kept()}
        dropped, freed = await client.services.builds.prune(most=most, before=before, only=chosen)
        client.history.tell("builder", "prune", reclaimed=str(freed))
        rest = freed - sum(sizes.get(name, 0) for name in dropped)
        for name in dropped:
            yield _record(name, sizes.get(name, 0))
        if rest > 0:
            yield _record("caches", rest)


def worker(client: Client) -> bytes:
    """``WorkerRecord``: there is one, the daemon."""
    services = client.services
    own = oci_platform(architecture(services.host.system.kernel().architecture))
    platform = message({1: own["architecture"], 2: "linux", 3: own.get("variant", "")})
    policy = message({1: True, 5: services.builds.most_kept})
    return message({1: "isola", 2: {_EXECUTOR: "isola"}, 3: platform, 4: policy, 5: _version()})


def _version() -> bytes:
    return message({1: "isola", 2: f"v{__version__}"})


def _chosen(wanted: Message, found: Sequence[Record]) -> list[Record]:
    """Those of which any filter is true. Raises InvalidInput."""
    tests = [expression(text.decode(errors="replace")) for text in wanted.blobs(1) if text]
    return [each for each in found if not tests or any(test(each) for test in tests)]


def _usage(record: Record) -> bytes:
    made, used = (
        timestamp(nanoseconds(each)) if each is not None else None for each in (record.created_at, record.used_at)
    )
    parents = [record.parent] if record.parent else []
    of_use: dict[int, Value] = {
        1: record.id,
        2: record.kind != "regular",
        3: record.in_use,
        4: record.size,
        6: made,
        7: used,
    }
    return message(of_use | {8: record.uses, 9: record.text, 10: record.kind, 11: record.shared, 12: parents})


def _record(id: str, size: int) -> bytes:
    """``UsageRecord``."""
    return message({1: id, 4: size, 9: "kept results of builds", 10: "regular"})
