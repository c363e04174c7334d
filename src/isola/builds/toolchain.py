"""Builders whose tool is a program of an image: it compiles the context in a container, and its kernel is taken out."""

from __future__ import annotations

import json
import re
import shlex
from abc import abstractmethod

from isola.builds.builder import Builder, unikernel
from isola.errors import InvalidInput
from isola.host import Host
from isola.host.files import Root
from isola.model.build import BuildRequest
from isola.model.image_reference import parse
from isola.model.kernel import INITRD, KERNEL, MACHINES, Kernel
from isola.model.probe import Probe
from isola.settings import Setting, Settings, one_of

SOURCE = "/src"
"""Where the tool sees the context."""
_PATH = re.compile(r"[A-Za-z0-9._*?/+-]{1,1000}", re.ASCII)
_LONGEST = 2000


def image(value: str) -> str:
    """The name of an image."""
    if not re.fullmatch(r"[A-Za-z0-9._:/@-]{1,300}", value, re.ASCII):
        raise ValueError("the name of an image is expected")
    try:
        parse(value)
    except InvalidInput as error:
        raise ValueError(error.message) from error
    return value


def path(value: str) -> str:
    """A path below the context; with ``*`` and ``?``."""
    if not _PATH.fullmatch(value) or value.startswith("/") or ".." in value.split("/"):
        raise ValueError("a path below the context, of letters, digits and ._+-*? is expected")
    return value


def line(value: str) -> str:
    """Of at most 2000 printable characters."""
    if not value.strip() or len(value) > _LONGEST or not value.isprintable():
        raise ValueError(f"one line of up to {_LONGEST} characters is expected")
    return value


def words(value: str) -> tuple[str, ...]:
    """Quoted as in a shell."""
    try:
        return tuple(shlex.split(line(value)))
    except ValueError as error:
        raise ValueError(f"arguments quoted as in a shell are expected ({error})") from error


def options(kernel: str, *more: Setting) -> Settings:
    """Those that all of these builders have; ``kernel``: what the tool calls its result."""
    return Settings(
        "builder",
        Setting("image", image, "The image with the tool, its compiler and a shell."),
        Setting("kernel", path, "The kernel that the tool makes, below the context.", kernel),
        Setting("initrd", path, "Its initial file system; by default it has none."),
        Setting("machine", one_of(*MACHINES), "The machine that starts it.", MACHINES[0]),
        Setting("command", words, "The arguments of the kernel, quoted as in a shell."),
        *more,
    )


class Toolchain(Builder):
    """What is started is one command in a container of ``image``."""

    platform = ""
    """For which toolchain it is made; for display."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """The tool is in an image: nothing has to be installed on the host."""
        return Probe(True)

    @abstractmethod
    def argv(self, request: BuildRequest) -> tuple[str, ...]:
        """The command, executed where the context is."""

    def check(self, request: BuildRequest) -> None:
        """It needs an image."""
        super().check(request)
        if not self.options(request).get("image"):
            raise InvalidInput(
                "The build needs the name of the image with the tool",
                field="arguments.image",
                remedy="give it in the build argument image",
            )

    async def instructions(self, context: Root, request: BuildRequest) -> bytes:
        """Two stages: the tool runs in the first one, the second one is the image."""
        given = self.options(request)
        value = self.settings.value
        initrd = value(given, "initrd")
        kernel = Kernel(initrd=INITRD if initrd else "", machine=str(value(given, "machine")), platform=self.platform)
        arguments = value(given, "command")
        lines = [
            f"FROM {value(given, 'image')} AS build",
            f"WORKDIR {SOURCE}",
            f"COPY . {SOURCE}/",
            f"RUN {json.dumps(self.argv(request))}",
            "FROM scratch",
            f"COPY --from=build {SOURCE}/{value(given, 'kernel')} {KERNEL}",
            *([f"COPY --from=build {SOURCE}/{initrd} {INITRD}"] if initrd else []),
            unikernel(kernel, arguments if isinstance(arguments, tuple) else ()),
        ]
        return "\n".join(lines).encode()
