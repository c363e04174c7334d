"""Unikernels as typed: iPXE takes an address from our DHCP and fetches a file of another instance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import kernels
import pytest
from command import Cli
from compiler import compiler
from daemon import Daemon
from docker_client import DockerClient
from linux_unikernel import arguments, web_server
from lxc_client import Lxc
from waiting import until

IPXE = Path("/usr/lib/ipxe/ipxe.lkrn")


@pytest.fixture(scope="module")
def images(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``ipxe``, and ``echoing``, a tiny kernel that says its arguments."""
    isola, tiny = Cli(daemon), tmp_path_factory.mktemp("kernel") / "echoing"
    tiny.write_bytes(kernels.pvh())
    isola("image", "import", str(IPXE), "--type", "unikernel", "--platform", "ipxe", "--alias", "ipxe")
    isola("image", "import", str(tiny), "--type", "unikernel", "--argument", "ip={address}", "--alias", "echoing")
    yield
    isola("image", "delete", "ipxe", "echoing")


@pytest.fixture
def names(isola: Cli) -> Iterator[list[str]]:
    """Instances that are deleted at the end."""
    made: list[str] = []
    yield made
    for name in reversed(made):
        isola("delete", "--force", name, check=False)


def address(daemon: Daemon, name: str) -> str:
    state = daemon.get(f"/1.0/instances/{name}/state")
    found = [each["address"] for each in state["network"]["eth0"]["addresses"] if each["family"] == "inet"]
    return str(found[0]) if found else ""


def test_ipxe_takes_an_address_and_fetches_a_file_of_another_instance(
    daemon: Daemon, isola: Cli, images: None, names: list[str]
) -> None:
    names += ["web1", "pxe1"]
    isola("launch", "busybox", "web1")
    until(lambda: address(daemon, "web1"))
    isola("exec", "web1", "--", "sh", "-c", "echo page >/tmp/page; busybox httpd -f -vv -p 80 -h /tmp >/tmp/log 2>&1 &")
    url = f"http://{address(daemon, 'web1')}/page"
    isola("launch", "ipxe", "pxe1", "-c", f"oci.entrypoint=dhcp && imgfetch {url}")
    assert daemon.get("/1.0/instances/pxe1")["isolation"] == "unikernel"
    asked = f"{address(daemon, 'pxe1')}]"
    until(lambda: "url:/page" in isola("exec", "web1", "--", "cat", "/tmp/log").stdout, 90)
    assert asked in isola("exec", "web1", "--", "cat", "/tmp/log").stdout
    until(lambda: "page... ok" in isola("logs", "pxe1").stdout)
    refused = isola("exec", "pxe1", "--", "true", check=False)
    assert refused.returncode != 0 and "no other one can be started" in refused.stderr and "console" in refused.stderr


def test_it_lives_as_other_instances_do(daemon: Daemon, isola: Cli, images: None, names: list[str], lxc: Lxc) -> None:
    names.append("uk1")
    isola("launch", "echoing", "uk1", "-c", "limits.memory=32MiB", "-c", "isola.restart=on-failure")
    until(lambda: "ready" in isola("logs", "uk1").stdout)
    assert f"ip={address(daemon, 'uk1')}" in isola("logs", "uk1").stdout
    assert "uk1" in lxc("list", "-c", "n", "-f", "csv")
    pid = daemon.get("/1.0/instances/uk1/state")["pid"]
    daemon.kill()
    daemon.start()
    assert daemon.get("/1.0/instances/uk1/state")["pid"] == pid
    isola("pause", "uk1")
    isola("resume", "uk1")
    assert isola("config", "set", "uk1", "limits.memory", "64MiB", check=False).returncode != 0
    isola("stop", "uk1")  # at once: it does not listen to the power button
    isola("snapshot", "create", "uk1", "s0")
    isola("copy", "uk1", "uk2")
    names.append("uk2")
    isola("start", "uk2")
    until(lambda: "ready" in isola("logs", "uk2").stdout)
    assert f"ip={address(daemon, 'uk2')}" in isola("logs", "uk2").stdout
    for wall in ("container", "vm"):
        assert isola("move", "uk1", "--isolation", wall, check=False).returncode != 0


