"""Virtual machines that are installed from a disc, and those that boot by a BIOS: with media made here, in seconds."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import spice
from boot_media import boot_sector, installer
from command import Cli
from daemon import Daemon
from lxc_client import Lxc
from tiny_daemon import tiny_daemon
from waiting import until

pytestmark = pytest.mark.timeout(600)
SMALL = ("-c", "limits.memory=256MiB", "-c", "security.secureboot=false")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path_factory.mktemp("media")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def lxc(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(own, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def isola(own: Daemon) -> Cli:
    return Cli(own)


def says(own: Daemon, name: str, text: str) -> bool:
    return text in own.read(f"/1.0/instances/{name}/console")


def test_a_machine_without_an_image_is_installed_from_a_disc(own: Daemon, lxc: Lxc, isola: Cli, tmp_path: Path) -> None:
    isola("storage", "volume", "import", "default/installer", str(installer(tmp_path)))
    lxc("init", "--empty", "--vm", "desk1", *SMALL)
    lxc("config", "device", "add", "desk1", "disc", "disk", "pool=default", "source=installer", "boot.priority=10")
    lxc("start", "desk1")
    shows_its_screen(lxc, tmp_path, "desk1")
    until(lambda: says(own, "desk1", "the installed system runs"), seconds=500)
    until(lambda: own.status("desk1") == "Stopped", seconds=60)
    # It has restarted itself once, so this is the log of its second run, which went on from the disc to the disk.
    said = own.read("/1.0/instances/desk1/console")
    assert said.index("installed already") < said.index("the installed system")
    lxc("config", "device", "remove", "desk1", "disc")
    lxc("delete", "desk1")


def shows_its_screen(lxc: Lxc, scratch: Path, name: str) -> None:
    """To the viewer that the unmodified client starts."""
    programs, seen = scratch / "programs", scratch / "seen"
    programs.mkdir()
    argv = shlex.join([sys.executable, spice.__file__, str(seen)])
    (programs / "remote-viewer").write_text(f'#!/bin/sh\nexec {argv} "$@"\n')
    (programs / "remote-viewer").chmod(0o755)
    path, lxc.env["PATH"] = lxc.env["PATH"], f"{programs}:{lxc.env['PATH']}"
    try:
        lxc("console", name, "--type=vga")
    finally:
        lxc.env["PATH"] = path
    assert seen.read_text() == "True True"


def test_a_disk_without_a_boot_program_for_uefi_boots_by_a_bios(
    own: Daemon, lxc: Lxc, isola: Cli, tmp_path: Path
) -> None:
    (tmp_path / "old.raw").write_bytes(boot_sector("ISOLA: by a BIOS\r\n"))
    isola("image", "import", str(tmp_path / "old.raw"), "--alias", "old")
    refused = isola("launch", "old", "old1", "--vm", "-c", "security.csm=true", check=False)
    assert refused.returncode and "security.secureboot=false" in refused.stderr
    lxc("launch", "old", "old1", "--vm", *SMALL, "-c", "security.csm=true")
    until(lambda: says(own, "old1", "ISOLA: by a BIOS"), seconds=200)
    until(lambda: own.status("old1") == "Stopped", seconds=60)
    assert own.get("/1.0/instances/old1")["last_run"]["exit_status"] == 0
    lxc("delete", "old1")
