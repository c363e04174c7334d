"""Commands inside instances: each has an id, is started at most once, and is remembered for a while after its end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from isola.errors import HostFailure, IsolaError, NotFound, WrongState
from isola.host.sockets import Stream
from isola.instances import exec as verb
from isola.instances.context import Context
from isola.instances.last_run import status_of_failure
from isola.model.caller import Caller
from isola.model.exec import ExecRequest
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.runtimes import Execution

log = logging.getLogger(__name__)
_KEEP = 1024
"""Maximum number of remembered commands that are not running."""
_KEEP_BYTES = 16 * 2**20
"""Maximum total size of their arguments and environments."""


class Command:
    """A command inside an instance, from the request to its exit status.

    It may be started, inspected, resized and signalled by different clients; the one that started it calls ``close``.
    """

    def __init__(
        self, known: Commands, context: Context, instance: Instance, request: ExecRequest, caller: Caller
    ) -> None:
        self.id = context.host.clock.token(32)
        self.instance = instance
        self.request = request
        self.exit_status: int | None = None
        """As in a shell; None until it has ended."""
        self.notes: dict[str, object] = {}
        """What the door that created it remembers of the request."""
        self._known = known
        self._caller = caller
        self._context = context
        self._execution: Execution | None = None
        self._begun = False
        self._refusal = ""

    @property
    def started(self) -> bool:
        """Also if it has ended since."""
        return self._begun

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._begun and self.exit_status is None

    @property
    def stdin(self) -> Stream:
        """The stream for input; with a terminal the same as ``stdout``."""
        return self._started.stdin

    @property
    def stdout(self) -> Stream:
        """The stream of its output."""
        return self._started.stdout

    @property
    def stderr(self) -> Stream | None:
        """None with a terminal."""
        return self._started.stderr

    @property
    def refusal(self) -> str:
        """After its end: why it could not be executed, as the engine says it; empty if it was executed."""
        return self._execution.refusal if self._execution is not None else self._refusal

    def require_ready(self) -> None:
        """Check that it can be started. Raises WrongState."""
        verb.require_ready(self._context, self.instance)

    async def start(self) -> None:
        """Raises WrongState (not running, frozen, started before), InvalidInput (unknown user)."""
        if self._begun:
            raise WrongState("The command has already been started", remedy="create a new one")
        verb.require_ready(self._context, self.instance)
        self._begun = True
        try:
            self._execution = await verb.begin(self._context, self.instance, self.request, self._caller, id=self.id)
        except BaseException as error:
            self._end(status_of_failure(str(error)) if isinstance(error, HostFailure) else verb.NOT_STARTED)
            raise
        finally:
            self._known.settle(self)

    def resize(self, width: int, height: int) -> None:
        """Set the window size of its terminal; before the start, the initial one."""
        self.request = dataclasses.replace(self.request, width=width, height=height)
        if self._execution is not None:
            self._execution.resize(width, height)

    async def signal(self, signum: int) -> None:
        """Send a signal to the command. Raises WrongState before its start."""
        await self._started.signal(signum)

    async def number(self) -> int:
        """Its PID, for display only; 0 if it does not run."""
        return await self._execution.number() if self._execution is not None and self.running else 0

    async def detach(self) -> None:
        """Start it without a client: its input is empty, its output is dropped, and it is closed at its end.

        Raises the errors of ``start``.
        """
        await self.start()
        task = asyncio.get_running_loop().create_task(self._run_alone(), name=f"command {self.id}")
        self._known.alone.add(task)
        task.add_done_callback(self._known.alone.discard)

    async def _run_alone(self) -> None:
        if not self.request.interactive:
            self.stdin.close()
        streams = [self.stdout, *([self.stderr] if self.stderr is not None else [])]
        drains = [asyncio.ensure_future(_drop(stream)) for stream in streams]
        try:
            await self.wait()
        except IsolaError as error:
            log.info("Command %s: %s", self.id, error)
        finally:
            for drain in drains:
                drain.cancel()
            await self.close()

    async def wait(self) -> int:
        """Exit status. Raises WrongState before its start, HostFailure if it could not be executed for other reasons
        than its file.
        """
        if self.exit_status is None:
            execution = self._started
            try:
                self._end(await execution.wait())
            except HostFailure as error:
                self._end(status_of_failure(execution.refusal or str(error)))
                raise
        assert self.exit_status is not None
        return self.exit_status

    def _end(self, status: int) -> None:
        if self.exit_status is None:
            self.exit_status = status
            ref = self._ref()
            self._context.tell("exec-ended", ref, caller=self._caller, id=self.id, exit_status=status)

    def _ref(self) -> Ref:
        """Of its instance, which may have been renamed since."""
        known = self._context.records.find(self.instance.ref)
        if known is not None and known.id == self.instance.id:
            return known.ref
        return (self._context.by_id(self.instance.id) or self.instance).ref

    async def close(self) -> None:
        """Kill it if it is still running, and close all descriptors; no effect before its start."""
        if self._execution is None:
            return
        execution = self._execution
        try:
            await execution.close()
            await self.wait()
        finally:
            self._refusal = execution.refusal
            self._execution = None  # it holds streams and their buffers
            self._known.settle(self)

    @property
    def _started(self) -> Execution:
        if self._execution is None:
            raise WrongState("The command is not running")
        return self._execution


class Commands:
    """Commands by id: all running ones, and a bounded number of others, of which the oldest are dropped first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: dict[str, Command] = {}
        self._idle: dict[str, tuple[Command, int]] = {}
        self._bytes = 0
        self.alone: set[asyncio.Task[None]] = set()
        """Commands without a client."""

    def make(self, instance: Instance, request: ExecRequest, caller: Caller) -> Command:
        """Create a command without starting it. Raises WrongState, InvalidInput."""
        verb.check(self._context, instance, request)
        command = Command(self, self._context, instance, request, caller)
        self._keep(command)
        arguments = list(request.command)
        self._context.tell("exec-created", instance.ref, caller=caller, command=arguments, id=command.id)
        return command

    def get(self, id: str) -> Command:
        """Raises NotFound."""
        command = self._running.get(id) or self._idle.get(id, (None, 0))[0]
        if command is None:
            raise NotFound(f"Command {id[:80]!r} not found", remedy="it may have ended a while ago")
        return command

    def of(self, instance: Instance) -> list[Command]:
        known = [*self._running.values(), *(command for command, _ in self._idle.values())]
        return [command for command in known if command.instance.id == instance.id]

    def settle(self, command: Command) -> None:
        """Update its place after its start or end: running commands are never dropped."""
        _, size = self._idle.pop(command.id, (None, 0))
        self._bytes -= size
        if command.running:
            self._running[command.id] = command
        else:
            self._running.pop(command.id, None)
            self._keep(command)

    def _keep(self, command: Command) -> None:
        size = _size(command.request)
        self._idle[command.id] = (command, size)
        self._bytes += size
        while len(self._idle) > 1 and (len(self._idle) > _KEEP or self._bytes > _KEEP_BYTES):
            oldest = next(iter(self._idle))
            self._bytes -= self._idle.pop(oldest)[1]


async def _drop(stream: Stream) -> None:
    while await stream.read():
        pass


def _size(request: ExecRequest) -> int:
    """Bytes of its texts, roughly."""
    texts = (*request.command, *request.environment, *request.environment.values())
    return sum(map(len, texts)) + 64 * len(texts)