def test_walls_and_images_have_to_fit(isola: Cli, images: None, names: list[str]) -> None:
    names += ["no1", "no2"]
    done = isola("launch", "tiny", "no1", "--isolation", "unikernel", check=False)
    assert done.returncode != 0 and "not a unikernel" in done.stderr and "microvm" in done.stderr
    done = isola("launch", "ipxe", "no2", "--isolation", "container", check=False)
    assert done.returncode != 0 and "isolation 'unikernel'" in done.stderr
    done = isola("create", "echoing", "no2", "-c", "isola.health.command=true", check=False)
    assert done.returncode != 0 and "isola.health.command" in done.stderr


def test_a_volume_is_its_disk_and_its_memory_is_kept(
    daemon: Daemon, isola: Cli, images: None, names: list[str], tmp_path: Path
) -> None:
    kernels.sector(tmp_path / "kernel")
    (tmp_path / "file.raw").write_bytes(bytes(1 << 20))
    isola("image", "import", str(tmp_path / "kernel"), "--type", "unikernel", "--alias", "sector")
    isola("storage", "volume", "create", "default", "sectors", "--type", "block", "size=1MiB")
    names.append("disk1")

    def log() -> str:
        return isola("logs", "disk1").stdout

    def last() -> int:
        return int(log().rpartition("\n")[0].rpartition("at ")[2])

    try:
        isola("create", "sector", "disk1")
        isola("config", "device", "add", "disk1", "data", "disk", "pool=default", "source=sectors")
        isola("start", "disk1")
        until(lambda: "written\n" in log() and "at 2" in log())
        more = ("config", "device", "add", "disk1", "more", "disk", f"source={tmp_path / 'file.raw'}")
        refused = isola(*more, check=False)
        assert refused.returncode != 0 and "looks for disks when it starts" in refused.stderr
        isola("snapshot", "create", "disk1", "s0", "--stateful")
        before = last()
        until(lambda: last() > before)
        isola("stop", "disk1", "--stateful")
        before = last()
        isola("start", "disk1")
        until(lambda: last() > before)
        assert log().count("sector:") == 1, "it went on"
        isola("snapshot", "restore", "disk1", "s0", "--stateful")
        before = last()
        until(lambda: last() > before)
        assert log().count("sector:") == 1
        isola("stop", "disk1")
        isola("config", "device", "remove", "disk1", "data")
        isola(*more)
        isola("start", "disk1")
        until(lambda: (tmp_path / "file.raw").read_bytes()[512:].startswith(b"written by the kernel"))
    finally:
        isola("delete", "--force", "disk1", check=False)
        isola("storage", "volume", "delete", "default", "sectors")
        isola("image", "delete", "sector")


def test_docker_runs_it(
    daemon: Daemon, isola: Cli, images: None, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    docker = DockerClient(daemon, tmp_path_factory.mktemp("home"))
    names.append("dk1")
    docker("run", "-d", "--name", "dk1", "echoing", "from", "docker")
    until(lambda: "from docker\nready" in docker("logs", "dk1"))
    assert json.loads(docker("inspect", "dk1"))[0]["State"]["Running"]
    docker("stop", "-t", "5", "dk1")
    docker("rm", "dk1")


def test_a_dockerfile_makes_one_that_a_registry_keeps_and_whose_health_is_checked(
    daemon: Daemon, isola: Cli, images: None, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "kernel").write_bytes(kernels.multiboot())
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY kernel /unikernel/kernel\n"
        "LABEL org.isola.image.type=unikernel org.isola.unikernel.machine=pc\nCMD built {hostname}\n"
    )
    isola("build", "-t", "made:1", str(tmp_path))
    isola("image", "export", "docker.io/library/made:1", str(tmp_path / "made.tar"), "--oci")
    isola("image", "delete", "docker.io/library/made:1")
    isola("image", "import", str(tmp_path / "made.tar"))
    names.append("made1")
    try:
        isola(
            "launch", "docker.io/library/made:1", "made1", "-c", "isola.health.tcp=7", "-c", "isola.health.interval=1s"
        )
        until(lambda: "ready" in isola("logs", "made1").stdout)
        assert "made1" in isola("logs", "made1").stdout
        until(lambda: "Unhealthy" in str(daemon.get("/1.0/instances/made1/state")).title(), 60)
    finally:
        isola("delete", "--force", "made1", check=False)
        isola("image", "delete", "docker.io/library/made:1")


