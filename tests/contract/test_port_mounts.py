"""The contract of mounts."""

import asyncio
import contextlib
import os
import signal
import stat
import tempfile
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from descriptors import closed_since, descriptors

from isola.errors import HostFailure, NotFound, WrongState
from isola.host.files import Files, LinuxFiles
from isola.host.mounts import BindMount, LinuxMounts, MemoryMount, Mounts, OverlayMount
from isola.host.process import LinuxProcesses
from isola.model.identity import IdRange
from isola.testing.files import FakeFiles
from isola.testing.mounts import FakeMounts

IDS = IdRange(400000)


@dataclass
class Place:
    """An overlay to be mounted, and its host."""

    files: Files
    mounts: Mounts
    directory: Path
    mount: OverlayMount

    async def seen(self, path: str) -> tuple[int, str]:
        async with self.files.root(self.mount.target) as root:
            text = b"".join([block async for block in await root.read(path)]).decode()
            return (await root.stat(path)).uid, text


@pytest.fixture(params=["fake", "linux"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "fake":
        files = FakeFiles()
        yield await _filled(files, FakeMounts(files), Path("/place"))
        return
    with tempfile.TemporaryDirectory(prefix="isola mounts,a:b-") as directory:
        mounts = LinuxMounts()
        yield await _filled(LinuxFiles(), mounts, Path(directory))
        for left in await mounts.below(Path(directory)):
            await mounts.unmount(left)


async def _filled(files: Files, mounts: Mounts, directory: Path) -> Place:
    for name in ("low", "high", "upper", "work", "root"):
        await files.make_directory(directory / name, mode=0o755)
    await files.make_directory(directory / "upper", mode=0o755, owner=IDS.base)
    for layer, name in (("low", "a"), ("low", "b"), ("high", "b")):
        await files.write(directory / layer / name, f"{name} of {layer}".encode(), mode=0o644)
    lower = (directory / "low", directory / "high")
    mount = OverlayMount(lower, directory / "upper", directory / "work", directory / "root", IDS)
    return Place(files, mounts, directory, mount)


async def test_layers_are_merged_with_shifted_ids(place: Place) -> None:
    await place.mounts.overlay(place.mount)
    assert await place.seen("/a") == (IDS.base, "a of low")
    assert await place.seen("/b") == (IDS.base, "b of high")


async def test_without_ids_nothing_is_shifted(place: Place) -> None:
    await place.mounts.overlay(replace(place.mount, idmap=None))
    assert await place.seen("/a") == (0, "a of low")


async def test_exactly_one_mount_remains(place: Place) -> None:
    before = await place.files.names(place.directory)
    await place.mounts.overlay(place.mount)
    assert await place.mounts.mounted(place.mount.target)
    assert await place.mounts.below(place.directory) == (place.mount.target,)
    assert await place.files.names(place.directory) == before


async def test_an_existing_mount_is_not_mounted_again(place: Place) -> None:
    await place.mounts.overlay(place.mount)
    await place.mounts.overlay(place.mount)
    assert await place.mounts.below(place.directory) == (place.mount.target,)
    await place.mounts.unmount(place.mount.target)
    assert not await place.mounts.mounted(place.mount.target)


async def test_without_an_upper_directory_it_is_read_only(place: Place) -> None:
    with pytest.raises(NotFound):
        await place.mounts.overlay(replace(place.mount, upper=place.directory / "nothing"))
    assert await place.mounts.below(place.directory) == ()


async def test_writes_go_to_the_upper_directory_and_persist(place: Place) -> None:
    await place.mounts.overlay(place.mount)
    await place.files.write(place.mount.target / "new", b"x")
    await place.mounts.unmount(place.mount.target)
    assert place.mount.upper is not None
    assert await place.files.exists(place.mount.upper / "new")
    for layer in place.mount.lower:
        assert not await place.files.exists(layer / "new")
    await place.mounts.overlay(place.mount)
    assert (await place.seen("/new"))[1] == "x"


async def test_unmounting_is_idempotent_and_uncovers_files_below(place: Place) -> None:
    await place.mounts.overlay(place.mount)
    await place.mounts.unmount(place.mount.target)
    await place.mounts.unmount(place.mount.target)
    await place.mounts.unmount(place.directory / "nothing")
    assert not await place.mounts.mounted(place.mount.target)
    assert await place.mounts.below(place.directory) == ()
    assert await place.files.names(place.mount.target) == ()


async def test_missing_directories_are_not_mounted(place: Place) -> None:
    assert not await place.mounts.mounted(place.directory)
    assert not await place.mounts.mounted(place.directory / "nothing")
    assert not await place.mounts.mounted(place.directory / "low" / "a" / "below")


async def test_nothing_remains_after_a_failure(place: Place) -> None:
    for broken in (
        replace(place.mount, lower=(*place.mount.lower, place.directory / "nothing")),
        replace(place.mount, target=place.directory / "nothing"),
        replace(place.mount, lower=()),
    ):
        with pytest.raises(HostFailure):
            await place.mounts.overlay(broken)
    assert await place.mounts.below(place.directory) == ()
    assert await place.files.names(place.directory) == ("high", "low", "root", "upper", "work")


async def test_only_a_file_system_in_memory_of_ours_is_unmounted_as_such(place: Place) -> None:
    """An administrator may have mounted another one there."""
    target, source = place.directory / "memory", place.directory / "source"
    for directory in (target, source):
        await place.files.make_directory(directory)
    await place.files.write(source / "theirs", b"1")
    await place.mounts.bind(BindMount(source, target, None))
    await place.mounts.unmount_memory(target)
    assert await place.files.names(target) == ("theirs",)
    for _ in range(2):
        await place.mounts.memory(MemoryMount(target, 0o711))
    assert await place.files.names(target) == ()
    for _ in range(2):
        await place.mounts.unmount_memory(target)
        assert await place.files.names(target) == ("theirs",)
    await place.mounts.unmount(target)
    await place.mounts.unmount_memory(target)
    await place.mounts.unmount_memory(place.directory / "missing")


async def test_a_file_system_in_memory_is_not_mounted_on_a_link(tmp_path: Path) -> None:
    """It would not be found there when it is to be unmounted, and each daemon would mount a further one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(HostFailure, match="symbolic link"):
        await LinuxMounts().memory(MemoryMount(tmp_path / "link", 0o711))
    assert not await LinuxMounts().mounted(tmp_path / "elsewhere")


async def test_a_file_system_in_memory_hides_what_is_below_and_has_the_given_mode(place: Place) -> None:
    target = place.directory / "upper"
    await place.files.write(target / "below", b"")
    await place.mounts.memory(MemoryMount(target, 0o711))
    assert await place.files.names(target) == () and await place.mounts.mounted(target)
    await place.files.write(target / "new", b"1")
    async with place.files.root(target) as root:
        assert (await root.stat(".")).mode & 0o7777 == 0o711
    await place.mounts.unmount(target)
    assert await place.files.names(target) == ("below",)
    with pytest.raises(HostFailure):
        await place.mounts.memory(MemoryMount(place.directory / "missing", 0o711))


async def test_deeper_mounts_are_listed_first(place: Place) -> None:
    await place.mounts.overlay(place.mount)
    for name in ("upper2", "work2", "root/inner"):
        await place.files.make_directory(place.directory / name)
    inner = replace(
        place.mount,
        upper=place.directory / "upper2",
        work=place.directory / "work2",
        target=place.directory / "root" / "inner",
    )
    await place.mounts.overlay(inner)
    assert await place.mounts.below(place.directory) == (inner.target, place.mount.target)
    assert await place.mounts.below(place.directory / "root" / "inner") == (inner.target,)
    await place.mounts.unmount(inner.target)


@pytest.fixture
async def real() -> AsyncIterator[Place]:
    mounts = LinuxMounts()
    with tempfile.TemporaryDirectory(prefix="isola-mounts-") as directory:
        os.chmod(directory, 0o711)  # searchable for root of the guest
        yield await _filled(LinuxFiles(), mounts, Path(directory))
        for left in await mounts.below(Path(directory)):
            await mounts.unmount(left)


async def test_many_layers_are_supported(real: Place) -> None:
    layers = tuple(real.directory / f"layer-{number}-{'x' * 60}" for number in range(120))
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"f{number}").touch()
    await real.mounts.overlay(replace(real.mount, lower=layers))
    assert len(os.listdir(real.mount.target)) == 120


async def test_too_many_layers_are_refused_with_the_reason(real: Place) -> None:
    layer = real.directory / "low"
    with pytest.raises(HostFailure, match="more than one overlay can have"):
        await real.mounts.overlay(replace(real.mount, lower=(layer,) * 400))
    assert await real.mounts.below(real.directory) == ()


async def test_root_inside_may_change_files_of_layers(real: Place) -> None:
    """Nothing is copied at mount time: a file is copied up when it is changed."""
    await real.mounts.overlay(real.mount)
    script = "printf changed > a && chmod 600 a"
    guest = await asyncio.create_subprocess_exec(
        "sh", "-c", script, cwd=real.mount.target, user=IDS.base, group=IDS.base, extra_groups=[]
    )
    assert await guest.wait() == 0
    assert real.mount.upper is not None
    assert (real.mount.upper / "a").read_text() == "changed"
    assert os.stat(real.mount.upper / "a").st_uid == IDS.base
    assert (real.mount.lower[0] / "a").read_text() == "a of low"


async def test_device_nodes_do_not_work_in_a_root(real: Place) -> None:
    os.mknod(real.mount.lower[0] / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    await real.mounts.overlay(real.mount)
    with pytest.raises(PermissionError):
        os.open(real.mount.target / "null", os.O_RDONLY)


async def test_many_at_once(real: Place) -> None:
    mounts = []
    for number in range(12):
        for name in ("upper", "work", "root"):
            (real.directory / f"{name}{number}").mkdir()
        upper, work, root = (real.directory / f"{name}{number}" for name in ("upper", "work", "root"))
        mounts.append(OverlayMount(real.mount.lower, upper, work, root, IdRange(500000 + 65536 * number)))
    await asyncio.gather(*map(real.mounts.overlay, mounts))
    assert [os.stat(mount.target / "a").st_uid for mount in mounts] == [
        mount.idmap.base for mount in mounts if mount.idmap
    ]
    assert len(await real.mounts.below(real.directory)) == 12


async def test_no_process_and_no_descriptor_remains(real: Place) -> None:
    before, children = descriptors(), _children()
    for _ in range(5):
        await real.mounts.overlay(real.mount)
        await real.mounts.unmount(real.mount.target)
    await closed_since(before)
    assert _children() <= children


def _children() -> set[str]:
    """PIDs of this process's children, including zombies."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(file.parent.name)
    return found


async def test_mounts_of_another_namespace_are_shared_and_the_daemons_unchanged() -> None:
    processes = LinuxProcesses()
    child = await processes.spawn(["unshare", "--mount", "--propagation", "private", "sleep", "600"])
    try:
        ours = os.readlink("/proc/self/ns/mnt")
        async with asyncio.timeout(60):
            while os.readlink(f"/proc/{child.ref.pid}/ns/mnt") == ours or not propagation(child.ref.pid) <= {""}:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        before = propagations(os.getpid())
        await LinuxMounts().share(child.ref)
        assert propagation(child.ref.pid) == {"shared"}
        after = propagations(os.getpid())
        assert {number: after[number] for number in before if number in after} == {
            number: before[number] for number in before if number in after
        }
        assert os.readlink("/proc/self/ns/mnt") == ours
    finally:
        child.signal(9)
        await child.wait()
    with pytest.raises(WrongState):
        await LinuxMounts().share(child.ref)
    fake = FakeMounts(FakeFiles())
    await fake.share(child.ref)
    assert fake.shared == [child.ref]


def propagation(pid: int) -> set[str]:
    """Propagation of the mounts of a process: shared, master, or private (empty)."""
    return set(propagations(pid).values())


def propagations(pid: int) -> dict[str, str]:
    """The same of each mount: other tests mount and unmount meanwhile."""
    lines = [line.split(" - ")[0].split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {f"{line[0]} {line[4]}": "+".join(sorted(field.partition(":")[0] for field in line[6:])) for line in lines}


async def test_a_file_system_that_hangs_does_not_respond(tmp_path: Path) -> None:
    mounts, processes, place = LinuxMounts(), LinuxProcesses(), tmp_path / "place"
    place.mkdir()
    assert not await mounts.responds(place), "nothing is mounted there"
    assert not await mounts.responds(tmp_path / "none")
    lxcfs = await processes.spawn(["lxcfs", "-f", "-p", str(tmp_path / "pid"), str(place)])
    try:
        async with asyncio.timeout(60):
            while not await mounts.mounted(place):  # noqa: ASYNC110 - lxcfs does not tell
                await asyncio.sleep(0.01)
        assert await mounts.responds(place)
        lxcfs.signal(signal.SIGSTOP)
        assert await mounts.responds(place), "a response is valid for a moment"
        await asyncio.sleep(0.25)
        asked_at_once = [asyncio.create_task(mounts.responds(place, 10)) for _ in range(2)]
        await asyncio.sleep(0.05)
        lxcfs.signal(signal.SIGCONT)
        assert all(await asyncio.gather(*asked_at_once))
        lxcfs.signal(signal.SIGSTOP)
        await asyncio.sleep(0.25)
        for _ in range(20):
            assert not await mounts.responds(place, 0.05)
        assert sum(thread.name == "isola-responds" for thread in threading.enumerate()) == 1
        lxcfs.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while not await mounts.responds(place):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        lxcfs.signal(signal.SIGKILL)
        await lxcfs.wait()
        await asyncio.sleep(0.25)
        assert not await mounts.responds(place)
    finally:
        lxcfs.signal(signal.SIGKILL)
        await mounts.unmount(place)
    fake = FakeMounts(FakeFiles())
    for path in (tmp_path, place):
        await fake.files.make_directory(path)
        await fake.memory(MemoryMount(path, 0o755))
    fake.silent.add(place)
    assert not await fake.responds(place) and await fake.responds(tmp_path)
    assert not await fake.responds(tmp_path / "none")
