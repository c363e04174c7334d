"""Files of a process with all kinds of mounts, one of them served by a program that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from files_root import content, stream

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.host.files import LinuxFiles, Root
from isola.host.proc import ProcessRef, identify

# In a mount namespace: files of lxcfs, a tmpfs, and a file mounted over another.
_MOUNTS = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir cpu deep deep/inner tmp
echo old >plain; : >meminfo; : >over
mount --bind "$2/proc/meminfo" meminfo
mount --bind "$2/sys/devices/system/cpu" cpu
mount -t tmpfs tmpfs tmp
mkdir tmp/a; echo here >tmp/a/f
ln -s ../tmp/a deep/link; ln -s ../../tmp/a/f deep/inner/far; ln -s cpu/online through
echo over >tmp/over; mount --bind tmp/over over
echo ready
exec sleep 600
"""


@dataclass
class Stage:
    place: str
    process: ProcessRef
    lxcfs: int


@pytest.fixture
def stage() -> Iterator[Stage]:
    place = tempfile.mkdtemp(prefix="isola-files-")
    served = tempfile.mkdtemp(prefix="isola-lxcfs-")
    lxcfs = subprocess.Popen(["lxcfs", "-f", "-p", f"{served}.pid", served], stderr=subprocess.DEVNULL)
    try:
        while not Path(served, "proc/meminfo").exists():
            time.sleep(0.02)
        inside = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _MOUNTS, "sh", place, served], stdout=subprocess.PIPE, text=True
        )
        assert inside.stdout is not None and inside.stdout.readline() == "ready\n"
        found = identify(inside.pid)
        assert found is not None
        yield Stage(place, found, lxcfs.pid)
        inside.kill()
        inside.wait()
        inside.stdout.close()
    finally:
        lxcfs.terminate()
        lxcfs.wait()
        subprocess.run(["umount", "--lazy", "--quiet", served], check=False)
        Path(f"{served}.pid").unlink(missing_ok=True)
        os.rmdir(served)
        os.rmdir(place)


@pytest.fixture
def hung(stage: Stage) -> Iterator[Stage]:
    """The FUSE server hangs during the test; finally it responds, because waiting threads would remain otherwise."""
    os.kill(stage.lxcfs, signal.SIGSTOP)
    time.sleep(1.2)  # the kernel's cached attributes expire after a second
    release = threading.Timer(10, os.kill, (stage.lxcfs, signal.SIGCONT))
    release.start()
    yield stage
    release.cancel()
    os.kill(stage.lxcfs, signal.SIGCONT)


@pytest.fixture
async def root(stage: Stage) -> AsyncIterator[Root]:
    async with LinuxFiles().root(process=stage.process) as opened:
        yield opened


async def test_a_hanging_file_system_delays_nothing(hung: Stage) -> None:
    """Twenty concurrent requests for its files are refused at once, and other files are served meanwhile."""
    files, begun = LinuxFiles(), time.monotonic()
    async with files.root(process=hung.process) as root:

        async def ask(path: str) -> None:
            with pytest.raises(Unsupported, match=r"fuse\.lxcfs"):
                await root.stat(f"{hung.place}{path}")
            with pytest.raises(Unsupported, match=r"fuse\.lxcfs"):
                await root.read(f"{hung.place}{path}")
            with pytest.raises(Unsupported, match=r"fuse\.lxcfs"):
                await root.write(f"{hung.place}{path}", stream(b"x"), uid=0, gid=0, mode=None)

        await asyncio.gather(*(ask(path) for path in ("/meminfo", "/cpu/online", "/through", "/cpu") for _ in range(5)))
        assert await content(root, f"{hung.place}/plain") == b"old\n"
        names = [name async for piece in await root.names(hung.place) for name in piece]
        assert {"meminfo", "cpu"} <= set(names)
    assert time.monotonic() - begun < 60


async def test_mounts_of_local_file_systems_are_crossed(stage: Stage, root: Root) -> None:
    for path in ("/tmp/a/f", "/deep/link/f", "/deep/inner/far", "/deep/link/../a/./f", "/tmp/../tmp/a/f"):
        assert await content(root, f"{stage.place}{path}") == b"here\n"
    await root.write(f"{stage.place}/deep/inner/far", stream(b"through"), uid=5, gid=6, mode=0o640)
    assert await content(root, f"{stage.place}/tmp/a/f") == b"through"
    assert (await root.stat(f"{stage.place}/deep/inner/far", follow=False)).kind == "symlink"
    assert (await root.stat(f"{stage.place}/deep/inner/far")).uid == 5
    await root.make_directory(f"{stage.place}/deep/link/new", uid=0, gid=0, mode=0o750)
    await root.make_symlink(f"{stage.place}/tmp/loop", "loop", uid=0, gid=0)
    with pytest.raises(InvalidInput, match="through a link"):
        await root.read(f"{stage.place}/tmp/loop/x")
    await root.remove(f"{stage.place}/tmp/a/new")
    with pytest.raises(NotFound):
        await root.stat(f"{stage.place}/tmp/a/new")
    with pytest.raises(InvalidInput):
        await root.stat(f"{stage.place}/tmp/a/f/../f")
    assert await content(root, f"{stage.place}/tmp/../../../../../../..{stage.place}/plain") == b"old\n"


async def test_a_bind_mounted_file_is_written_in_place(stage: Stage, root: Root) -> None:
    await root.write(f"{stage.place}/over", stream(b"new"), uid=-1, gid=-1, mode=None)
    assert await content(root, f"{stage.place}/tmp/over") == b"new"
    await root.write(f"{stage.place}/over", stream(b"er"), uid=-1, gid=-1, mode=None, append=True)
    assert await content(root, f"{stage.place}/over") == b"newer"
    with pytest.raises(InvalidInput, match="mount point"):
        await root.remove(f"{stage.place}/over")
