"""One instance behind each wall, with real clients; each process that it consists of is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from application_daemon import application_daemon
from audit import settled
from boot_media import data_disc
from command import Cli
from daemon import ApiError, Daemon
from docker_command import Docker
from lxc_client import Lxc
from terminal import Terminal
from waiting import until
from wall_parts import parts

WALLS = {
    "container": {"first": "", "monitor": "monitor"},
    "sandbox": {"first": "", "gofer": "", "monitor": "monitor"},
    "microvm": {"qemu": "hypervisor", "server": "file server", "monitor": "monitor"},
}
"""Their processes, and how the end of each is explained: the first one of a container may end as it likes."""
VIRTUAL_MACHINE = {"qemu": "hypervisor", "server": "file server", "tpm": "TPM", "monitor": "monitor"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with application_daemon(tmp_path_factory.mktemp("walls")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def docker(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    return Docker(own, tmp_path_factory.mktemp("docker"))


@pytest.fixture(scope="module")
def lxc(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(own, tmp_path_factory.mktemp("lxc"))


def launch(own: Daemon, name: str, **more: Any) -> None:
    program = {"entrypoint": [""], "arguments": ["/bin/sh", "-c", "sleep 1000"]}
    source = {"type": "image", "alias": "app"}
    own.run("POST", "/1.0/instances", {"name": name, "source": source, "start": True, "program": program} | more)


@pytest.mark.parametrize("isolation", WALLS)
def test_clients_run_commands_and_killed_parts_are_replaced(
    own: Daemon, docker: Docker, lxc: Lxc, isolation: str, tmp_path: Path
) -> None:
    """The guest of the microVM is shared by all of it, because it takes seconds to boot."""
    name = f"in-{isolation}"
    launch(own, name, isolation=isolation, config={"isola.restart": "always"})
    commands_have_their_status(own, docker, lxc, name)
    terminals_are_interactive(own, docker, lxc, name)
    if isolation == "microvm":
        a_machine_changes_while_it_runs(own, docker, lxc, name)
        a_disc_is_mounted_inside(own, name, tmp_path)
        checkpoints_are_made_and_used(docker, name)
        a_port_is_published_and_the_address_shown(own, name)
    for part, why in WALLS[isolation].items():
        a_killed_part_is_replaced(own, name, part, why)
    own.run("PATCH", f"/1.0/instances/{name}", {"config": {"isola.restart": "no"}})
    os.kill(parts(own, name)["monitor"], signal.SIGKILL)
    until(lambda: own.status(name) == "Stopped", seconds=30)
    own.idle()
    assert not settled(own)
    last = own.get(f"/1.0/instances/{name}")["last_run"]
    assert last["exit_status"] == 137 and "monitor" in last["error"]
    own.run("DELETE", f"/1.0/instances/{name}")


def test_killed_parts_of_a_virtual_machine_are_replaced(own: Daemon) -> None:
    """An empty one, whose firmware runs: what it consists of does not depend on its system."""
    devices = {"tpm": {"type": "tpm"}, "root": {"type": "disk", "path": "/", "pool": "default", "size": "64MiB"}}
    body = {"name": "in-vm", "source": {"type": "none"}, "isolation": "vm", "devices": devices, "start": True}
    own.run("POST", "/1.0/instances", body | {"config": {"isola.restart": "always", "limits.memory": "128MiB"}})
    for part, why in VIRTUAL_MACHINE.items():
        a_killed_part_is_replaced(own, "in-vm", part, why, commands=False)
    own.run("PATCH", "/1.0/instances/in-vm", {"config": {"isola.restart": "no"}})
    os.kill(parts(own, "in-vm")["tpm"], signal.SIGKILL)
    until(lambda: own.status("in-vm") == "Stopped", seconds=30)
    own.idle()
    assert not settled(own)
    last = own.get("/1.0/instances/in-vm")["last_run"]
    assert last["exit_status"] == 137 and "TPM" in last["error"]
    own.run("DELETE", "/1.0/instances/in-vm")


def commands_have_their_status(own: Daemon, docker: Docker, lxc: Lxc, name: str) -> None:
    script = "cat; echo err >&2; exit 6"
    assert docker.both("exec", "-i", name, "sh", "-c", script, status=6, stdin="in\n") == ("in\n", "err\n")
    assert lxc("exec", name, "--", "sh", "-c", script, status=6, input=b"in\n") == "in\n"
    assert Cli(own)("exec", name, "--", "sh", "-c", "exit 6", check=False).returncode == 6
    assert docker("exec", "-u", "33:33", "-w", "/srv", name, "sh", "-c", "id -u; pwd") == "33\n/srv\n"
    docker("exec", name, "nosuch", status=127)


def terminals_are_interactive(own: Daemon, docker: Docker, lxc: Lxc, name: str) -> None:
    isola = Cli(own)
    for argv, env in (
        (["docker", "exec", "-it", name, "sh"], docker.env),
        (["lxc", "exec", name, "--", "sh"], lxc.env),
        ([*isola.argv, "exec", "-t", name, "--", "sh"], isola.env),
    ):
        terminal = Terminal(argv, env, rows=33, columns=99)
        try:
            terminal.ask("busybox stty size\n", "33 99")
            terminal.type("exit 5\n")
            assert terminal.wait(60) == 5, argv
        finally:
            terminal.close()


def a_machine_changes_while_it_runs(own: Daemon, docker: Docker, lxc: Lxc, name: str) -> None:
    """CPUs, memory and a disk, as typed for each client and as its programs see them."""
    isola = Cli(own)

    def inside(script: str) -> str:
        return isola("exec", name, "--", "sh", "-c", script).stdout.strip()

    def memory() -> int:
        return int(inside("busybox grep MemTotal /proc/meminfo").split()[1]) >> 10

    most, before = str(min(2, os.cpu_count() or 1)), memory()
    assert inside("busybox nproc") == "1"
    lxc("config", "set", name, "limits.cpu", most)
    docker("update", "--memory", "640m", "--memory-swap", "-1", name)
    assert (inside("busybox nproc"), memory() - before) == (most, 128)
    lxc("config", "set", name, "limits.memory", "576MiB")
    assert memory() - before == 64
    docker("update", "--cpus", "0.5", name)
    assert docker.inspect(name)["HostConfig"]["NanoCpus"] == 500_000_000
    isola("config", "set", name, "limits.cpu=1", "limits.memory=448MiB")
    assert inside("busybox nproc") == "1" and before - 70 < memory() < before - 55
    refused = isola("config", "set", name, "limits.memory=8200GiB", check=False)
    assert refused.returncode != 0 and "MiB while it runs" in refused.stderr
    isola("config", "unset", name, "limits.memory")
    isola("storage", "volume", "create", "default/extra", "size=8MiB", "--type", "block")
    isola("storage", "volume", "attach", "default/extra", name)
    until(lambda: inside("cat /sys/block/vda/serial; true") == "extra", seconds=20)
    assert inside("echo kept > /dev/vda && busybox sync; busybox head -n 1 /dev/vda") == "kept"
    isola("config", "device", "remove", name, "extra")
    until(lambda: inside("ls /sys/block/vda 2>/dev/null || echo gone") == "gone", seconds=20)
    isola("storage", "volume", "delete", "default/extra")


def a_disc_is_mounted_inside(own: Daemon, name: str, scratch: Path) -> None:
    """An ISO, as a volume that is attached while it runs; it cannot be written to."""
    isola, file = Cli(own), scratch / "data.iso"
    file.write_bytes(data_disc("SEEN.TXT", b"on the disc\n"))
    isola("storage", "volume", "import", "default/disc", str(file))
    isola("storage", "volume", "attach", "default/disc", name)
    mounting = "busybox mkdir -p /mnt; busybox mount -t iso9660 /dev/vda /mnt"
    reading = f"{mounting} && busybox cat /mnt/seen.txt && ! (echo x > /dev/vda)"

    def mounted() -> bool:
        done = isola("exec", name, "--", "sh", "-c", f"{reading} 2>/dev/null; busybox umount /mnt", check=False)
        return done.stdout == "on the disc\n" and done.returncode == 0

    until(mounted, seconds=30)
    isola("config", "device", "remove", name, "disc")
    isola("storage", "volume", "delete", "default/disc")


def a_port_is_published_and_the_address_shown(own: Daemon, name: str) -> None:
    isola, host = Cli(own), ["nsenter", f"--net=/run/netns/{own.netns}"]
    address = str(own.get(f"/1.0/instances/{name}")["config"]["volatile.eth0.ipv4"])
    until(lambda: address in isola("list").stdout, seconds=20)
    assert f"inet {address}/" in isola("exec", name, "--", "busybox", "ip", "addr").stdout
    isola("exec", name, "--", "sh", "-c", "cd /srv && echo page > index.html && busybox httpd -p 80")
    isola("config", "device", "add", name, "web", "proxy", "listen=tcp:127.0.0.1:7080", "connect=tcp:127.0.0.1:80")
    asked = [*host, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:7080/"]
    assert subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False).stdout == "page\n"
    isola("config", "device", "remove", name, "web")


def a_killed_part_is_replaced(own: Daemon, name: str, part: str, why: str, *, commands: bool = True) -> None:
    before = parts(own, name)
    os.kill(before[part], signal.SIGKILL)
    if part == "gofer":  # the kernel of the sandbox sees that when it opens the next file
        with suppress(ApiError, AssertionError):
            own.exec(name, "ls", "/srv")

    def runs_again() -> bool:
        with suppress(ApiError, AssertionError):
            there = own.pid(name) not in (0, *before.values())
            return there and (not commands or own.exec_status(name, "true") == 0)
        return False

    until(runs_again, seconds=90)
    own.idle()
    assert not [pid for pid in before.values() if lives(pid)], part
    found = own.get(f"/1.0/instances/{name}")
    assert found["last_run"]["exit_status"] != 0, part
    if why:
        assert f"Instance {name} has ended: Its {why} was killed or has failed" in own.log.read_text()


def lives(pid: int) -> bool:
    """A killed process may wait for the machine's init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_docker_runs_a_sandbox_by_the_name_of_its_runtime(own: Daemon, docker: Docker) -> None:
    said = docker("run", "--rm", "--runtime", "runsc", "app", "sh", "-c", "cat /proc/version; exit 4", status=4)
    assert said != Path("/proc/version").read_text()
    docker("run", "-d", "--runtime", "runsc", "--name", "dsand", "app", "sleep", "1000")
    assert docker.inspect("dsand")["HostConfig"]["Runtime"] == "runsc"
    assert own.get("/1.0/instances/dsand")["isolation"] == "sandbox"
    docker("cp", "/etc/hostname", "dsand:/tmp/given")
    assert docker("exec", "dsand", "cat", "/tmp/given") == Path("/etc/hostname").read_text()
    checkpoints_are_made_and_used(docker, "dsand")
    docker("rm", "-f", "dsand")


def checkpoints_are_made_and_used(docker: Docker, name: str) -> None:
    """A file in the memory of the guest's kernel is there again with it."""
    docker("exec", name, "sh", "-c", "echo before > /dev/shm/state")
    docker("checkpoint", "create", "--leave-running", name, "one")
    docker("exec", name, "sh", "-c", "echo after > /dev/shm/state")
    assert docker("checkpoint", "ls", name).split() == ["CHECKPOINT", "NAME", "one"]
    docker("stop", "-t", "0", name)
    docker("start", "--checkpoint", "one", name)
    assert docker("exec", name, "cat", "/dev/shm/state") == "before\n"
    docker("checkpoint", "rm", name, "one")
    assert docker("checkpoint", "ls", name).split() == ["CHECKPOINT", "NAME"]
