"""A fake of the forwarder program: it reports that it listens, and forwards nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

from isola.errors import IsolaError
from isola.host.forwarder import Spec
from isola.testing.files import FakeFiles
from isola.testing.processes import Call, FakeProcesses, Program, forever
from isola.testing.sockets import FakeSockets, FakeStream


def forwarder(processes: FakeProcesses, files: FakeFiles, sockets: FakeSockets) -> Program:
    """A second forwarder that listens on the same address of the host fails."""

    def program(call: Call) -> Awaitable[int]:
        # A child has its copy of the descriptor when it is started, so the parent may close its own.
        assert call.descriptors[1] is not None
        return run(call, sockets.far(call.descriptors[1]))

    async def run(call: Call, output: FakeStream) -> int:
        spec = Spec.read(call.argv[4])
        own = next(each for each in processes.running if each.call is call)
        try:
            await files.write(Path(spec.pid_file), str(own.ref.pid).encode(), durable=False)
        except IsolaError as error:
            await output.write(f"error: {error}\n".encode())
            output.close()
            return 1
        others = [Spec.read(each.call.argv[4]) for each in processes.running if is_forwarder(each.call) and each != own]
        if any(other.listen == spec.listen for other in others):
            await output.write(b"error: cannot listen: Address already in use\n")
            output.close()
            return 1
        await output.write(b"ready\n")
        output.close()
        return await forever(call)

    return program


def is_forwarder(call: Call) -> bool:
    """Whether a process runs this program."""
    return call.argv[2:4] == ("-m", "isola.host.forwarder")
