"""Learn what a workload uses: from the beginning of a recording to the configuration of a profile.

A recording is in the memory of the daemon and of the kernel, and ends with either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from isola.errors import AlreadyExists, Conflict, InvalidInput, IsolaError, NotFound, Unsupported
from isola.host.recording import Recording
from isola.instances.commit import MOUNT_POINTS
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.differences import whole
from isola.instances.following import follow
from isola.instances.refused import Refused
from isola.instances.run_spec import confinement
from isola.model.caller import DAEMON, Caller
from isola.model.confinement import UNCONFINED
from isola.model.identity import PRIVILEGED
from isola.model.instance import Instance
from isola.model.learned import CONNECT, LISTEN, Learned, learned
from isola.model.reference import Ref
from isola.runtimes import Lack

_OWN_KERNEL = Lack("Its system calls are answered by a kernel of its own", remedy="learn in a container")
MOST = 16
"""Recordings at a time: each is a program in the kernel that all system calls of the host pass."""
_SAMPLE = 1.0
"""Seconds between looks at the ports."""


@dataclass(slots=True)
class _Session:
    recording: Recording
    ports: set[str] = field(default_factory=set)
    sampling: asyncio.Task[None] | None = None


class Learning:
    """By instance. All raise NotFound."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sessions: dict[str, _Session] = {}
        self._beginning: set[str] = set()
        self.refused = Refused(context)
        context.at_end.append(self.refused.look_at)

    async def begin(self, ref: Ref, *, caller: Caller = DAEMON) -> None:
        """What it does from now on is recorded, also over restarts.

        Raises AlreadyExists, Conflict, InvalidInput, Unsupported.
        """
        instance = self._context.records.get(ref)
        self._check(instance)
        for gone in self._sessions.keys() - {each.id for each in self._context.records}:
            self._forget(gone)
        if instance.id in self._sessions or instance.id in self._beginning:
            raise AlreadyExists(f"{instance.name!r} is being recorded already")
        if len(self._sessions) + len(self._beginning) >= MOST:
            raise Conflict(f"{MOST} instances are being recorded already", remedy="end one of the recordings")
        self._beginning.add(instance.id)
        try:
            session = _Session(await self._context.host.recorder.record(instance.idmap))
        finally:
            self._beginning.discard(instance.id)
        self._context.recordings[instance.id] = session.recording
        if (live := self._context.live.get(instance.id)) is not None:
            await follow(self._context, instance.id, live.guest)
        session.sampling = asyncio.get_running_loop().create_task(self._sample(instance.id, session))
        self._sessions[instance.id] = session
        self._context.tell("learning-started", ref, caller=caller)

    async def read(self, ref: Ref, *, caller: Caller = DAEMON) -> Learned:
        """What it has used until now. Raises WrongState if its root cannot be read."""
        instance, session = self._find(ref)
        seen = await session.recording.read()
        await self._look(instance.id, session)
        changed = await whole(self._context, ref, caller)
        return learned(seen, changed, session.ports, mounted={f"/{path}" for path in MOUNT_POINTS})

    async def end(self, ref: Ref, *, caller: Caller = DAEMON) -> None:
        """End the recording; what was seen is lost."""
        instance, _ = self._find(ref)
        self._forget(instance.id)
        self._context.tell("learning-ended", ref, caller=caller)

    def close(self) -> None:
        """At the end of the daemon."""
        self.refused.close()
        for id in list(self._sessions):
            self._forget(id)

    def _find(self, ref: Ref) -> tuple[Instance, _Session]:
        instance = self._context.records.get(ref)
        session = self._sessions.get(instance.id)
        if session is None:
            raise NotFound(
                f"{instance.name!r} is not being recorded", remedy="begin a recording; one ends with the daemon"
            )
        return instance, session

    def _forget(self, id: str) -> None:
        session = self._sessions.pop(id)
        self._context.recordings.pop(id, None)
        if session.sampling is not None:
            session.sampling.cancel()
        session.recording.close()

    def _check(self, instance: Instance) -> None:
        runtime = self._context.runtime(instance).capabilities
        lack = runtime.unrecordable or (None if runtime.shares_kernel else _OWN_KERNEL)
        if lack is not None:
            raise Unsupported(lack.reason, remedy=lack.remedy)
        config, _ = expanded(self._context, instance)
        wanted = confinement(config)
        if instance.idmap == PRIVILEGED or wanted.seccomp == UNCONFINED:
            raise InvalidInput(
                f"{instance.name!r} is not confined, so its processes cannot be distinguished from others",
                remedy="unset security.privileged, isola.privileged and isola.seccomp",
            )
        limited = next((key for key in (LISTEN, CONNECT) if config.get(key)), None)
        if limited is not None:
            raise InvalidInput(
                f"{instance.name!r} has a list of ports already: nothing beyond it would be learned",
                field=f"config.{limited}",
                remedy="remove the profile with it, or unset it",
            )
        if wanted.system_calls:
            raise InvalidInput(
                f"{instance.name!r} has a list of system calls already: nothing beyond it would be learned",
                field="config.security.syscalls.allow",
                remedy="remove the profile with it, or unset it",
            )

    async def _sample(self, id: str, session: _Session) -> None:
        while True:
            with suppress(IsolaError):
                await self._look(id, session)
            await self._context.host.clock.sleep(_SAMPLE)

    async def _look(self, id: str, session: _Session) -> None:
        live = self._context.live.get(id)
        process = self._context.host.processes.identify(live.guest.number) if live is not None else None
        if process is not None:
            session.ports |= await self._context.host.recorder.listening(process)


def as_mapping(found: Learned) -> Mapping[str, object]:
    """For doors."""
    return {
        "system_calls": found.calls,
        "capabilities": found.capabilities,
        "written": found.written,
        "opened": found.opened,
        "ports": found.ports,
        "listens": found.listens,
        "connects": found.connects,
        "notes": found.notes,
        "config": found.config,
    }
