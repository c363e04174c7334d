"""Sandboxes: the same image and verbs as for a container, behind another wall."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from application_daemon import application_daemon
from command import Cli
from daemon import ApiError, Daemon
from lxc_client import Lxc
from waiting import until

from isola.runtimes.gvisor.options import Version

Json = dict[str, Any]
SERVE = "echo page > /srv/index.html; exec httpd -f -p 80 -h /srv"

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /srv/next; mv /srv/next /srv/count; sleep 0.05; done"
"""The file is never empty."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with application_daemon(tmp_path_factory.mktemp("sandbox")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def lxc(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(own, tmp_path_factory.mktemp("home"))


def launch(own: Daemon, name: str, script: str, *, isolation: str = "sandbox", **more: Any) -> None:
    program = {"entrypoint": [""], "arguments": ["/bin/sh", "-c", script]}
    source = {"type": "image", "alias": "app"}
    body = {"name": name, "source": source, "start": True, "isolation": isolation, "program": program}
    own.run("POST", "/1.0/instances", body | {"terminal": False} | more)


def published(port: int) -> dict[str, str]:
    listen = f"tcp:0.0.0.0:{port}"
    return {"type": "proxy", "listen": listen, "connect": "tcp:0.0.0.0:80", "nat": "true"}


def page(own: Daemon, port: int) -> str:
    return own.inside("wget", "-qO-", "-T", "5", f"http://127.0.0.1:{port}/", check=False).stdout


def counted(own: Daemon, name: str) -> int:
    return int(own.exec(name, "cat", "/srv/count")[1] or 0)


@pytest.mark.parametrize(("isolation", "port"), [("container", 18080), ("sandbox", 18081)])
def test_one_image_answers_on_a_published_port_behind_each_wall(own: Daemon, isolation: str, port: int) -> None:
    launch(own, f"web-{isolation}", SERVE, isolation=isolation, devices={"web": published(port)})
    until(lambda: page(own, port) == "page\n")
    state = own.get(f"/1.0/instances/web-{isolation}/state")
    assert [each for each in state["network"]["eth0"]["addresses"] if each["scope"] == "global"]


def test_commands_files_and_signals(own: Daemon) -> None:
    isola = Cli(own)
    launch(own, "box", "trap 'echo bye; exit 7' TERM; echo began; while :; do sleep 0.1; done")
    assert own.get("/1.0/instances/box")["runtime"] == "runsc"
    status, text, _ = own.exec("box", "cat", "/proc/version")
    assert status == 0 and text != Path("/proc/version").read_text(), "another kernel"
    assert own.exec_status("box", "sh", "-c", "exit 5") == 5
    assert own.exec("box", "sh", "-c", "id -u; pwd", user=33, cwd="/srv")[1].split() == ["33", "/srv"]
    isola("file", "push", "-", "box/srv/given", input="from outside\n")
    assert own.exec("box", "cat", "/srv/given")[1] == "from outside\n"
    assert own.exec("box", "sh", "-c", "echo more >> /srv/given")[0] == 0
    assert isola("file", "pull", "box/srv/given", "-").stdout == "from outside\nmore\n"
    own.change("box", "freeze")
    assert own.status("box") == "Frozen"
    own.change("box", "unfreeze")
    own.change("box", "stop", timeout=20)
    assert own.get("/1.0/instances/box")["last_run"]["exit_status"] == 7
    until(lambda: isola("logs", "box").stdout == "began\nbye\n")


def test_what_needs_the_host_s_kernel_is_refused_with_the_reason(own: Daemon) -> None:
    refused: tuple[dict[str, Any], ...] = (
        {"config": {"linux.sysctl.kernel.msgmax": "9000"}},
        {"config": {"isola.paths.masked": "/proc/version"}},
    )
    for more in refused:
        with pytest.raises(ApiError, match="kernel"):
            launch(own, "refused", "sleep 9", **more)
    assert "/1.0/instances/refused" not in own.get("/1.0/instances")


def test_a_disk_is_added_and_removed_while_it_runs(own: Daemon, tmp_path: Path) -> None:
    launch(own, "disks", "exec sleep 99")
    (tmp_path / "file").write_text("of the host\n")
    tmp_path.chmod(0o755)
    found = own.get("/1.0/instances/disks")
    disk = {"type": "disk", "source": str(tmp_path), "path": "/mnt/host"}
    own.run("PATCH", "/1.0/instances/disks", {"devices": found["devices"] | {"data": disk}})
    assert own.exec("disks", "cat", "/mnt/host/file")[1] == "of the host\n"
    own.run("PUT", "/1.0/instances/disks", found)
    assert own.exec_status("disks", "cat", "/mnt/host/file") != 0


def listens(own: Daemon, name: str, port: int) -> bool:
    """Whether the host's network stack has a socket there, in the namespace of the instance."""
    table = Path(f"/proc/{own.pid(name)}/net/tcp").read_text() + Path(f"/proc/{own.pid(name)}/net/tcp6").read_text()
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in table.splitlines()[1:])


