"""Which QEMU and virtiofsd run guests, and whether they save the memory of guests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from isola.errors import DriverUnavailable
from isola.runtimes.qemu.engines import VARIABLE, Engines, find, versions
from isola.testing.host import fake_host
from isola.testing.processes import Call
from isola.testing.system import FakeSystem

QEMU = Path("/usr/bin/qemu-system-x86_64")


def says(text: str) -> Callable[[Call], Awaitable[int]]:
    async def program(call: Call) -> int:
        call.out(text.encode())
        return 0

    return program


def test_unpacked_programs_are_started_by_their_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "engines.json").write_text("{}")
    found = find(fake_host())
    start = (f"{tmp_path}/lib/loader", "--inhibit-cache", "--library-path", f"{tmp_path}/lib")
    assert found.qemu == (*start, f"{tmp_path}/bin/qemu-system-x86_64")
    assert found.virtiofsd == (*start, f"{tmp_path}/bin/virtiofsd")
    assert (found.data, found.trees) == ((tmp_path / "share",), (tmp_path,))
    assert not found.old_virtiofsd


def test_those_of_the_machine_are_used_when_none_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    found = find(fake_host(system=FakeSystem(programs={QEMU.name: QEMU})))
    assert found.qemu == (str(QEMU),)
    assert Path("/usr") in found.trees


def test_a_machine_without_qemu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(DriverUnavailable) as caught:
        find(fake_host())
    assert "qemu-system-x86" in caught.value.remedy


@pytest.mark.parametrize(
    ("qemu", "virtiofsd", "path", "saves"),
    [
        ("QEMU emulator version 10.0.13 (Debian 1:10.0)", "virtiofsd 1.13.2", "/usr/libexec/virtiofsd", True),
        ("QEMU emulator version 8.2.0", "virtiofsd 1.11.0", "/usr/libexec/virtiofsd", True),
        ("QEMU emulator version 8.1.9", "virtiofsd 1.13.2", "/usr/libexec/virtiofsd", False),
        ("QEMU emulator version 10.0.13", "virtiofsd 1.10.1", "/usr/libexec/virtiofsd", False),
        ("QEMU emulator version 10.0.13", "virtiofsd version 7.2.22", "/usr/lib/qemu/virtiofsd", False),
    ],
)
async def test_memory_is_saved_from_the_versions_on_that_can(qemu: str, virtiofsd: str, path: str, saves: bool) -> None:
    host = fake_host(programs={QEMU.name: says(qemu), "virtiofsd": says(virtiofsd)})
    found = await versions(host, Engines((str(QEMU),), (path,), (), ()))
    assert found.saves_memory is saves
    assert found.qemu in qemu and found.virtiofsd in virtiofsd


async def test_without_a_virtiofsd_no_memory_is_saved() -> None:
    host = fake_host(programs={QEMU.name: says("QEMU emulator version 10.0.13")})
    assert not (await versions(host, Engines((str(QEMU),), (), (), ()))).saves_memory


async def test_programs_that_do_not_start_make_the_driver_unavailable() -> None:
    with pytest.raises(DriverUnavailable, match="does not start"):
        await versions(fake_host(), Engines((str(QEMU),), (), (), ()))
