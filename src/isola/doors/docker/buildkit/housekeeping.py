"""What clients ask about the builder itself: its version, its workers, and the results that it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from isola import __version__
from isola.access import Permission, refusal
from isola.doors.docker.buildkit.calls import Call, Method, only
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.wire import Message, message, timestamp
from isola.doors.docker.times import nanoseconds
from isola.errors import Forbidden, Unsupported
from isola.images.architecture import architecture
from isola.images.architecture import platform as oci_platform
from isola.model.build import BuildResult

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
        await only(call)
        client, builds = self._client, self._client.services.builds
        if refusal(client.caller, Permission.ADMIN, client.project):
            size = builds.cache_size
            yield message({1: _record("results", size) if size else None})
            return
        directories = [_directory(name, size) for name, size in await builds.kept_directories()]
        yield message({1: [*map(_result, builds.kept()), *directories]})

    async def _prune(self, call: Call) -> AsyncIterator[bytes]:
        wanted, client = Message(await only(call)), self._client
        if reason := refusal(client.caller, Permission.ADMIN, client.project):
            raise Forbidden(reason)
        if any(wanted.blobs(1)):
            raise Unsupported("Filters of the build cache are not offered: use --reserved-space", field="filter")
        before = None
        if age := max(wanted.number(3), 0):
            before = client.services.host.clock.now() - timedelta(microseconds=age // 1000)
        if wanted.number(_FREE) > 0:
            raise Unsupported("Prunes by free space are not offered: use --max-used-space", field="min-free-space")
        most = max(wanted.number(_RESERVED), wanted.number(_MOST), 0)
        sizes = {each.key: each.size for each in client.services.builds.kept()}
        dropped, freed = await client.services.builds.prune(most=most, before=before)
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


def _result(kept: BuildResult) -> bytes:
    made, used = (timestamp(nanoseconds(each)) for each in (kept.created_at, kept.used_at))
    return message({1: kept.key, 4: kept.size, 6: made, 7: used, 8: 1, 9: kept.text, 10: "regular"})


def _directory(name: str, size: int) -> bytes:
    return message({1: name, 2: True, 4: size, 9: "kept by RUN --mount=type=cache", 10: "exec.cachemount"})


def _record(id: str, size: int) -> bytes:
    """``UsageRecord``."""
    return message({1: id, 4: size, 9: "kept results of builds", 10: "regular"})
