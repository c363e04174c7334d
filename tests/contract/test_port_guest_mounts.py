"""The contract of mounts in another process's namespace."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from descriptors import closed_since, descriptors
from netns import check

from isola.errors import HostFailure, InvalidInput, NotFound, WrongState
from isola.host.files import Files, LinuxFiles
from isola.host.guest_mounts import Graft, GuestMounts, LinuxGuestMounts
from isola.host.proc import ProcessRef, identify
from isola.model.identity import IdRange
from isola.testing.files import FakeFiles
from isola.testing.guest_mounts import FakeGuestMounts

IDS = IdRange(400000)
_ROOTED = """
set -e
mount --bind "$1" "$1"
cd "$1"
for name in bin sbin lib lib64 usr; do
    if [ -L "/$name" ]; then cp -a "/$name" .; else mkdir -p "$name"; mount --rbind "/$name" "$name"; fi
done
mkdir -p proc
mount --rbind /proc proc
pivot_root . .
umount -l .
cd /
umount -l /proc
exec sleep infinity
"""


@dataclass
class Bench:
    """An implementation, a process with a root of its own, and a directory of the host."""

    files: Files
    mounts: GuestMounts
    process: ProcessRef
    host: Path
    root: Path


@pytest.fixture(params=["fake", "linux"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Each implementation in turn."""
    if request.param == "fake":
        files = FakeFiles()
        mounts = FakeGuestMounts(files)
        mounts.kinds["/there"] = "directory"
        yield await _filled(Bench(files, mounts, ProcessRef(4711, 1), Path("/host"), Path("/root")))
        return
    with rooted_process() as (process, directory):
        yield await _filled(Bench(LinuxFiles(), LinuxGuestMounts(), process, directory / "host", directory / "root"))


@contextlib.contextmanager
def rooted_process() -> Iterator[tuple[ProcessRef, Path]]:
    """A process with a mount namespace and a root of its own, and the directory above that root."""
    directory = Path(tempfile.mkdtemp(prefix="isola-guest-mounts-"))
    (directory / "root/there").mkdir(parents=True)
    child = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ROOTED, "sh", str(directory / "root")]
    )
    try:
        while Path(f"/proc/{child.pid}/comm").read_text().strip() != "sleep":
            assert child.poll() is None
            time.sleep(0.005)
        ref = identify(child.pid)
        assert ref is not None
        yield ref, directory
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(directory)


def mount_tables(bench: Bench) -> tuple[list[str], str]:
    """Mounts of the directory in our namespace, in which others mount too, and all mounts in that of the process."""
    ours = Path("/proc/self/mountinfo").read_text().splitlines()
    theirs = Path(f"/proc/{bench.process.pid}/mountinfo").read_text()
    return [line for line in ours if str(bench.host.parent) in line], theirs


async def _filled(bench: Bench) -> Bench:
    await bench.files.make_directory(bench.host)
    await bench.files.write(bench.host / "file", b"of the host")
    return bench


async def put(bench: Bench, graft: Graft, target: str, *, owner: int = IDS.base) -> int:
    async with bench.mounts.prepare(graft) as tree:
        await bench.mounts.put(bench.process, tree, target, owner=owner)
    return tree.number


def inside(bench: Bench, *argv: str) -> subprocess.CompletedProcess[str]:
    target = ["nsenter", f"--target={bench.process.pid}", "--mount", *argv]
    return subprocess.run(target, capture_output=True, text=True, check=False)


async def test_a_mount_is_attached_seen_and_detached(bench: Bench) -> None:
    number = await put(bench, Graft(bench.host), "/mnt/a/b")
    assert number in await bench.mounts.there(bench.process)
    second = await put(bench, Graft(bench.host / "file"), "/mnt/a/b2")
    await bench.mounts.take(bench.process, number)
    assert number not in await bench.mounts.there(bench.process)
    assert second in await bench.mounts.there(bench.process)
    await bench.mounts.take(bench.process, number)
    await bench.mounts.take(bench.process, second)
    assert second not in await bench.mounts.there(bench.process)


async def test_invalid_mounts_are_refused(bench: Bench) -> None:
    before = await bench.mounts.there(bench.process)
    with pytest.raises(NotFound):
        await put(bench, Graft(bench.host / "nothing"), "/a")
    with pytest.raises(NotFound):
        await put(bench, Graft(bench.host / "file/below", beneath=bench.host), "/a")
    for target in ("/", "/a/../b", ""):
        with pytest.raises(InvalidInput):
            await put(bench, Graft(bench.host), target)
    with pytest.raises(InvalidInput, match="cannot be mounted"):
        await put(bench, Graft(bench.host / "file"), "/there")
    assert await bench.mounts.there(bench.process) == before


async def test_nothing_is_mounted_inside_of_proc(bench: Bench) -> None:
    if not isinstance(bench.mounts, FakeGuestMounts):
        assert inside(bench, "mount", "-t", "proc", "proc", "/proc").returncode == 0
        (bench.root / "alias").symlink_to("proc/fs")
        with pytest.raises(InvalidInput, match="is inside of /proc"):
            await put(bench, Graft(bench.host), "/alias")
        (bench.root / "round").symlink_to("round")
        with pytest.raises(InvalidInput, match="too many links"):
            await put(bench, Graft(bench.host), "/round")
    for target in ("/proc", "/proc/sys", "/proc/fs/"):
        with pytest.raises(InvalidInput, match="is inside of /proc"):
            await put(bench, Graft(bench.host), target)


