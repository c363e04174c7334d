"""The reason of a failed start, kept in ``start.log`` beside the console's log."""

from __future__ import annotations

import re
from contextlib import suppress

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.model.instance import Instance

START_LOG = "start.log"
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])|[^\x20-\x7e\xa0-\U0010ffff]")
_LINES, _CHARACTERS = 8, 1000


async def console_tail(context: Context, instance: Instance) -> str:
    """The last lines of its console output."""
    try:
        return tail(await context.runtime(instance).console_log(instance.id))
    except IsolaError:
        return ""


async def note_failure(context: Context, instance: Instance, error: IsolaError) -> None:
    """Log why the last start failed; errors of writing are ignored, because the failure is reported anyway."""
    file = context.logs(instance) / START_LOG
    line = f"{context.host.clock.now():%Y-%m-%d %H:%M:%S} UTC: The start failed: {error}\n"
    with suppress(IsolaError):
        await context.host.files.make_directory(file.parent, mode=0o700)
        await context.host.files.write(file, line.encode(errors="replace"), durable=False)


async def failure(context: Context, instance: Instance) -> bytes:
    """The logged reason of the last failed start; empty if there is none."""
    try:
        return await context.host.files.read(context.logs(instance) / START_LOG)
    except IsolaError:
        return b""


def tail(log: bytes) -> str:
    """The last non-empty lines, without terminal escape sequences. Pure."""
    lines = [_ESCAPES.sub("", line).strip() for line in log[-16_384:].decode(errors="replace").splitlines()]
    return "\n".join([line for line in lines if line][-_LINES:])[-_CHARACTERS:]
