"""Programs that are started in other mount namespaces and control groups, on a real kernel."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import descriptors

from isola.errors import HostFailure
from isola.host.cgroups import LinuxCgroups
from isola.host.namespaces import LinuxNamespaces
from isola.host.process import LinuxProcesses, Place
from isola.host.small_world import cgroups_in, shelf_in
from isola.host.sockets import LinuxSockets

GROUP = f"/isola-test-places-{os.getpid()}"
HIERARCHIES = [each.name for each in Path("/sys/fs/cgroup").iterdir() if each.is_mount()]
"""None where there is control group v2 alone."""


async def said(script: str, place: Place) -> list[str]:
    pipe = LinuxSockets().pipe_from_child()
    child = await LinuxProcesses().spawn(["/bin/sh", "-c", script], stdout=pipe.remote, env={}, place=place)
    pipe.close_remote()
    text = b""
    while block := await pipe.stream.read():
        text += block
    pipe.stream.close()
    assert await child.wait() == 0
    return text.decode().splitlines()


@pytest.fixture
async def small(tmp_path: Path) -> Place:
    """A namespace with few mounts and a directory of the test, which ends with its descriptor."""
    unified = LinuxCgroups().unified
    assert unified is not None
    return Place(mounts=await LinuxNamespaces().small_mounts(tmp_path, unified))


@pytest.fixture(autouse=True)
def same_place() -> Iterator[None]:
    before = [os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("mnt", "net")], mounts(), groups()
    kept = namespaces()
    yield
    assert before == ([os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("mnt", "net")], mounts(), groups())
    for descriptor in namespaces() - kept:
        os.close(descriptor)


def namespaces() -> set[int]:
    """Open descriptors of mount namespaces."""
    return {int(number) for number, target in descriptors() if target.startswith("mnt:")}


def mounts() -> list[str]:
    """Mounts that only the copy has; daemons of other tests have such in their directories."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " - tmpfs isola " in line and line.split()[4] in ("/run", "/tmp")]


def groups() -> str:
    return Path("/proc/self/cgroup").read_text()


async def test_few_mounts_show_cgroup_v2_alone_and_one_directory(small: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    script = f"cat {tmp_path}/file; echo; ls /sys/fs/cgroup/cgroup.controllers; wc -l </proc/self/mountinfo"
    content, controllers, count = await said(script, small)
    assert (content, controllers) == ("here", "/sys/fs/cgroup/cgroup.controllers")
    assert int(count) < 12 + len(HIERARCHIES)
    shown = await said(f"ls {cgroups_in(tmp_path)}", small)
    assert {*HIERARCHIES, *([] if HIERARCHIES else ["cgroup.controllers"])} <= set(shown)


async def test_given_files_are_visible_in_a_copy_only(small: Place, tmp_path: Path) -> None:
    one, two = Path("/etc"), tmp_path / "file"
    two.write_text("file\n")
    copy = Place(mounts=small.mounts, shelf=shelf_in(tmp_path), shelved=[one, two])
    assert await said(f"test -e {copy.seen(one)}/passwd && cat {copy.seen(two)}", copy) == ["file"]
    assert copy.seen(tmp_path) == tmp_path
    assert await said(f"ls {shelf_in(tmp_path)}", small) == []
    outside = os.readlink("/proc/self/ns/mnt")
    inside = [await said("readlink /proc/self/ns/mnt", place) for place in (small, copy)]
    assert len({outside, *inside[0], *inside[1]}) == 3


async def test_a_program_starts_in_the_groups_and_the_daemon_stays() -> None:
    cgroups = LinuxCgroups()
    await cgroups.create(GROUP)
    try:
        directories = cgroups.directories(GROUP, legacy=True)
        lines = await said("cat /proc/self/cgroup", Place(groups=directories))
        assert len([line for line in lines if line.endswith(f":{GROUP}")]) == len(directories)
        assert cgroups.processes(GROUP) == []
    finally:
        await cgroups.remove(GROUP)


async def test_a_program_is_not_started_if_its_place_cannot_be_entered(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for place in (Place(groups=[tmp_path / "none"]), Place(mounts=tmp_path / "none")):
        with pytest.raises(HostFailure, match="cannot be started") as refused:
            await LinuxProcesses().spawn(["/usr/bin/touch", str(mark)], place=place)
        assert "none" in refused.value.evidence
    assert not mark.exists()


async def test_network_settings_are_hidden_in_a_copy_only(tmp_path: Path) -> None:
    script = "ls /proc/sys/net; ls -d /proc/sys/net/whole/self/ns; readlink /proc/self/ns/mnt /proc/self/ns/net"
    hidden, place, mount_ns, network = await said(script, Place(hides_network_settings=True))
    assert (hidden, place) == ("whole", "/proc/sys/net/whole/self/ns")
    assert network == os.readlink("/proc/self/ns/net")
    assert mount_ns != os.readlink("/proc/self/ns/mnt")
    assert (Path("/proc/sys/net") / "ipv4").is_dir()
    done = await LinuxProcesses().run(["/bin/ls", "/proc/sys/net"], place=Place(hides_network_settings=True))
    assert done.stdout == b"whole\n"
