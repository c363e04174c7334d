"""The supervision of lxcfs by the daemon, on a host in memory."""

from __future__ import annotations

from pathlib import Path

from isola.runtimes.lxcfs import Lxcfs
from isola.runtimes.oci.mounts import LXCFS_FILES
from isola.testing.host import fake_host

DIRECTORY = Path("/var/lib/isola")


async def test_another_process_with_the_pid_of_lxcfs_is_not_ended() -> None:
    host = fake_host()
    ours = host.processes.add("/usr/bin/lxcfs", "-f", "-p", f"{DIRECTORY}/lxcfs.pid", f"{DIRECTORY}/lxcfs")
    await host.files.make_directory(DIRECTORY / "lxcfs")
    for process, ends in ((host.processes.add("database"), False), (ours, True)):
        await host.files.write(DIRECTORY / "lxcfs.pid", str(process.ref.pid).encode())
        await Lxcfs(host, DIRECTORY).stop()
        assert process.running is not ends


def test_the_load_is_the_kernel_s_own_file() -> None:
    """The file of lxcfs shows the last PID of the host, which reveals how many processes start and when."""
    assert "proc/loadavg" not in LXCFS_FILES
