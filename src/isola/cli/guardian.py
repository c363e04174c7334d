"""Deletes the instance of ``isola run`` if the command is killed (SIGKILL)."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client import Client

_SECONDS = 60.0
_TRIES = 60


class Guardian:
    """A small process in its own session that waits for the end of this one; ``relieve`` ends it without effect."""

    def __init__(self, client: Client, name: str) -> None:
        reading, self._writing = posix.pipe2(posix.O_CLOEXEC)
        self._pid = posix.fork()
        if self._pid == 0:
            _run(reading, client, name)
        posix.close(reading)

    def relieve(self) -> None:
        """End the guardian: the instance was deleted, or is to be kept."""
        posix.write(self._writing, b"1")
        posix.close(self._writing)
        posix.waitpid(self._pid, 0)


def _run(reading: int, client: Client, name: str) -> None:
    """The guardian's process: wait for EOF on the pipe, then delete the instance."""
    try:
        posix.setsid()
        posix.dup2(reading, 0)
        null = posix.open("/dev/null", posix.O_RDWR)
        for fd in (1, 2):
            posix.dup2(null, fd)
        posix.closerange(3, 1 << 16)  # pipes, terminals and connections must not stay open because of this process
        if posix.read(0, 1) == b"":
            _delete(client, name)
    finally:
        posix._exit(0)


def _delete(ours: Client, name: str) -> None:
    import time

    from isola.client import Client
    from isola.errors import IsolaError, NotFound

    for _ in range(_TRIES):
        try:
            with Client(ours.socket_path, project=ours.project, timeout=_SECONDS, remote=ours.remote) as client:
                client.instances.delete(name, force=True).wait()
            return
        except NotFound:
            return
        except IsolaError:  # it is still being launched, or the daemon restarts
            time.sleep(1)
