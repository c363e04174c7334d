"""Connects this process's terminal or pipes to a command or a console of an instance."""

from __future__ import annotations

import posix

from isola.cli.streams import unwritable
from isola.client.interpreter import signal
from isola.client.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from isola.cli.terminal import Wakes
    from isola.client.exec import Session

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def attach(session: Session, source: int | None, transform: Callable[[bytes], bytes | None] | None = None) -> bool:
    """Copy bytes both ways until the command ends; returns whether ``transform`` asked to detach.

    Signals are forwarded to the command. Without a terminal in between, a second Ctrl-C ends this process instead.
    """
    from isola.cli.terminal import Wakes

    with Wakes(*_FORWARDED, *((signal.SIGWINCH,) if session.interactive else ())) as wakes:
        if session.interactive and source is not None and posix.isatty(source):
            from isola.cli.terminal import Raw

            with Raw(source):
                return _pump(session, source, wakes, transform)
        return _pump(session, source, wakes, transform)


def _pump(
    session: Session, source: int | None, wakes: Wakes, transform: Callable[[bytes], bytes | None] | None
) -> bool:
    interrupts = 0

    def woken() -> None:
        nonlocal interrupts
        for number in wakes.take():
            if number == signal.SIGWINCH:
                from isola.cli.terminal import size

                session.resize(*size(1))
                continue
            interrupts += number == signal.SIGINT
            if interrupts > 1 and number == signal.SIGINT:
                raise KeyboardInterrupt
            session.signal(number)

    outputs = {"0": 1} if session.interactive else {"1": 1, "2": 2}
    sinks = {name: _writer(fd) for name, fd in outputs.items()}
    return session.pump(source, sinks, wake=(wakes.fd, woken), transform=transform)


def _writer(fd: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        try:
            write_all(fd, data)
        except OSError as error:
            raise unwritable(error) from None

    return write
