"""A fake of the program that forwards published ports: it answers requests, and forwards nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isola.errors import IsolaError
from isola.host.published.message import Address, Endpoint, Request, listen_line, read_request
from isola.testing.files import FakeFiles
from isola.testing.processes import Call, FakeProcesses, Program
from isola.testing.sockets import FakeSockets, FakeStream

_MODULE = "isola.host.published.program"
Listening = dict[Endpoint, tuple[str, Address]]


class FakePortForwarder:
    """``ports``: where it listens -> owner and target. ``taken``: endpoints of other programs of the host."""

    def __init__(self, processes: FakeProcesses, files: FakeFiles, sockets: FakeSockets) -> None:
        self._processes = processes
        self._files = files
        self._sockets = sockets
        self.ports: Listening = {}
        self.taken: set[Endpoint] = set()
        self.requests: list[Request] = []

    @property
    def program(self) -> Program:
        """What is run."""

        def begin(call: Call) -> asyncio.Future[int]:
            # A child has its copy of the descriptor when it is started, so the parent may close its own.
            assert call.descriptors[1] is not None
            return asyncio.ensure_future(self._run(call, self._sockets.far(call.descriptors[1])))

        return begin

    async def _run(self, call: Call, output: FakeStream) -> int:
        control, pid_file = map(Path, call.argv[4:6])
        own = next(each for each in self._processes.running if each.call is call)
        try:
            await self._files.write(pid_file, str(own.ref.pid).encode(), durable=False)
        except IsolaError as error:
            await output.write(f"error: {error}\n".encode())
            output.close()
            return 1
        self.ports.clear()
        clients = self._sockets.listen(control)
        await output.write(b"ready\n")
        output.close()
        try:
            while True:
                await self._answer(await clients.get())
        finally:
            self.ports.clear()
            self._sockets.vanish(control)

    async def _answer(self, client: FakeStream) -> None:
        text = ""
        while not text.endswith(("apply\n", "list\n")):
            if not (block := await client.read()):
                client.close()
                return
            text += block.decode()
        request = read_request(text)
        lines = self._lines() if request.listing else []
        problem = None if request.listing else self._apply(request)
        lines.append(f"error\t{problem}" if problem else f"ok\t{len(self.ports)}\t0")
        await client.write("".join(f"{line}\n" for line in lines).encode())
        client.close()

    def _lines(self) -> list[str]:
        return [listen_line(owner, endpoint, target) for endpoint, (owner, target) in self.ports.items()]

    def _apply(self, request: Request) -> str | None:
        self.requests.append(request)
        leaving = request.yields | request.drop
        for owner, endpoint, _ in request.listen:
            holder = self.ports.get(endpoint, (owner, None))[0]
            if endpoint in self.taken or not (holder in {owner, *leaving} or request.take):
                return "cannot listen on {}:{}:{}: Address already in use".format(*endpoint)
        for endpoint in [key for key, (owner, _) in self.ports.items() if owner in leaving]:
            del self.ports[endpoint]
        self.ports |= {endpoint: (owner, target) for owner, endpoint, target in request.listen}
        return None


def is_port_forwarder(call: Call) -> bool:
    """Whether a process runs this program."""
    return call.argv[2:3] == ("-c",) and _MODULE in call.argv[3]
