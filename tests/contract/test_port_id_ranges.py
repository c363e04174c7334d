"""The contract of ``IdRanges``, and how the real one reads a host."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.errors import HostFailure
from isola.host.id_ranges import IdRanges, LinuxIdRanges
from isola.host.namespaces import LinuxNamespaces
from isola.host.process import LinuxProcesses
from isola.model.identity import ID_RANGE_SIZE, IdRange
from isola.testing.id_ranges import FakeIdRanges

BASES = (1_900_019_712, 1_900_085_248, 1_900_150_784)
"""Ids that presumably no user and no process has."""
WITH_PROCESS = 1_900_216_320
"""A range of its own, because other tests claim theirs at the same time."""


@pytest.fixture(params=["fake", "linux"])
def ranges(request: pytest.FixtureRequest, tmp_path: Path) -> IdRanges:
    if request.param == "fake":
        return FakeIdRanges()
    return LinuxIdRanges(LinuxProcesses(), claims=tmp_path / "claims")


async def test_the_first_free_range_is_claimed(ranges: IdRanges) -> None:
    assert await ranges.claim(BASES, "/one/a") == BASES[0]
    assert await ranges.claim(BASES, "/two/b") == BASES[1]
    assert await ranges.claim(BASES[:2], "/two/c") is None
    assert await ranges.claims() == {BASES[0]: "/one/a", BASES[1]: "/two/b"}


async def test_only_its_holder_releases_a_claim(ranges: IdRanges) -> None:
    assert await ranges.claim(BASES, "/one/a") == BASES[0]
    await ranges.release(BASES[0], "/two/a")
    assert await ranges.claims() == {BASES[0]: "/one/a"}
    await ranges.release(BASES[0], "/one/a")
    await ranges.release(BASES[0], "/one/a")
    assert await ranges.claims() == {}


async def test_used_claims_are_kept_and_listed(ranges: IdRanges) -> None:
    assert await ranges.claim(BASES[1:], "/two/b") == BASES[1]
    assert await ranges.keep({BASES[0]: "/one/a", BASES[1]: "/one/b"}) == {BASES[1]: "/two/b"}
    assert await ranges.keep({BASES[0]: "/one/a"}) == {}
    assert await ranges.claims() == {BASES[0]: "/one/a", BASES[1]: "/two/b"}


async def test_claims_of_daemons_that_are_gone_are_released(ranges: IdRanges, tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.mkdir()
    if isinstance(ranges, FakeIdRanges):
        ranges.gone = {str(gone)}
    for holder in (f"{gone}/a", f"{there}/b", f"{gone}/c"):
        await ranges.claim(BASES, holder)
    assert await ranges.release_gone(BASES[:2]) == 1
    assert await ranges.claims() == {BASES[1]: f"{there}/b", BASES[2]: f"{gone}/c"}
    assert await ranges.release_gone(BASES[:2]) == 0
    assert await ranges.claim(BASES, f"{there}/d") == BASES[0]


async def test_concurrent_claims_get_different_ranges(ranges: IdRanges) -> None:
    got = await asyncio.gather(*(ranges.claim(BASES, f"/{number}/x") for number in range(5)))
    assert sorted(base for base in got if base is not None) == list(BASES)


# From here on: reading a real host.


@pytest.fixture
async def process() -> AsyncIterator[int]:
    """A process in its own user namespace with an id in the middle of its range."""
    processes = LinuxProcesses()
    async with LinuxNamespaces().user(IdRange(WITH_PROCESS, 1000)) as namespace:
        argv = ["nsenter", f"--user={namespace}", "--setuid", "7", "--setgid", "7", "sleep", "600"]
        child = await processes.spawn(argv)
        while os.stat(f"/proc/{child.ref.pid}").st_uid != WITH_PROCESS + 7:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    yield child.ref.pid
    child.signal(signal.SIGKILL)
    await child.wait()


@pytest.mark.usefixtures("process")
async def test_a_range_that_a_process_has_ids_of_is_not_free(tmp_path: Path) -> None:
    ranges = LinuxIdRanges(LinuxProcesses(), claims=tmp_path / "claims")
    assert await ranges.claim((WITH_PROCESS, BASES[2]), "/one/a") == BASES[2]
    assert (WITH_PROCESS, 1000) in await ranges.taken()


def host(root: Path, processes: LinuxProcesses | None = None, **files: str) -> LinuxIdRanges:
    (root / "etc").mkdir()
    for name, text in files.items():
        (root / "etc" / name).write_text(text)
    return LinuxIdRanges(processes or LinuxProcesses(), root, root / "claims")


async def test_root_is_granted_ranges_of_both_files(tmp_path: Path) -> None:
    subuid = "root:100000:131072\nanna:500000:65536\n\nbroken\n0:1000000:65536\nroot:x:7\n"
    found = host(tmp_path, subuid=subuid, subgid="root:165536:1000000\n")
    assert list(await found.granted()) == [(165536, 65536), (1000000, 65536)]
    (tmp_path / "etc/subgid").unlink()
    assert list(await found.granted()) == [(100000, 131072), (1000000, 65536)]


async def test_ranges_granted_to_others_are_not_used(tmp_path: Path) -> None:
    subuid = "root:1048576:65536\ndockremap:1114112:65536\n1007:500000:65536\n"
    taken = set(await host(tmp_path, subuid=subuid, subgid="anna:900000:10\n").taken())
    assert {(1114112, 65536), (500000, 65536), (900000, 10)} <= taken
    assert (1048576, 65536) not in taken


@pytest.mark.parametrize("place", ["var/lib/incus", "var/lib/lxd", "var/snap/lxd/common/lxd"])
async def test_ranges_granted_to_root_belong_to_installed_incus_or_lxd(tmp_path: Path, place: str) -> None:
    found = host(tmp_path)
    (tmp_path / place / "database").mkdir(parents=True)
    assert (1_000_000, 1_000_000_000) in await found.taken()
    (tmp_path / "etc/subuid").write_text("root:3000000:1000000\n")
    taken = await found.taken()
    assert (3_000_000, 1_000_000) in taken and (1_000_000, 1_000_000_000) not in taken


async def test_ids_of_nspawn_machines_are_not_used(tmp_path: Path) -> None:
    found = host(tmp_path)
    (tmp_path / "var/lib/machines/one").mkdir(parents=True)
    os.chown(tmp_path / "var/lib/machines/one", BASES[2], BASES[2])
    assert (BASES[2], ID_RANGE_SIZE) in await found.taken()


class Names(LinuxProcesses):
    """Another name service."""

    def __init__(self, script: str) -> None:
        self.script = script

    async def run(self, argv: object, **options: object) -> object:  # type: ignore[override]
        """``getent`` is a script here."""
        assert isinstance(argv, list)
        return await super().run([sys.executable, "-c", self.script, *argv[1:]], **options)  # type: ignore[arg-type]


async def test_ids_with_a_name_are_known(tmp_path: Path) -> None:
    script = "import sys; print({'passwd': 'eve:x:1300000:5:::', 'group': 'staff:x:1400000:'}[sys.argv[1]])"
    found = host(tmp_path, Names(script))
    assert await found.named([1_300_000, 1_400_000, 1_500_000]) == {1_300_000, 1_400_000}
    assert {(1_300_000, 1), (1_400_000, 1)} <= set(await found.taken())


async def test_a_hanging_or_failing_name_service_delays_nothing(
    tmp_path: Path,
) -> None:
    found = host(tmp_path, Names("import time; time.sleep(600)"))
    found.names_seconds = 0.2
    async with asyncio.timeout(60):
        assert await found.named([1_300_000]) == frozenset()
        await found.taken()


async def test_unwritable_claims_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostFailure, match="claims"):
        await LinuxIdRanges(LinuxProcesses(), claims=tmp_path / "file/claims").claim(BASES, "/one/a")
