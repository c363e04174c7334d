"""Output of commands recorded in files (``record-output``) instead of being sent to a client."""

from __future__ import annotations

from collections.abc import Mapping

from isola.doors import Services
from isola.doors.rest.addresses import address
from isola.instances.commands import Command
from isola.instances.output import Output
from isola.operations import Operation

RECORD_LIMIT = 16 * 2**20
"""Bytes kept of each stream of a command whose output is recorded."""


class Record:
    """Collects a program's output, up to RECORD_LIMIT bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.cut = False
        """Whether the output was longer than RECORD_LIMIT."""

    async def take(self, data: bytes) -> None:
        """Append a block of output."""
        room = RECORD_LIMIT - len(self.data)
        self.cut = self.cut or len(data) > room
        self.data += data[:room]


async def recorded(command: Command) -> tuple[int, Mapping[str, Record]]:
    """Run a started command with empty input; returns its exit status, and its output by channel name."""
    command.stdin.close()
    records = {"1": Record(), "2": Record()}
    outputs = [Output(command.stdout, records["1"].take)]
    if command.stderr is not None:
        outputs.append(Output(command.stderr, records["2"].take))
    try:
        status = await command.wait()
        for output in outputs:
            await output.finish()
    finally:
        for output in outputs:
            output.stop()
    return status, records


async def keep(services: Services, op: Operation, command: Command, records: Mapping[str, Record]) -> None:
    """Write the output to log files, and their API paths to the operation's metadata."""
    output = {}
    for name, record in records.items():
        file = f"exec_{op.id}.{'stdout' if name == '1' else 'stderr'}"
        file = await services.instances.logs.record(command.instance, file, bytes(record.data))
        output[name] = address(command.instance.entity, below=f"/logs/{file}")
    op.update_metadata(output=output)
    if cut := {name: RECORD_LIMIT for name, record in records.items() if record.cut}:
        op.update_metadata(output_truncated=cut)
