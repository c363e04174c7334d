"""Log files of an instance: the runtime's, the console's, recorded output of commands."""

from __future__ import annotations

import re
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.instances.context import Context
from isola.model.instance import Instance

_OUTPUT = "exec-output"
_NAME = re.compile(r"(exec-output/)?[A-Za-z0-9][A-Za-z0-9._-]{0,200}", re.ASCII)


async def names(context: Context, instance: Instance) -> list[str]:
    """Names of the files; those of recorded output include their directory."""
    directory = context.logs(instance)
    plain = [name for name in await context.host.files.names(directory) if name != _OUTPUT]
    recorded = await context.host.files.names(directory / _OUTPUT)
    return plain + [f"{_OUTPUT}/{name}" for name in recorded]


async def read(context: Context, instance: Instance, file: str) -> bytes:
    """Content of a file. Raises NotFound, also for invalid names."""
    return await context.host.files.read(await _find(context, instance, file))


async def delete(context: Context, instance: Instance, file: str) -> None:
    """Remove a file."""
    await context.host.files.remove_tree(await _find(context, instance, file))


async def require_room_for_output(context: Context, instance: Instance) -> None:
    """Raises HostFailure if output could not be recorded now: better before the command has run than after."""
    probe = context.logs(instance) / _OUTPUT / ".room"
    try:
        await context.host.files.make_directory(probe.parent, mode=0o700)
        await context.host.files.write(probe, b"-", durable=False)
        await context.host.files.remove_tree(probe)
    except HostFailure as error:
        raise HostFailure(
            "The command was not started: there is no room for its output",
            evidence=error.evidence or error.message,
            remedy="make room on the disk that holds the daemon's directory",
        ) from error


async def keep_output(context: Context, instance: Instance, file: str, data: bytes) -> str:
    """Write recorded output of a command; returns the file's name as in ``names``."""
    directory = context.logs(instance) / _OUTPUT
    await context.host.files.make_directory(directory, mode=0o700)
    await context.host.files.write(directory / file, data)
    return f"{_OUTPUT}/{file}"


async def _find(context: Context, instance: Instance, file: str) -> Path:
    if not _NAME.fullmatch(file) or file not in await names(context, instance):
        raise NotFound(f"Instance {instance.name!r} has no log {file[:80]!r}")
    return context.logs(instance) / file
