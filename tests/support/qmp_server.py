"""A QEMU in memory, as its control protocol shows it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from isola.testing.sockets import FakeStream

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


class Server:
    """Answers by a function from the command to the response."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.commands: list[dict[str, Any]] = []
        self.responses: dict[str, object] = {"qmp_capabilities": {"return": {}}}
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def send(self, *messages: object) -> None:
        for message in messages:
            await self.stream.write(json.dumps(message).encode() + b"\r\n")

    async def run(self) -> None:
        await self.send(GREETING)
        pending = b""
        while block := await self.stream.read():
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                command = json.loads(line)
                self.commands.append(command)
                response = self.responses.get(command["execute"])
                if isinstance(response, dict):
                    await self.send(response | {"id": command["id"]})
