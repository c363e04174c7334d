"""``python -c "from isola.host.published.program import main; main()" CONTROL PID_FILE VERSION``: forwards all ports.

It listens for requests of the daemon on the socket CONTROL, and writes its PID before that. It outlives the daemon that
started it; the next one finds it by its PID. It runs as ``nobody`` and can do nothing but listen on ports below 1024.
It prints ``ready`` or ``error: ...``, and ends when it has had nothing to forward for a while.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from isola.host import confine
from isola.host.published.control import Control, listening
from isola.host.published.forwarding import Forwarding
from isola.host.published.loop import Loop

NOBODY = 65534
CAP_NET_BIND_SERVICE = 10
_IDLE = 15.0
"""Seconds without ports, connections and requests after which it ends."""


def main() -> None:
    """Forward until there is nothing to forward."""
    try:
        control, pid_file = sys.argv[1:3]
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        _write_pid(pid_file)
        user = os.getuid()
        door = listening(control)
        confine.become(NOBODY, {CAP_NET_BIND_SERVICE}, with_parent=False)
        loop = Loop()
        forwarding = Forwarding(loop)
        served = Control(loop, door, forwarding, user)
    except Exception as error:
        os.write(1, f"error: {error}\n".encode(errors="replace"))
        os._exit(1)
    os.write(1, b"ready\n")
    _silence()
    _end_when_idle(loop, forwarding, served)
    gc.collect()
    gc.freeze()
    loop.run()


def _end_when_idle(loop: Loop, forwarding: Forwarding, control: Control) -> None:
    since: list[float] = []

    def look(now: float) -> None:
        if forwarding.listeners or forwarding.connections or control.clients:
            since.clear()
        elif not since:
            since.append(now)
        elif now - since[0] > _IDLE:
            os._exit(0)

    loop.every_second(look)


def _write_pid(path: str) -> None:
    draft = f"{path}.new"
    with open(draft, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.replace(draft, path)


def _silence() -> None:
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