async def test_an_ended_process_is_not_mistaken_for_another(bench: Bench) -> None:
    ended = ProcessRef(bench.process.pid, bench.process.started - 1)
    if isinstance(bench.mounts, FakeGuestMounts):
        bench.mounts.vanish(ended)
    with pytest.raises(WrongState):
        await put(replace(bench, process=ended), Graft(bench.host), "/mnt")
    with pytest.raises(WrongState):
        await bench.mounts.take(ended, 1)


@pytest.fixture
async def real(bench: Bench) -> Bench | None:
    """None for the fake: only real mounts show what a process sees."""
    return None if isinstance(bench.mounts, FakeGuestMounts) else bench


async def test_what_cannot_be_shifted_is_there_all_the_same(real: Bench | None) -> None:
    if real is None:
        return
    for name in ("memory", "fixed"):
        (real.host / name).mkdir()
    (real.host / "closed/below").mkdir(parents=True)
    (real.host / "closed").chmod(0o700)
    os.chown(real.host / "closed", IDS.base + IDS.size, -1)
    below = {"memory": ("tmpfs", "none"), "fixed": ("proc", "proc"), "closed/below": ("tmpfs", "none")}
    for name, (kind, source) in below.items():
        await check("mount", "-t", kind, source, str(real.host / name))
    try:
        for name in ("memory/file", "closed/below/file"):
            (real.host / name).write_text("in memory")
        whole = Graft(real.host, idmap=IDS, recursive=True, read_only=True)
        with pytest.raises(HostFailure, match="Cannot prepare") as caught:
            await put(real, whole, "/all")
        assert "shift.partial" in caught.value.remedy
        await put(real, replace(whole, partial=True), "/all")
        for name in ("file", "memory/file"):
            assert inside(real, "stat", "-c", "%u", f"/all/{name}").stdout.strip() == str(IDS.base)
            assert "Read-only" in inside(real, "touch", f"/all/{name}x").stderr
        assert inside(real, "stat", "-c", "%u", "/all/fixed/uptime").stdout.strip() == "0"
        assert inside(real, "stat", "/all/closed/below/file").returncode != 0  # its directory belongs to no one inside
        await put(real, Graft(real.host / "fixed", idmap=IDS, partial=True), "/fixed")
        assert inside(real, "cat", "/fixed/uptime").returncode == 0
    finally:
        for name in below:
            await check("umount", "-l", str(real.host / name))


async def test_owners_are_shifted_and_attributes_kept(real: Bench | None) -> None:
    if real is None:
        return
    await put(real, Graft(real.host, idmap=IDS, read_only=True), "/shifted")
    assert inside(real, "stat", "-c", "%u", "/shifted/file").stdout.strip() == str(IDS.base)
    assert "Read-only" in inside(real, "touch", "/shifted/new").stderr
    await put(real, Graft(real.host, idmap=IDS), "/written")
    made = inside(
        real, "setpriv", f"--reuid={IDS.base}", f"--regid={IDS.base}", "--clear-groups", "touch", "/written/n"
    )
    assert made.returncode == 0, made.stderr
    assert (real.host / "n").stat().st_uid == 0
    await put(real, Graft(size=1 << 20, owner=IDS.base), "/scratch")
    assert inside(real, "stat", "-c", "%u %a", "/scratch").stdout.strip() == f"{IDS.base} 755"
    assert "No space" in inside(real, "sh", "-c", "yes | head -c 2000000 >/scratch/big").stderr


async def test_created_parts_of_the_path_belong_to_the_instance(real: Bench | None) -> None:
    if real is None:
        return
    await put(real, Graft(real.host), "/deep/er/place")
    for made in ("deep", "deep/er"):
        assert (real.root / made).stat().st_uid == IDS.base


async def test_symlinks_inside_are_resolved_inside(real: Bench | None) -> None:
    if real is None:
        return
    (real.root / "evil").symlink_to(f"/../../../../../..{real.host}")
    within = real.root / str(real.host).lstrip("/")
    within.mkdir(parents=True)
    number = await put(real, Graft(real.host), "/evil/sub")
    assert not (real.host / "sub").exists()
    assert (within / "sub").is_dir()
    await real.mounts.take(real.process, number)
    assert number not in await real.mounts.there(real.process)


async def test_mounts_on_top_are_detached_too(real: Bench | None) -> None:
    if real is None:
        return
    number = await put(real, Graft(real.host), "/there")
    assert inside(real, "mount", "-t", "tmpfs", "top", "/there").returncode == 0
    await real.mounts.take(real.process, number)
    assert number not in await real.mounts.there(real.process)
    assert not os.listdir(real.root / "there")


async def test_a_failure_leaves_no_descriptor_and_no_mount(real: Bench | None) -> None:
    if real is None:
        return
    (real.root / "loop").symlink_to("loop")
    await put(real, Graft(real.host), "/there")  # the first one of a process opens what all of them share
    gc.collect()  # what earlier tests have left is closed now, and not while this one counts
    before, mounts = descriptors(), mount_tables(real)
    for _ in range(3):
        with pytest.raises(Exception, match="loop"):
            await put(real, Graft(real.host), "/loop/x")
    await closed_since(before)
    assert mount_tables(real) == mounts
