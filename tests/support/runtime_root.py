"""Root file systems of busybox, and directories of a daemon in which engines run them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from isola.host import Host
from isola.model.identity import HostNames, IdRange
from isola.runtimes import Runtime
from isola.runtimes.driver import RUNS
from isola.testing.runtime import FakeRuntime

T = TypeVar("T", bound=Runtime)


@contextmanager
def busybox_root(applets: Iterable[str], ids: IdRange, files: Mapping[str, str]) -> Iterator[Path]:
    """A root whose files belong to root inside; its parent is a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="runtime-root-", dir="/tmp"))
    directory.chmod(0o711)
    tree = directory / "root"
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for applet in applets:
        (tree / "bin" / applet).symlink_to("busybox")
    for name, text in files.items():
        (tree / name).write_text(text)
    own(tree, ids)
    try:
        yield tree
    finally:
        shutil.rmtree(directory)


def own(tree: Path, ids: IdRange) -> None:
    """Give all files to root inside."""
    for path in [tree, *tree.rglob("*")]:
        os.lchown(path, ids.base, ids.base)


@asynccontextmanager
async def engine(kind: type[T], host: Host, names: HostNames) -> AsyncIterator[T]:
    """A runtime with a directory of a daemon; at the end it may have left nothing."""
    directory = Path(tempfile.mkdtemp(prefix="runtime-", dir="/tmp"))
    os.chmod(directory, 0o711)
    (directory / RUNS).mkdir(mode=0o711)
    runtime = kind(host, directory, names)
    yield runtime
    for id in await runtime.owned():
        await runtime.remove(id)
    assert await runtime.owned() == ()
    assert not [process for process in command_lines() if str(directory) in process]
    if not isinstance(runtime, FakeRuntime):
        assert await host.files.names(directory / RUNS) == ()
        assert await host.cgroups.children(names.cgroup()) == ()
        await host.cgroups.remove(names.cgroup())
        assert not mounts_below(directory)
    shutil.rmtree(directory)


def mounts_below(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]


def command_lines() -> list[str]:
    """Of all processes on the host."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found
