"""The services that clients of BuildKit call: ``Control``, and the bridge by which they hand in a Dockerfile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping

import orjson

from isola.doors.docker.buildkit.calls import Call, Code, Failure, Method, answer, only
from isola.doors.docker.buildkit.client import Client
from isola.doors.docker.buildkit.housekeeping import Housekeeping, worker
from isola.doors.docker.buildkit.http2 import Connection, Stream
from isola.doors.docker.buildkit.linking import Temporary, as_context, builds_in, definition_of
from isola.doors.docker.buildkit.looking import Looking
from isola.doors.docker.buildkit.outputs import Outputs, outputs_of
from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.questions import answered
from isola.doors.docker.buildkit.records import Record
from isola.doors.docker.buildkit.solving import Solved, solve
from isola.doors.docker.buildkit.tunnel import Tunnel
from isola.doors.docker.buildkit.wire import Message, message
from isola.doors.docker.times import nanoseconds
from isola.errors import IsolaError, Unsupported
from isola.host.cancellation import finish
from isola.model.build import Output

CONTROL, _BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
_ID, _METHOD = "x-docker-expose-session-uuid", "x-docker-expose-session-grpc-method"
_FRONTEND = "dockerfile.v0"
_FRESH = ("no-cache", "image-resolve-mode")
_TIMEOUT = 10.0
"""Seconds that calls wait for the build that they belong to."""
_CAPABILITIES = (
    "solve.base", "return", "returnmap", "proto.refarray", "gateway.solve.metadata", "gateway.solve.evaluate",
    "frontend.caps", "reference.output", "gateway.evaluate",
)  # fmt: skip
_LOW_LEVEL = ("exporter.multiple", "gc.freespacefilter")
"""Of BuildKit's definitions; clients find among them what exporters and prunes can do."""
UNKNOWN = "this daemon has a builder of its own, which does not offer this to clients of BuildKit"


