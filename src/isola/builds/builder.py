"""The driver kind of builders. ``drivers/<name>.py`` exports its class as ``DRIVER``.

A builder turns a context into instructions, as a Dockerfile has them. They are carried out like those of every build:
in containers, within its limits, from the cache, with its progress. So no program of a context runs on the host.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

from isola.builds.state import PROXIES
from isola.errors import InvalidInput, NotFound, TooLarge
from isola.host import Host
from isola.host.files import Root
from isola.model.build import BuildRequest
from isola.model.image import TYPE_LABEL
from isola.model.kernel import UNIKERNEL, Kernel, labels_of
from isola.model.probe import Probe
from isola.settings import Settings

ADDED = "/.isola-builder"
"""Directory in the context for files that a builder adds."""
_PREDEFINED = PROXIES | {"SOURCE_DATE_EPOCH"}


class Builder(ABC):
    """What is built from a context."""

    settings: ClassVar[Settings] = Settings("builder")
    """Its options, which are given as build arguments."""
    file: ClassVar[str]
    """The path in the context of what it reads first, if the request names none."""
    summary: ClassVar[str]
    is_checked: ClassVar[bool] = False
    """Whether the instructions are the user's, who wants to know of mistakes in them."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Whether it works on this host, and if not why and what to do."""
        return Probe(True)

    def check(self, request: BuildRequest) -> None:
        """Before anything is begun. Raises InvalidInput."""
        self.settings.validate(self.options(request), where="arguments")
        if request.target:
            raise InvalidInput("Only Dockerfiles have stages", field="target", remedy="leave it out")

    @abstractmethod
    async def instructions(self, context: Root, request: BuildRequest) -> bytes:
        """The text of a Dockerfile; may add files below ``ADDED``. Raises InvalidInput, NotFound, DriverUnavailable."""

    def arguments(self, request: BuildRequest) -> Mapping[str, str]:
        """The build arguments of the instructions."""
        return {name: value for name, value in request.arguments.items() if name in _PREDEFINED}

    @staticmethod
    def options(request: BuildRequest) -> Mapping[str, str]:
        """Build arguments that are options of the builder."""
        return {name: value for name, value in request.arguments.items() if name not in _PREDEFINED}


async def read(context: Root, path: str, most: int) -> bytes:
    """A file of the context. Raises NotFound, TooLarge, InvalidInput."""
    data = bytearray()
    async for block in await context.read(path):
        data += block
        if len(data) > most:
            raise TooLarge(f"{path[:200]} has more than {most} bytes", field="dockerfile")
    return bytes(data)


async def add(context: Root, files: Mapping[str, AsyncIterator[bytes]]) -> None:
    """Write files below ``ADDED``, in the place of what the client has there."""
    if await _exists(context, ADDED):
        await context.remove(ADDED)
    await context.make_directory(ADDED, uid=0, gid=0, mode=0o755)
    for name, content in files.items():
        await context.write(f"{ADDED}/{name}", content, uid=0, gid=0, mode=0o644)


def unikernel(kernel: Kernel, arguments: tuple[str, ...]) -> str:
    """The instructions that make an image a unikernel: labels, and the arguments of the kernel."""
    labels = {TYPE_LABEL: UNIKERNEL, **labels_of(kernel)}
    lines = [f"LABEL {name}={quoted(value)}" for name, value in labels.items()]
    return "\n".join([*lines, f"CMD {json.dumps(arguments)}", ""])


def quoted(text: str) -> str:
    """A word of an instruction in which nothing is expanded. ``text`` has no line break."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


async def _exists(context: Root, path: str) -> bool:
    try:
        await context.stat(path, follow=False)
    except NotFound:
        return False
    return True
