"""A unikernel out of a script of iPXE, and the program of Debian's package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from posixpath import normpath

from isola.builds.builder import ADDED, Builder, add, read, unikernel
from isola.errors import InvalidInput, NotFound
from isola.host import Host
from isola.host.files import Root
from isola.images.ipxe_program import find_program, probe_program
from isola.model.build import BuildRequest
from isola.model.kernel import INITRD, KERNEL, Kernel
from isola.model.probe import Probe
from isola.settings import Setting, Settings, one_of

_NAME = "ipxe"
_LONGEST = 1 << 20
_MAGIC = (b"#!ipxe", b"#!gpxe")


class IpxeBuilder(Builder):
    """The script is the initial file system, which iPXE executes when it has no arguments."""

    file = "script.ipxe"
    summary = "a unikernel: iPXE from this host's package, with a script from the context"
    settings = Settings("builder", Setting("machine", one_of("q35", "pc"), "The machine that starts it.", "q35"))

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Needs the package, and x86-64."""
        return await probe_program(host)

    async def instructions(self, context: Root, request: BuildRequest) -> bytes:
        """Two files and labels."""
        script = await _script(context, "/" + normpath(f"/{request.dockerfile or self.file}").lstrip("/"))
        program = await self.host.files.read(await find_program(self.host))
        await add(context, {"ipxe": _once(program), "script": _once(script)})
        machine = str(self.settings.value(self.options(request), "machine"))
        lines = ["FROM scratch", f"COPY {ADDED}/ipxe {KERNEL}", f"COPY {ADDED}/script {INITRD}"]
        kernel = Kernel(initrd=INITRD, machine=machine, platform=_NAME)
        return "\n".join([*lines, unikernel(kernel, ())]).encode()


async def _script(context: Root, path: str) -> bytes:
    try:
        found = await read(context, path, _LONGEST)
    except NotFound as error:
        raise InvalidInput(
            f"The context has no script {path.lstrip('/')[:200]!r}",
            field="dockerfile",
            remedy="create it with #!ipxe as its first line, or name another one (-f)",
        ) from error
    if found.split(None, 1)[:1] not in ([each] for each in _MAGIC):
        raise InvalidInput(
            f"{path.lstrip('/')[:200]!r} is not an iPXE script", field="dockerfile", remedy="its first line is #!ipxe"
        )
    return found


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


DRIVER = IpxeBuilder