def test_the_stack_of_the_host_is_used_or_refused_with_the_reason(own: Daemon) -> None:
    """runsc of Debian 12 has no rights in a user namespace without a stack of its own."""
    host = {"isola.sandbox.network": "host"}
    if Version.read(own.inside("runsc", "--version").stdout).has_host_stack:
        launch(own, "hosts", SERVE, config=host, devices={"web": published(18083)})
        until(lambda: page(own, 18083) == "page\n")
        assert listens(own, "hosts", 80)
    else:
        with pytest.raises(AssertionError, match=r"cannot use the host's network stack.*unset isola\.sandbox\.network"):
            launch(own, "hosts", SERVE, config=host)
        assert own.status("hosts") == "Stopped"
    narrow = {"restricted": "true", "features.profiles": "false", "features.images": "false"}
    own.request("POST", "/1.0/projects", {"name": "narrow", "config": narrow})
    try:
        with pytest.raises(ApiError, match=r"restricted\.containers\.lowlevel"):
            body = {"name": "no", "source": {"type": "none"}, "config": host}
            own.run("POST", "/1.0/instances?project=narrow", body)
    finally:
        own.request("DELETE", "/1.0/projects/narrow")


def test_nics_are_not_added_to_a_stack_that_has_started(own: Daemon) -> None:
    launch(own, "owns", SERVE, devices={"web": published(18084)})
    until(lambda: page(own, 18084) == "page\n")
    assert not listens(own, "owns", 80), "the host's stack has no socket"
    found = own.get("/1.0/instances/owns")
    more = {**found["devices"], "eth1": {**found["expanded_devices"]["eth0"], "name": "eth1"}}
    with pytest.raises((ApiError, AssertionError), match="takes its NICs over when it starts"):
        own.run("PATCH", "/1.0/instances/owns", {"devices": more})
    assert "eth1" not in own.get("/1.0/instances/owns/state")["network"]
    assert page(own, 18084) == "page\n"


def test_a_full_disk_at_a_stateful_stop_leaves_nothing_and_the_instance_runs_on(own: Daemon) -> None:
    launch(own, "full", COUNT)
    until(lambda: counted(own, "full") > 3)
    states = own.directory / "states"
    states.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", states], check=True)
    try:
        with pytest.raises(AssertionError, match="no room for the state"):
            own.change("full", "stop", stateful=True)
        assert list(states.iterdir()) == []
    finally:
        subprocess.run(["umount", states], check=True)
    assert (own.status("full"), own.get("/1.0/instances/full")["stateful"]) == ("Running", False)
    count = counted(own, "full")
    until(lambda: counted(own, "full") > count)


def test_it_runs_on_when_the_daemon_is_killed(own: Daemon) -> None:
    launch(own, "stays", COUNT)
    before, address = own.pid("stays"), own.get("/1.0/instances/stays/state")["network"]["eth0"]["addresses"]
    own.kill()
    own.start()
    assert own.pid("stays") == before
    count = counted(own, "stays")
    until(lambda: counted(own, "stays") > count)
    assert own.get("/1.0/instances/stays/state")["network"]["eth0"]["addresses"] == address != []


def test_a_counter_is_saved_and_goes_on_after_a_restart_of_the_daemon(own: Daemon, lxc: Lxc) -> None:
    """By Debian's own client, and by ours."""
    isola = Cli(own)
    launch(own, "counts", COUNT, devices={"web": published(18082)})
    until(lambda: counted(own, "counts") > 10)
    lxc("stop", "counts", "--stateful")
    found = own.get("/1.0/instances/counts")
    assert (found["status"], found["stateful"]) == ("Stopped", True)
    kept = int(isola("file", "pull", "counts/srv/count", "-").stdout)
    own.kill()
    own.start()
    assert own.get("/1.0/instances/counts")["stateful"]
    lxc("start", "counts")
    until(lambda: counted(own, "counts") > kept)
    assert "i=0" not in isola("logs", "counts").stdout and not own.get("/1.0/instances/counts")["stateful"]
    assert own.get("/1.0/instances/counts/state")["network"]["eth0"]["addresses"]
    isola("stop", "counts", "--stateful")
    isola("start", "counts", "--stateless")
    until(lambda: 0 < counted(own, "counts") < kept)
    assert not list((own.directory / "states").iterdir())


def test_a_container_says_why_it_has_no_saved_state(own: Daemon) -> None:
    launch(own, "plain", "exec sleep 99", isolation="container")
    done = Cli(own)("stop", "plain", "--stateful", check=False)
    assert done.returncode != 0 and "saved" in done.stderr and own.status("plain") == "Running"


def test_a_system_with_systemd_is_refused_with_the_reason(debian: Daemon, isola: Cli) -> None:
    try:
        done = isola("launch", "debian/12", "with-systemd", "--isolation", "sandbox", check=False)
        assert done.returncode != 0 and "systemd cannot run in a sandbox" in done.stderr
    finally:
        isola("delete", "with-systemd", "--force", check=False)
