"""Fake programs with the visible effects of the real ones."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

from isola.images.debian_recipe import HOOKS, KEYRING
from isola.testing.host import FakeHost
from isola.testing.processes import Call

_INSTALLED = ("mmdebstrap", "unshare", "setpriv")


async def install_mmdebstrap(host: FakeHost) -> None:
    """Install a fake mmdebstrap: it builds a root of a few files, without any package."""

    async def mmdebstrap(call: Call) -> int:
        call.err(b"I: installing remaining packages inside the chroot...\nSetting up a\nI: creating tarball...\n")
        await asyncio.sleep(0)
        target = next(Path(argument) for argument in call.argv if argument.endswith("root.tar"))
        await host.files.write(target, _root())
        return 0

    host.system.programs.update({name: Path("/usr/bin") / name for name in _INSTALLED})
    host.processes.programs.update(mmdebstrap=mmdebstrap, setpriv=mmdebstrap)
    await host.files.make_directory(Path(HOOKS), Path(KEYRING).parent)
    await host.files.write(Path(KEYRING), b"keys")


def _root() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("usr/lib/systemd/systemd", "etc/machine-id"):
            member = tarfile.TarInfo(f"./{name}")
            member.mode = 0o755
            archive.addfile(member, io.BytesIO())
        link = tarfile.TarInfo("./usr/sbin/init")
        link.type, link.linkname = tarfile.SYMTYPE, "../lib/systemd/systemd"
        archive.addfile(link)
    return buffer.getvalue()