class _Job:
    def __init__(self, session: str, outputs: Outputs, record: Record) -> None:
        self.session = session
        self.outputs = outputs
        self.record = record
        self.progress = record.progress
        self.builds = False
        """A build has begun, not only a question about a Dockerfile."""
        self.solved: Solved | None = None
        self.linked = ""
        """The fingerprint of what other builds begin with, where there is no image otherwise."""
        self.linking = asyncio.Lock()
        self.failure: Failure | IsolaError | None = None
        """Of the build; the client may only cancel its request then."""
        self.returned: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Control:
    """Of one connection. ``refused``: why the client may call nothing."""

    def __init__(self, client: Client, refused: IsolaError | None = None) -> None:
        self._client = client
        self._refused = refused
        self._jobs: dict[str, _Job] = {}
        self._news = asyncio.Event()
        self._temporary = Temporary(client)
        own: Mapping[str, Method] = {
            f"{CONTROL}Session": self._session,
            f"{CONTROL}Solve": self._solve,
            f"{CONTROL}Status": self._status,
            f"{_BRIDGE}Ping": self._ping,
            f"{_BRIDGE}Solve": self._bridge_solve,
            f"{_BRIDGE}Evaluate": self._evaluate,
            f"{_BRIDGE}Return": self._return,
        }
        others = Housekeeping(client).methods | Looking(client).methods
        self._methods = {**own, **{f"{CONTROL}{name}": method for name, method in others.items()}}

    async def serve(self, stream: Stream) -> None:
        """One call."""
        if self._refused is not None:
            await answer(stream, dict.fromkeys(self._methods, self._refuse), UNKNOWN)
        else:
            await answer(stream, self._methods, UNKNOWN)

    async def close(self) -> None:
        """After the end of the connection."""
        await finish(self._temporary.drop())

    async def _refuse(self, call: Call) -> AsyncIterator[bytes]:
        assert self._refused is not None
        raise self._refused
        yield b""

    async def _session(self, call: Call) -> AsyncIterator[bytes]:
        """The other direction, inside of this call: the daemon asks the client while it builds."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.stream.headers]
        connection = Connection(Tunnel(call))
        methods = [value for name, value in headers if name == _METHOD]
        with self._client.sessions.held(call.stream.header(_ID), connection, methods):
            await connection.run()
        return
        yield b""

    async def _solve(self, call: Call) -> AsyncIterator[bytes]:
        """Open until what the client sends is solved."""
        wanted = Message(await only(call))
        ref = wanted.text(1)
        if not ref or ref in self._jobs or self._client.records.find(ref, self._client.project):
            raise Failure(Code.INVALID, "the build has no ref, or one that is taken")
        # An empty definition is one, too: without a frontend its client would never hand in anything else.
        if wanted.blob(2) or (wanted.has(2) and not wanted.text(6)):
            raise Unsupported(
                "Low-level build definitions (LLB) are not offered: Dockerfiles are built", field="definition"
            )
        if wanted.blob(12):
            raise Unsupported("Policies of sources are not offered", field="source-policy")
        job = self._begun(ref, wanted)
        try:
            if frontend := wanted.text(6):
                await self._build(job, frontend, wanted.texts(7))
            else:
                await job.returned
            job.record.response = _response(job.solved)
            yield message({1: job.record.response})
        except (Failure, IsolaError) as error:
            job.failure = job.failure or error
            raise
        except BaseException:
            job.failure = job.failure or Failure(Code.CANCELLED, "context canceled")
            raise
        finally:
            self._ended(job)

    def _begun(self, ref: str, wanted: Message) -> _Job:
        outputs, project = outputs_of(wanted), self._client.project
        now = self._now()
        record = Record(ref, project, Progress(ref, self._now), now, exporters=outputs.exporters)
        job = self._jobs[ref] = _Job(wanted.text(5), outputs, record)
        self._news.set()
        self._news = asyncio.Event()
        return job

    def _ended(self, job: _Job) -> None:
        job.progress.end()
        if job.builds:
            code = job.failure.code if isinstance(job.failure, Failure) else int(Code.UNKNOWN) if job.failure else 0
            self._client.records.end(job.record, self._now(), code=code, error=str(job.failure or "")[:1000])
        # The status is asked for in a call of its own, which may come later than the end.
        asyncio.get_running_loop().call_later(_TIMEOUT, self._jobs.pop, job.record.ref, None)

    def _now(self) -> int:
        return nanoseconds(self._client.services.host.clock.now())

    async def _build(self, job: _Job, frontend: str, attributes: Mapping[str, str]) -> None:
        if frontend != _FRONTEND:
            raise Unsupported(f"The frontend {frontend[:80]} is not offered: Dockerfiles are built", field="frontend")
        if not job.builds:
            job.builds = True
            job.record.frontend, job.record.attributes = frontend, attributes
            self._client.records.begin(job.record)
        session = await self._client.sessions.find(job.session)
        try:
            job.solved = await solve(self._client, session, attributes, job.outputs, job.progress)
        except (Failure, IsolaError) as error:
            job.failure = error
            raise

    async def _status(self, call: Call) -> AsyncIterator[bytes]:
        ref = Message(await only(call)).text(1)
        past = self._client.records.find(ref, self._client.project) if ref not in self._jobs else None
        if past is not None:
            async for response in past.progress.again():
                yield response
            return
        job = await self._job(ref)
        async for response in job.progress.responses():
            yield response

    async def _ping(self, call: Call) -> AsyncIterator[bytes]:
        await only(call)
        capabilities = [message({1: name, 2: True}) for name in _CAPABILITIES]
        low_level = [message({1: name, 2: True}) for name in _LOW_LEVEL]
        yield message({1: capabilities, 2: low_level, 3: worker(self._client)})

    async def _bridge_solve(self, call: Call) -> AsyncIterator[bytes]:
        job, wanted = await self._of_call(call), Message(await only(call))
        if wanted.blob(1):
            raise Unsupported(
                "Low-level build definitions (LLB) are not offered: Dockerfiles are built", field="definition"
            )
        attributes = wanted.texts(3)
        if attributes.get("requestid"):
            session = await self._client.sessions.find(job.session)
            yield message({3: message({10: await answered(self._client, session, attributes)})})
            return
        inputs = {each.text(1): each.inside(2) for each in wanted.messages(13)}
        linked = {name: await self._image_of(ref) for name, ref in builds_in(attributes, inputs).items()}
        await self._build(job, wanted.text(2), {**attributes, **linked})
        ref = job.record.ref
        yield message({3: message({3: message({1: ref, 2: definition_of(ref)})})})

    async def _image_of(self, ref: str) -> str:
        """The result of a build as the context of another one; recorded, if its client does not want that itself."""
        job = await self._job(ref)
        async with job.linking:
            if job.solved is None:
                raise Failure(Code.INVALID, "a context is a build that has no result")
            if job.outputs.kind is not Output.IMAGE and not job.linked:
                session, begun = await self._client.sessions.find(job.session), self._client.services.host.clock.now()
                # All instructions have just been carried out: they are not repeated.
                again = {name: value for name, value in job.record.attributes.items() if name not in _FRESH}
                wanted, silent = Outputs(kind=Output.IMAGE), Progress(ref, self._now)
                made = await solve(self._client, session, again, wanted, silent)
                self._temporary.note(made.fingerprint, begun)
                job.linked = made.fingerprint
        return as_context(job.linked or job.solved.fingerprint)

    async def _evaluate(self, call: Call) -> AsyncIterator[bytes]:
        """Builds are evaluated when they are asked for."""
        await only(call)
        yield b""

    async def _return(self, call: Call) -> AsyncIterator[bytes]:
        job, change = await self._of_call(call), Message(await only(call))
        if not job.returned.done():
            error = change.inside(2)
            if error.number(1):
                job.returned.set_exception(Failure(error.number(1), error.text(2), error.blobs(3)))
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


def _response(solved: Solved | None) -> dict[str, str]:
    if solved is None or not solved.fingerprint:
        return {}
    digest = f"sha256:{solved.fingerprint}"
    found = {
        "containerimage.digest": digest,
        "containerimage.config.digest": digest,
        **({"image.name": ",".join(solved.names)} if solved.names else {}),
    }
    if pushed := solved.pushed:
        descriptor = {"mediaType": pushed.media_type, "digest": pushed.digest, "size": pushed.size}
        found["containerimage.digest"] = pushed.digest
        found["containerimage.descriptor"] = base64.b64encode(orjson.dumps(descriptor)).decode()
    return found
