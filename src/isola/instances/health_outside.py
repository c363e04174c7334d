"""Health checks from outside: the host connects to the instance, whatever wall is around it."""

from __future__ import annotations

import asyncio
import re

from isola.errors import IsolaError
from isola.host.sockets import Stream
from isola.instances.context import Context
from isola.model.image import HealthCheck
from isola.model.instance import Instance

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b", re.ASCII)
_LONGEST_LINE = 1024
_GOOD = range(200, 400)
_SECOND = 10**9


async def reach(context: Context, instance: Instance, check: HealthCheck) -> tuple[int, bytes]:
    """Exit status and output, as of a command: 0 if it is reached; -1 if it does not answer in time."""
    address = _address(context, instance)
    if not address:
        return 1, b"The instance has no address on a managed network"
    kind, _, where = check.outside.partition(":")
    port, _, path = where.partition("/")
    work = asyncio.ensure_future(_ask(context, address, int(port), f"/{path}" if kind == "http" else ""))
    timer = asyncio.ensure_future(context.host.clock.sleep(check.timeout / _SECOND))
    try:
        await asyncio.wait([work, timer], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return -1, f"Port {port} did not answer within {check.timeout / _SECOND:g} seconds".encode()
        return work.result()
    finally:
        timer.cancel()
        work.cancel()


def _address(context: Context, instance: Instance) -> str:
    """As its network has given it: what a guest says of itself would lead the host anywhere."""
    for plug in context.nics.of(instance):
        nic = context.nics.nic(plug)
        if found := nic.ipv4 or nic.ipv6:
            return found
    return ""


async def _ask(context: Context, address: str, port: int, path: str) -> tuple[int, bytes]:
    try:
        stream = await context.host.sockets.reach(address, port)
    except IsolaError as error:
        return 1, str(error).encode()
    try:
        if not path:
            return 0, b"connected"
        host = f"[{address}]" if ":" in address else address
        await stream.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        line = await _line(stream)
    finally:
        stream.close()
    found = _STATUS.match(line)
    return 0 if found is not None and int(found[1]) in _GOOD else 1, line


async def _line(stream: Stream) -> bytes:
    """The first one, or as much of it as comes."""
    found = b""
    while b"\n" not in found and len(found) < _LONGEST_LINE and (block := await stream.read()):
        found += block
    return found.partition(b"\n")[0][:_LONGEST_LINE].strip()
