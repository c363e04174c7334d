"""A command or console attached over WebSockets: three streams or a terminal, and a control channel."""

from __future__ import annotations

import posix
import select

from isola.client import json
from isola.client.websocket import WebSocket
from isola.client.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isola.client.api import Api
    from isola.client.operations import Operation

    Sink = Callable[[bytes], object]

_PIECE = 65536


class Ended:
    """Exit status and output of a command."""

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


class Session:
    """An attached command. Channel ``0`` is its input (or its terminal), ``1`` and ``2`` its outputs."""

    def __init__(self, client: Api, operation: Operation) -> None:
        self.operation = operation
        fds = operation.metadata.get("fds")
        if not isinstance(fds, dict) or not fds:
            from isola.client.failures import BadReply

            raise BadReply("The daemon's response has no channels for the command")
        openings = {
            str(name): client.websocket(f"{operation.path}/websocket", {"secret": str(secret)})
            for name, secret in fds.items()
        }
        operation.expect_end()
        self.channels: dict[str, WebSocket] = {}
        try:
            for name, opening in openings.items():
                self.channels[name] = opening.accept()
        except Exception:
            self.close()
            self._raise_earlier_failure()
            raise
        self.interactive = "1" not in self.channels

    def _raise_earlier_failure(self) -> None:
        """The error of a command that could not be started is more useful than that of the closed channel."""
        if self.operation.refresh().get("status_code", 0) >= 400:
            self.operation.wait()

    def resize(self, columns: int, lines: int) -> None:
        """Set the terminal's size."""
        self._control({"command": "window-resize", "args": {"width": str(columns), "height": str(lines)}})

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        self._control({"command": "signal", "signal": number})

    def _control(self, message: dict[str, object]) -> None:
        control = self.channels.get("control")
        if control is not None and not control.closed:
            control.queue(json.encode(message))
            control.flush()

    def pump(
        self,
        source: int | None,
        sinks: Mapping[str, Sink],
        *,
        wake: tuple[int, Callable[[], object]] | None = None,
        transform: Callable[[bytes], bytes | None] | None = None,
    ) -> bool:
        """Copy bytes both ways until EOF on all outputs; returns whether ``transform`` asked to detach.

        ``source`` is the descriptor of the input, None for no input. ``sinks`` are called with the data of each output
        channel. ``wake`` is another descriptor to poll, and the function to call when it is readable. ``transform`` may
        change the input; it returns None to detach.
        """
        return _Pump(self, source, sinks, wake, transform).run()

    def status(self) -> int:
        """The command's exit status, once it has ended. Raises the operation's error."""
        self.close()
        try:
            result = (self.operation.wait().get("metadata") or {}).get("return")
        except Exception as error:
            raise _lost(error) from error
        return result if isinstance(result, int) else 0

    def close(self) -> None:
        """Close all channels."""
        for channel in self.channels.values():
            channel.close()


def _lost(error: Exception) -> Exception:
    from isola.client.failures import Unreachable

    if not isinstance(error, Unreachable):
        return error
    return Unreachable("The connection to the command was lost", remedy="it may still be running inside")


class _Pump:
    """The loop of ``Session.pump``."""

    def __init__(
        self,
        session: Session,
        source: int | None,
        sinks: Mapping[str, Sink],
        wake: tuple[int, Callable[[], object]] | None,
        transform: Callable[[bytes], bytes | None] | None,
    ) -> None:
        self._channels = session.channels
        self._input = session.channels["0"]
        self._source = source
        self._sinks = sinks
        self._wake = wake
        self._transform = transform
        self._open = {name for name in sinks if name in session.channels}
        self._poll = select.poll()
        self._by_fd = {channel.fileno(): name for name, channel in session.channels.items()}
        self._masks: dict[int, int] = {}
        self._detached = False

    def run(self) -> bool:
        if self._source is None:
            self._end_of_input()
        if self._wake is not None:
            self._watch(self._wake[0], select.POLLIN)
        for name in list(self._channels):
            self._deliver(name)
        while self._open and not self._detached:
            self._arm()
            for fd, _ in self._poll.poll():
                self._ready(fd)
        return self._detached

    def _arm(self) -> None:
        """Set the events to poll for: the source is read only while nothing waits to be sent."""
        for fd, name in self._by_fd.items():
            channel = self._channels[name]
            wanted = 0 if channel.closed else select.POLLIN | (select.POLLOUT if channel.congested else 0)
            self._watch(fd, wanted)
        if self._source is not None:
            idle = not self._input.congested and not self._input.closed
            self._watch(self._source, select.POLLIN if idle else 0)

    def _watch(self, fd: int, mask: int) -> None:
        if self._masks.get(fd, 0) == mask:
            return
        if mask:
            self._poll.register(fd, mask)
        else:
            self._poll.unregister(fd)
        self._masks[fd] = mask

    def _ready(self, fd: int) -> None:
        if fd == self._source:
            self._read_source(fd)
        elif fd in self._by_fd:
            name = self._by_fd[fd]
            self._channels[name].flush()
            if not self._channels[name].closed:
                self._channels[name].read()
            self._deliver(name)
        elif self._wake is not None:
            self._wake[1]()

    def _deliver(self, name: str) -> None:
        """Pass a channel's messages to its sink. An empty message, or text on a data channel, is EOF."""
        channel = self._channels[name]
        sink = self._sinks.get(name)
        for message in channel.take():
            if sink is not None and name in self._open:
                if isinstance(message, bytes) and message:
                    sink(message)
                else:
                    self._open.discard(name)
        if channel.closed:
            self._open.discard(name)

    def _read_source(self, fd: int) -> None:
        try:
            data = posix.read(fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that hung up
        if not data:
            self._end_of_input()
            return
        if self._transform is not None:
            kept = self._transform(data)
            self._detached = kept is None
            data = kept or b""
        if data:
            self._input.queue(data)
            self._input.flush()

    def _end_of_input(self) -> None:
        if self._source is not None:
            self._watch(self._source, 0)
            self._source = None
        self._input.queue("")
        self._input.flush()


def collect(session: Session, input: bytes = b"") -> Ended:
    """Wait for an attached command, and collect its output."""
    outputs: dict[str, list[bytes]] = {"0": [], "1": [], "2": []}
    names = ("0",) if session.interactive else ("1", "2")
    source = _source_of(input) if input else None
    try:
        session.pump(source, {name: outputs[name].append for name in names})
    finally:
        if source is not None:
            posix.close(source)
    return Ended(session.status(), b"".join(outputs[names[0]]), b"".join(outputs["2"]))


def _source_of(data: bytes) -> int:
    """A descriptor from which ``data`` can be read."""
    fd = posix.memfd_create("input")
    write_all(fd, data)
    posix.lseek(fd, 0, 0)
    return fd