def test_its_web_server_is_asked_for_its_health(
    daemon: Daemon, isola: Cli, images: None, names: list[str], tmp_path: Path
) -> None:
    """Linux with one program, in the place of a library that would be a web server by itself."""
    files = [str(path) for path in web_server(tmp_path)]
    isola("image", "import", *files, "--type", "unikernel", "--argument", arguments(), "--alias", "web")
    names.append("health1")

    def health() -> str:
        return str(daemon.get("/1.0/instances/health1/state")["health"]["status"])

    try:
        isola(
            "launch", "web", "health1", "-c", "isola.health.http=80/well", "-c", "isola.health.interval=1s",
            "-c", "isola.health.retries=1", "-c", "limits.memory=192MiB",
        )  # fmt: skip
        until(lambda: "serves at" in isola("logs", "health1").stdout, 120)
        until(lambda: health() == "healthy", 60)
        until(lambda: health() == "unhealthy", 60)  # when it does not have the page any more
    finally:
        isola("delete", "--force", "health1", check=False)
        isola("image", "delete", "web")


KRAFT = """#!/bin/sh
set -eu
expected="build --log-type basic --no-prompt --no-check-updates --plat qemu --arch x86_64 ."
[ "$*" = "$expected" ] || { echo "not understood: $*" >&2; exit 2; }
[ -f Kraftfile ]
mkdir -p .unikraft/build
cp app .unikraft/build/app_qemu-x86_64
touch .unikraft/build/app_qemu-x86_64.dbg
echo "built by $(id -u)"
"""


def test_builders_make_unikernels(isola: Cli, images: None, names: list[str], tmp_path: Path) -> None:
    """One of C by the compiler in an image."""
    shown = isola("build", "--list-builders").stdout
    assert {"dockerfile:", "ipxe:", "kraft:", "make:"} <= set(shown.split()) and "does not work" not in shown
    context, tools = tmp_path / "context", tmp_path / "tools"
    context.mkdir()
    (context / "script.ipxe").write_text("#!ipxe\necho script of ${product}\nshell\n")
    kernels.place(context / "app")
    (context / "Kraftfile").write_text("spec: v0.6\nname: app\n")
    (context / "Makefile").write_text(f"kernel.elf: sector.c\n\t{kernels.COMPILE} -o $@ $<\n")
    (context / "sector.c").write_bytes(kernels.SECTOR.read_bytes())
    compiler(tools / "tree")
    (tools / "kraft").write_text(KRAFT)
    (tools / "kraft").chmod(0o755)
    (tools / "Dockerfile").write_text("FROM busybox\nCOPY kraft /usr/bin/kraft\nCOPY tree /\n")
    here, tags = str(context), ("made/script:1", "made/compiled:1", "made/kraft:1", "made/tools:1")
    try:
        isola("build", "--builder", "ipxe", "-t", tags[0], here)
        isola("build", "-t", tags[3], str(tools))
        isola("build", "--builder", "make", "-t", tags[1], "--build-arg", f"image={tags[3]}", here)
        done = isola("build", "--builder", "kraft", "-t", tags[2], "--build-arg", f"image={tags[3]}", here)
        assert "built by 0" in done.stderr
        for number, (tag, says) in enumerate(
            ((tags[0], "script of Standard PC"), (tags[1], "disk: "), (tags[2], "ready"))
        ):
            names.append(f"up{number}")
            isola("launch", f"docker.io/{tag}", f"up{number}")
            until(lambda name=f"up{number}", says=says: says in isola("logs", name).stdout, 40)  # type: ignore[misc]
        failed = isola("build", "--builder", "make", "--build-arg", "image=busybox", here, check=False)
        assert failed.returncode != 0 and "make" in failed.stderr
        for given, says in (
            (("none",), "dockerfile, ipxe, kraft, make"),
            (("make",), "build argument image"),
            (("ipxe", "--build-arg", "machine=microvm"), "q35, pc"),
            (("ipxe", "-f", str(context / "Kraftfile")), "#!ipxe"),
        ):
            failed = isola("build", "--builder", *given, here, check=False)
            assert failed.returncode != 0 and says in failed.stderr, failed.stderr
    finally:
        for name in ("up0", "up1", "up2"):
            isola("delete", "--force", name, check=False)
        for tag in tags:
            isola("image", "delete", f"docker.io/{tag}", check=False)


def test_the_source_builds_one_with_commands(daemon: Daemon, isola: Cli, images: None, names: list[str]) -> None:
    isola("image", "build", "ipxe", "-o", "commands=echo from {hostname}", "--alias", "saying")
    names.append("say1")
    try:
        isola("launch", "saying", "say1")
        until(lambda: "from say1" in isola("logs", "say1").stdout, 30)
    finally:
        isola("delete", "--force", "say1", check=False)
        isola("image", "delete", "saying")
