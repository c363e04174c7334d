"""A unikernel of Unikraft, which ``kraft`` builds in a container of an image that has it."""

from __future__ import annotations

from contextlib import suppress

from isola.builds.toolchain import Toolchain, line, options
from isola.errors import InvalidInput, NotFound
from isola.host import Host
from isola.host.files import Root
from isola.model.build import BuildRequest
from isola.model.probe import Probe
from isola.settings import Setting

_TARGET = ("--plat", "qemu", "--arch", "x86_64")
_FILES = ("Kraftfile", "kraft.yaml", "kraft.yml")
_RESULT = ".unikraft/build/*_qemu-x86_64"


class KraftBuilder(Toolchain):
    """KraftKit fetches the sources that a Kraftfile names, so it needs a network unless they are in the context."""

    file = _FILES[0]
    summary = "a unikernel of Unikraft, built by kraft"
    platform = "unikraft"
    settings = options(_RESULT, Setting("target", line, "The target of the Kraftfile; by default the only one."))

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Kernels of this target start on x86-64."""
        if (machine := host.system.kernel().architecture) != "x86_64":
            return Probe(False, reason=f"It builds for x86_64, and this host is {machine}")
        return Probe(True)

    def argv(self, request: BuildRequest) -> tuple[str, ...]:
        """Without questions and without a terminal's progress."""
        target = str(self.settings.value(self.options(request), "target") or "")
        return (
            "kraft", "build", "--log-type", "basic", "--no-prompt", "--no-check-updates",
            *_TARGET, *(["--target", target] if target else []),
            *(["--kraftfile", request.dockerfile] if request.dockerfile else []), ".",
        )  # fmt: skip

    async def instructions(self, context: Root, request: BuildRequest) -> bytes:
        """Raises InvalidInput without a Kraftfile."""
        for name in (request.dockerfile,) if request.dockerfile else _FILES:
            with suppress(NotFound):
                await context.stat(f"/{name}")
                return await super().instructions(context, request)
        raise InvalidInput(
            f"The context has no {request.dockerfile[:200] or _FILES[0]}",
            field="dockerfile",
            remedy="create one with the name, the sources and the target qemu/x86_64, or name another one (-f)",
        )


DRIVER = KraftBuilder
