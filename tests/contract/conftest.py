"""Fixtures of the contract tests: files of a host, pools of storage drivers, guests of runtime drivers."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import kernels
import pytest
from files_root import IDS
from runtime_bench import APPLETS, FAKES, IDMAP, INIT, PROGRAMS, Bench, operations
from runtime_root import busybox_root, engine
from sampling import SEED, WHOLE
from storage_subject import BASE, TOP, Subject

from isola import registry
from isola.host.files import Files, LinuxFiles, Root
from isola.host.linux import linux_host
from isola.model.identity import HostNames
from isola.runtimes import RootKind, Runtime
from isola.testing.files import FakeFiles
from isola.testing.host import fake_host
from isola.testing.runtime import FakeRuntime
from isola.testing.storage import FakeStorage
from isola.testing.system import FakeSystem

ALIKE = ("crun", "runc")
"""Engines whose drivers share nearly all of their code: several processes, which run all tests, try each with one."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Which one follows from the seed, unless all are asked for."""
    if WHOLE or not hasattr(config, "workerinput"):
        return
    left_out = [item for item in items if _other(item)]
    gone = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in gone]
    config.hook.pytest_deselected(items=left_out)


def _other(item: pytest.Item) -> bool:
    """Whether another engine has the turn for this test."""
    given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    engine = given.get("bench") or given.get("wall")
    if not isinstance(engine, str) or engine not in ALIKE:
        return False
    test = f"{SEED} {item.path.name} {item.name.replace(engine, '')}"
    return ALIKE[zlib.crc32(test.encode()) % len(ALIKE)] != engine


@pytest.fixture(
    params=[
        "fake",
        *(f"{name} on {host}" for name in registry.names("storage") for host in ("fakes", "linux")),
        *(f"{name} on fakes with quotas" for name in ("dir", "overlay")),
    ]
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each driver in turn, without a pool."""
    name, _, where = request.param.partition(" on ")
    kind = FakeStorage if name == "fake" else registry.load("storage", name)
    if where != "linux":
        host = fake_host(system=FakeSystem(programs={"mkfs.btrfs": Path("/usr/sbin/mkfs.btrfs")}))
        host.tree_quotas.everywhere = where.endswith("quotas")
        await host.files.make_directory(Path("/var/tmp"))
        yield Subject(kind, host, Path("/pools"))
        return
    real = linux_host()
    with tempfile.TemporaryDirectory(prefix="isola-storage-") as place:
        os.chmod(place, 0o711)
        directory = Path(place) / "pools"
        directory.mkdir(mode=0o711)
        probe = await kind.probe(real, Path(place) / "trials")
        assert probe.available, probe.reason
        try:
            yield Subject(kind, real, directory)
        finally:
            for mount in await real.mounts.below(directory):
                await real.mounts.unmount(mount)
            await real.files.remove_tree(directory)


@pytest.fixture
async def pool(subject: Subject) -> Subject:
    """An empty pool."""
    await subject.do(subject.driver.create_pool)
    return subject


@pytest.fixture
async def filled(pool: Subject) -> Subject:
    """A pool with two layers."""

    await pool.ensure(pool.image({BASE: {"a": "base", "b": "base"}, TOP: {"b": "top"}}), BASE, TOP)
    return pool


@pytest.fixture(scope="module")
def runtime_root() -> Iterator[Path]:
    files = {
        "init": INIT,
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\nbad:x:x:y::/:/\n",
        "etc/group": "root:x:0:\nweb:x:34:\nextra:x:50:web,other\n",
        "etc/notexecutable": "text",
    }
    with busybox_root(APPLETS.split(), IDMAP, files) as tree:
        yield tree


def _boots(name: str) -> bool:
    """Whether each guest of a driver boots a kernel: those have a suite with fewer guests."""
    kind: type[Runtime] = registry.load("runtimes", name)
    return kind.capabilities.machine is not None


def _root(name: str) -> RootKind:
    kind: type[Runtime] = registry.load("runtimes", name)
    return kind.capabilities.root


def _boots_busybox(name: str) -> bool:
    return _boots(name) and _root(name) is RootKind.SHARED


@pytest.fixture(params=["fake", "fake-vm", *(name for name in registry.names("runtimes") if not _boots(name))])
async def bench(request: pytest.FixtureRequest, runtime_root: Path) -> AsyncIterator[Bench]:
    async with _bench(request, runtime_root) as made:
        yield made


@pytest.fixture(params=[name for name in registry.names("runtimes") if _boots_busybox(name)])
async def machines(request: pytest.FixtureRequest, runtime_root: Path) -> AsyncIterator[Bench]:
    """For drivers whose guests boot a kernel, which takes seconds each."""
    async with _bench(request, runtime_root) as made:
        yield made


@pytest.fixture(params=[name for name in registry.names("runtimes") if _root(name) is RootKind.DISKS])
async def firmwares(request: pytest.FixtureRequest, runtime_root: Path) -> AsyncIterator[Bench]:
    """For drivers whose guests boot from disks."""
    async with _bench(request, runtime_root) as made:
        yield made


@pytest.fixture(params=registry.names("runtimes"))
async def wall(request: pytest.FixtureRequest, runtime_root: Path) -> AsyncIterator[Bench]:
    """Each driver in turn."""
    async with _bench(request, runtime_root) as made:
        yield made


@pytest.fixture(params=["qemu_unikernel"])
async def unikernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """For guests that are kernels; the root has tiny ones."""
    root = tmp_path_factory.mktemp("root")
    for name, content in (("multiboot", kernels.multiboot()), ("pvh", kernels.pvh()), ("broken", kernels.pvh()[:99])):
        (root / name).write_bytes(content)
    kernels.sector(root / "sector")
    async with _bench(request, root) as made:
        yield made


@asynccontextmanager
async def _bench(request: pytest.FixtureRequest, runtime_root: Path) -> AsyncIterator[Bench]:
    host = linux_host()
    kind = FAKES.get(request.param) or registry.load("runtimes", request.param)
    probe = await kind.probe(host)
    assert probe.available, f"{probe.reason}; {probe.remedy}"
    names = HostNames(f"isola-t{os.getpid() % 0xFFFF:x}")
    async with engine(kind, host, names) as runtime:
        if isinstance(runtime, FakeRuntime):
            runtime.programs.update(PROGRAMS)
            runtime.ends_on |= {15}
        yield Bench(request.param, kind, host, runtime.directory, names, operations(host), runtime_root, runtime)


@pytest.fixture(params=["fake", "linux"])
async def files(request: pytest.FixtureRequest) -> Files:
    return FakeFiles() if request.param == "fake" else LinuxFiles()


@pytest.fixture
async def place(files: Files) -> AsyncIterator[Path]:
    """An empty directory in that file system."""
    if isinstance(files, FakeFiles):
        await files.make_directory(Path("/place"))
        yield Path("/place")
        return
    with tempfile.TemporaryDirectory(prefix="isola-files-") as directory:
        yield Path(directory)


@pytest.fixture
async def root(files: Files, place: Path) -> AsyncIterator[Root]:
    """An empty root whose ids are shifted, with a secret beside it."""
    await files.make_directory(place / "root", mode=0o755, owner=IDS.base)
    await files.write(place / "secret", b"outside")
    async with files.root(place / "root", idmap=IDS) as opened:
        yield opened


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)
