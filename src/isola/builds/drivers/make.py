"""A unikernel that a command of the context compiles, in a container of an image with its compiler."""

from __future__ import annotations

from isola.builds.toolchain import Toolchain, line, options
from isola.errors import InvalidInput
from isola.model.build import BuildRequest
from isola.settings import Setting


class MakeBuilder(Toolchain):
    """For programs with a makefile, or any other command."""

    file = "Makefile"
    summary = "a unikernel, compiled by a command in the context such as make"
    settings = options("kernel.elf", Setting("run", line, "The command, executed by the image's shell.", "make"))

    def check(self, request: BuildRequest) -> None:
        """The command says which files it reads."""
        super().check(request)
        if request.dockerfile:
            raise InvalidInput(
                "The builder 'make' takes no file",
                field="dockerfile",
                remedy="name it in the command, by the build argument run: make -f FILE",
            )

    def argv(self, request: BuildRequest) -> tuple[str, ...]:
        """By the shell, which stops at the first failure."""
        return "/bin/sh", "-ec", str(self.settings.value(self.options(request), "run"))


DRIVER = MakeBuilder
