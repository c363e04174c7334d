"""The services that clients of BuildKit call: ``Control``, and the bridge by which they hand in a Dockerfile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

from isola import __version__
from isola.access import Permission, refusal
from isola.doors.docker.buildkit.calls import Call, Code, Failure, Method, answer, only
from isola.doors.docker.buildkit.http2 import Stream
from isola.doors.docker.buildkit.linting import REQUEST, lint
from isola.doors.docker.buildkit.outputs import Outputs, outputs_of
from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.solving import Solved, solve
from isola.doors.docker.buildkit.wire import Message, message
from isola.doors.docker.request import Request
from isola.doors.docker.times import nanoseconds
from isola.errors import Forbidden, Unsupported
from isola.images.architecture import architecture
from isola.images.architecture import platform as oci_platform

_CONTROL, _BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
_FRONTEND = "dockerfile.v0"
_TIMEOUT = 10.0
"""Seconds that calls wait for the build that they belong to."""
_CAPABILITIES = (
    "solve.base", "return", "returnmap", "proto.refarray", "gateway.solve.metadata", "gateway.solve.evaluate",
    "frontend.caps", "reference.output",
)  # fmt: skip
UNKNOWN = "this daemon has a builder of its own, which does not offer this to clients of BuildKit"


class _Job:
    def __init__(self, session: str, outputs: Outputs, progress: Progress) -> None:
        self.session = session
        self.outputs = outputs
        self.progress = progress
        self.solved: Solved | None = None
        self.returned: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Control:
    """Of one connection."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._jobs: dict[str, _Job] = {}
        self._news = asyncio.Event()
        self._methods: Mapping[str, Method] = {
            f"{_CONTROL}Info": self._info,
            f"{_CONTROL}ListWorkers": self._workers,
            f"{_CONTROL}DiskUsage": self._usage,
            f"{_CONTROL}Prune": self._prune,
            f"{_CONTROL}Solve": self._solve,
            f"{_CONTROL}Status": self._status,
            f"{_BRIDGE}Ping": self._ping,
            f"{_BRIDGE}Solve": self._bridge_solve,
            f"{_BRIDGE}Return": self._return,
        }

    async def serve(self, stream: Stream) -> None:
        """One call."""
        await answer(stream, self._methods, UNKNOWN)

    async def _info(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        yield message({1: message({1: "isola", 2: f"v{__version__}"})})

    async def _workers(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        yield message({1: self._worker()})

    def _worker(self) -> bytes:
        kernel = self._request.services.host.system.kernel().architecture
        own = oci_platform(architecture(kernel))
        platform = message({1: own["architecture"], 2: "linux", 3: own.get("variant", "")})
        return message({1: "isola", 3: platform})

    async def _usage(self, call: Call) -> AsyncIterator[bytes]:
        """All kept results as one record."""
        await only(call)
        size = self._request.services.builds.cache_size
        yield message({1: _record("results", size) if size else None})

    async def _prune(self, call: Call) -> AsyncIterator[bytes]:
        wanted, request = Message(await only(call)), self._request
        if reason := refusal(request.caller, Permission.ADMIN, request.project):
            raise Forbidden(reason)
        if any(wanted.blobs(1)):
            raise Unsupported("Filters of the build cache are not offered: use --reserved-space", field="filter")
        before = None
        if age := max(wanted.number(3), 0):
            before = request.services.host.clock.now() - timedelta(microseconds=age // 1000)
        most = max(wanted.number(4), wanted.number(7), 0)
        dropped, freed = await request.services.builds.prune(most=most, before=before)
        request.history.tell("builder", "prune", reclaimed=str(freed))
        for number, name in enumerate(dropped):
            yield _record(name, 0 if number else freed)
        if freed and not dropped:
            yield _record("caches", freed)

    async def _solve(self, call: Call) -> AsyncIterator[bytes]:
        """Held until the client has handed in what it wants solved, and that is done."""
        wanted = Message(await only(call))
        ref = wanted.text(1)
        if not ref or ref in self._jobs:
            raise Failure(Code.INVALID, "the build has no ref, or one that is taken")
        outputs = outputs_of(wanted)
        clock = self._request.services.host.clock
        job = _Job(wanted.text(5), outputs, Progress(ref, lambda: nanoseconds(clock.now())))
        self._jobs[ref] = job
        self._news.set()
        self._news = asyncio.Event()
        try:
            if frontend := wanted.text(6):
                await self._build(job, frontend, wanted.texts(7))
            else:
                await job.returned
            yield message({1: _response(job.solved)})
        finally:
            job.progress.end()
            # The status is asked for in a call of its own, which may come later than the end.
            asyncio.get_running_loop().call_later(_TIMEOUT, self._jobs.pop, ref, None)

    async def _build(self, job: _Job, frontend: str, attributes: Mapping[str, str]) -> None:
        if frontend != _FRONTEND:
            raise Unsupported(f"The frontend {frontend[:80]} is not offered: Dockerfiles are built", field="frontend")
        session = await self._request.sessions.find(job.session)
        job.solved = await solve(self._request, session, attributes, job.outputs, job.progress)

    async def _status(self, call: Call) -> AsyncIterator[bytes]:
        job = await self._job(Message(await only(call)).text(1))
        async for response in job.progress.responses():
            yield response

    async def _ping(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        capabilities = [message({1: name, 2: True}) for name in _CAPABILITIES]
        yield message({1: capabilities, 2: [], 3: self._worker()})

    async def _bridge_solve(self, call: Call) -> AsyncIterator[bytes]:
        job, wanted = await self._of_call(call), Message(await only(call))
        if wanted.blob(1):
            raise Unsupported(
                "Low-level build definitions (LLB) are not offered: Dockerfiles are built", field="definition"
            )
        attributes = wanted.texts(3)
        if attributes.get("requestid") == REQUEST:
            session = await self._request.sessions.find(job.session)
            yield message({3: message({10: await lint(session, attributes)})})
            return
        await self._build(job, wanted.text(2), attributes)
        assert job.solved is not None
        yield message({3: message({3: message({1: job.solved.fingerprint})})})

    async def _return(self, call: Call) -> AsyncIterator[bytes]:
        job, said = await self._of_call(call), Message(await only(call))
        if not job.returned.done():
            error = said.inside(2)
            if error.number(1):
                job.returned.set_exception(Failure(error.number(1), error.text(2)))
                job.returned.exception()  # is raised where it is waited for, if that is still so
            else:
                job.returned.set_result(None)
        yield b""

    async def _of_call(self, call: Call) -> _Job:
        return await self._job(call.stream.header("buildkit-controlapi-buildid"))

    async def _job(self, ref: str) -> _Job:
        try:
            async with asyncio.timeout(_TIMEOUT):
                while ref not in self._jobs:
                    await self._news.wait()
        except TimeoutError:
            raise Failure(Code.NOT_FOUND, f"no such job {ref[:80]}") from None
        return self._jobs[ref]


def _record(id: str, size: int) -> bytes:
    """``UsageRecord``."""
    return message({1: id, 4: size, 9: "kept results of builds", 10: "regular"})


def _response(solved: Solved | None) -> Mapping[str, str]:
    if solved is None or not solved.fingerprint:
        return {}
    digest = f"sha256:{solved.fingerprint}"
    return {
        "containerimage.digest": digest,
        "containerimage.config.digest": digest,
        **({"image.name": ",".join(solved.names)} if solved.names else {}),
    }
