"""Root inside an instance cannot change mounts that the daemon has made in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.errors import Forbidden, NotFound
from isola.host.guest_mounts import Graft, LinuxGuestMounts
from isola.host.proc import ProcessRef, identify
from isola.model.identity import IdRange

IDS = IdRange(400000)


@pytest.fixture
def guest() -> Iterator[ProcessRef]:
    """A process with user and mount namespaces of its own."""
    options = ["--user", "--mount", "--propagation", "private"]
    child = subprocess.Popen(["unshare", *options, "sleep", "infinity"])
    try:
        while Path(f"/proc/{child.pid}/comm").read_text().strip() != "sleep":
            time.sleep(0.005)
        for table in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{table}").write_text(f"0 {IDS.base} {IDS.size}")
        found = identify(child.pid)
        assert found is not None
        covered = as_root_inside(found, "mount", "-t", "tmpfs", "inside", "/mnt")
        assert covered.returncode == 0, covered.stderr
        yield found
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def source() -> Iterator[Path]:
    """A directory of the host on a shared mount."""
    with tempfile.TemporaryDirectory(prefix="isola-sealed-") as text:
        place = Path(text)
        on_host("mount", "-t", "tmpfs", "isola-test", place)
        on_host("mount", "--make-shared", place)
        try:
            (place / "below").mkdir()
            (place / "file").write_text("of the host")
            yield place
        finally:
            on_host("umount", "-R", "-l", place)


def on_host(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


def sees(pid: int | str, mounted: str) -> bool:
    return f" {mounted} " in Path(f"/proc/{pid}/mountinfo").read_text()


async def put(guest: ProcessRef, graft: Graft, target: str) -> int:
    mounts = LinuxGuestMounts()
    async with mounts.prepare(graft) as tree:
        await mounts.put(guest, tree, target, owner=IDS.base)
    return tree.number


def as_root_inside(guest: ProcessRef, *argv: str) -> subprocess.CompletedProcess[str]:
    enter = ["nsenter", f"--target={guest.pid}", "--user", "--mount", "--setuid=0", "--setgid=0"]
    return subprocess.run([*enter, *argv], capture_output=True, text=True, check=False)


def options_of(guest: ProcessRef, target: str) -> set[str]:
    table = Path(f"/proc/{guest.pid}/mountinfo").read_text().splitlines()
    line = next(line for line in table if line.split()[4] == target)
    return set(line.split()[5].split(","))


async def test_symlinks_do_not_leave_the_permitted_directory(guest: ProcessRef, source: Path) -> None:
    (source / "out").symlink_to("/etc")
    (source / "up").symlink_to("../../etc")
    (source / "within").symlink_to("below")
    number = await put(guest, Graft(source / "within", beneath=source), "/mnt/there")
    assert number in await LinuxGuestMounts().there(guest)
    await put(guest, Graft(source, beneath=source), "/mnt/whole")
    for name in ("out", "up", "out/ssl"):
        with pytest.raises(Forbidden, match="leads out"):
            await put(guest, Graft(source / name, beneath=source), "/mnt/no")
    with pytest.raises(NotFound):
        await put(guest, Graft(source / "none", beneath=source), "/mnt/no")


@pytest.mark.parametrize("name", ["", "file"])
async def test_root_inside_cannot_clear_attributes(guest: ProcessRef, source: Path, name: str) -> None:
    graft = Graft(source / name, read_only=True, set_ids=False, executable=False)
    number = await put(guest, graft, "/mnt/there" if not name else "/etc/hostname")
    target = "/mnt/there" if not name else "/etc/hostname"
    before = {"ro", "nosuid", "nodev", "noexec"}
    assert before <= options_of(guest, target)
    for taken in ("rw", "suid", "dev", "exec"):
        tried = as_root_inside(guest, "mount", "-o", f"remount,bind,{taken}", target)
        assert tried.returncode != 0
        assert before <= options_of(guest, target)
    again = as_root_inside(guest, "sh", "-c", f"mount --bind {target} {target} && mount -o remount,bind,rw {target}")
    assert again.returncode != 0
    assert number in await LinuxGuestMounts().there(guest)


async def test_device_nodes_in_shared_directories_cannot_be_opened(guest: ProcessRef, source: Path) -> None:
    os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    on_host("mount", "-o", "remount,dev", source)
    await put(guest, Graft(source), "/mnt/there")
    as_root_inside(guest, "mount", "-o", "remount,bind,dev", "/mnt/there")
    assert as_root_inside(guest, "sh", "-c", "echo >/mnt/there/null").returncode != 0


@pytest.mark.parametrize("propagation", ["private", "slave", "shared", "unbindable"])
async def test_mounts_made_inside_are_not_visible_on_the_host(
    guest: ProcessRef, source: Path, propagation: str
) -> None:
    await put(guest, Graft(source, propagation=propagation), "/mnt/there")
    made = as_root_inside(guest, "mount", "-t", "tmpfs", "leak", "/mnt/there/below")
    assert made.returncode == 0, made.stderr
    assert not sees("self", "leak")


@pytest.mark.parametrize(("propagation", "seen"), [("private", False), ("slave", True), ("shared", True)])
async def test_mounts_of_the_host_propagate_inside_on_request(
    guest: ProcessRef, source: Path, propagation: str, seen: bool
) -> None:
    await put(guest, Graft(source, propagation=propagation), "/mnt/there")
    on_host("mount", "-t", "tmpfs", "new", source / "below")
    assert sees(guest.pid, "new") == seen
    on_host("umount", source / "below")


async def test_files_below_a_mount_of_the_host_stay_hidden(guest: ProcessRef, source: Path) -> None:
    (source / "below/secret").write_text("covered")
    on_host("mount", "-t", "tmpfs", "cover", source / "below")
    await put(guest, Graft(source, recursive=True), "/mnt/there")
    assert as_root_inside(guest, "umount", "/mnt/there/below").returncode != 0
    assert as_root_inside(guest, "cat", "/mnt/there/below/secret").returncode != 0
    on_host("umount", source / "below")
