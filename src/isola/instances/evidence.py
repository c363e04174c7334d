"""Why a start failed, kept for later questions: ``start.log`` beside the console's log."""

from __future__ import annotations

import re
from contextlib import suppress

from isola.errors import IsolaError
from isola.instances.context import Context
from isola.model.instance import Instance

START_LOG = "start.log"
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])|[^\x20-\x7e\xa0-\U0010ffff]")
_LINES, _CHARACTERS = 8, 1000


async def last_words(context: Context, instance: Instance) -> str:
    """The last lines its console has shown."""
    try:
        return tail(await context.runtime(instance).console_log(instance.id))
    except IsolaError:
        return ""


async def note_failure(context: Context, instance: Instance, error: IsolaError) -> None:
    """Write down why the last start failed; the failure itself is the news, so that this may fail."""
    file = context.logs(instance) / START_LOG
    line = f"{context.host.clock.now():%Y-%m-%d %H:%M:%S} UTC: The start failed: {error}\n"
    with suppress(IsolaError):
        await context.host.files.make_directory(file.parent, mode=0o700)
        await context.host.files.write(file, line.encode(errors="replace"), durable=False)


async def failure(context: Context, instance: Instance) -> bytes:
    """What was written down of the last start that failed; empty where none has."""
    try:
        return await context.host.files.read(context.logs(instance) / START_LOG)
    except IsolaError:
        return b""


def tail(log: bytes) -> str:
    """The last lines that say something, without what steers a terminal. Pure."""
    lines = [_ESCAPES.sub("", line).strip() for line in log[-16_384:].decode(errors="replace").splitlines()]
    return "\n".join([line for line in lines if line][-_LINES:])[-_CHARACTERS:]
