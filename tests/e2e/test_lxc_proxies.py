"""Proxies by Debian's ``lxc`` and by ``isola``: both directions, each protocol, and the lifetime of processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from echoes import ask, echo, until_answer
from lxc_client import Lxc
from proxy_bed import Bed


@pytest.fixture
def bed(daemon: Daemon, lxc: Lxc, instance: str) -> Iterator[Bed]:
    made = Bed(daemon, lxc, instance)
    made.configure()
    yield made


def test_streams_and_datagrams_into_the_instance_by_ranges(bed: Bed) -> None:
    bed.add("web", "listen=tcp:127.0.0.1:7000-7001,7005", "connect=tcp:127.0.0.1:80-81,85")
    bed.add("dns", "listen=udp:0.0.0.0:7053", "connect=udp:127.0.0.1:53")
    for port, outer in ((80, "7000"), (81, "7001"), (85, "7005")):
        with echo(bed.inside, "tcp", "127.0.0.1", str(port)):
            assert ask(bed.host, "hello", "tcp", "127.0.0.1", outer) == "127.0.0.1 hello"
    with echo(bed.inside, "udp", "127.0.0.1", "53"):
        assert ask(bed.host, "who", "udp", "127.0.0.1", "7053") == "127.0.0.1 who"
        assert ask(bed.host, "who", "udp", bed.gateway, "7053") == "127.0.0.1 who"
    bed.remove("web")
    bed.remove("dns")
    assert ask(bed.host, "hello", "tcp", "127.0.0.1", "7000") == "error: ConnectionRefusedError"
    assert bed.forwarders() == []


def test_out_of_the_instance(bed: Bed) -> None:
    bed.add("out", "bind=instance", "listen=tcp:127.0.0.1:90", "connect=tcp:127.0.0.1:7090")
    bed.add("log", "bind=guest", "listen=udp:127.0.0.1:514", "connect=udp:127.0.0.1:7514")
    with echo(bed.host, "tcp", "127.0.0.1", "7090"), echo(bed.host, "udp", "127.0.0.1", "7514"):
        assert ask(bed.inside, "hello", "tcp", "127.0.0.1", "90") == "127.0.0.1 hello"
        assert ask(bed.inside, "line", "udp", "127.0.0.1", "514") == "127.0.0.1 line"
        assert ask(bed.host, "hello", "tcp", "127.0.0.1", "90") == "error: ConnectionRefusedError"


def test_unix_sockets_in_both_directions(bed: Bed, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    root = Path(f"/proc/{bed.daemon.pid(bed.name)}/root")
    (tmp_path / "shared").mkdir()
    bed.lxc("config", "device", "add", bed.name, "shared", "disk", f"source={tmp_path}/shared", "path=/shared")
    outer = tmp_path / "outer"
    bed.add("in", f"listen=unix:{outer}", "connect=unix:/shared/inner", "mode=0600", "uid=1234")
    with echo((), "unix", f"{tmp_path}/shared/inner"):
        assert ask((), "hello", "unix", str(outer)) == "local hello"
    assert outer.stat().st_mode & 0o777 == 0o600 and outer.stat().st_uid == 1234
    bed.add("out", "bind=instance", "listen=unix:/run/service", f"connect=unix:{tmp_path}/service", "uid=7")
    with echo((), "unix", str(tmp_path / "service")):
        assert ask((), "hello", "unix", str(root / "run/service")) == "local hello"
    assert bed.lxc("exec", bed.name, "--", "stat", "-c", "%u", "/run/service").strip() == "7"
    bed.remove("in")
    bed.remove("out")
    assert not outer.exists() and not (root / "run/service").exists()


def test_the_proxy_protocol_names_the_client(bed: Bed) -> None:
    bed.add("web", f"listen=tcp:{bed.gateway}:7000", "connect=tcp:127.0.0.1:80", "proxy_protocol=true")
    with echo(bed.inside, "tcp", "127.0.0.1", "80"):
        answer = ask(bed.host, "hello", "tcp", bed.gateway, "7000")
    assert answer.startswith(f"127.0.0.1 PROXY TCP4 {bed.gateway} {bed.gateway} ")
    assert answer.endswith(" 7000\r\nhello")


def test_nat_forwards_the_host_and_neighbours(bed: Bed) -> None:
    """They are forwarded by a process; see ``test_published_ports.py`` for the others."""
    bed.daemon.launch("neighbour")
    try:
        near = Bed(bed.daemon, bed.lxc, "neighbour")
        near.configure()
        before = bed.rewriting()
        bed.add("nat", f"listen=tcp:{bed.gateway}:7000-7001", f"connect=tcp:{bed.address}:80", "nat=true")
        bed.add("wild", "listen=udp:0.0.0.0:7053", f"connect=udp:{bed.address}:53", "nat=true")
        assert len(bed.publishers()) == 1 and len(bed.rewriting() - before) == 2
        with echo(bed.inside, "tcp", "0.0.0.0", "80"), echo(bed.inside, "udp", bed.address, "53"):
            assert ask(bed.host, "hello", "tcp", bed.gateway, "7000") == f"{bed.gateway} hello"
            assert ask(near.inside, "hello", "tcp", bed.gateway, "7001") == f"{bed.gateway} hello"
            assert ask(bed.inside, "hello", "tcp", bed.gateway, "7001") == f"{bed.gateway} hello"
            assert ask(near.inside, "who", "udp", bed.gateway, "7053") == f"{bed.gateway} who"
            inside, gateway = near.inside, bed.gateway
            bed.daemon.kill()
            assert ask(inside, "hello", "tcp", gateway, "7001") == f"{gateway} hello"
            bed.daemon.start()
            assert ask(near.inside, "hello", "tcp", bed.gateway, "7001") == f"{bed.gateway} hello"
            assert len(bed.rewriting() - before) == 2
            bed.lxc("stop", "--force", bed.name)
        assert bed.rewriting() <= before and bed.publishers() == []
        bed.lxc("start", bed.name)
        assert len(bed.rewriting() - before) == 2
        bed.remove("nat")
        assert len(bed.rewriting() - before) == 1
        assert "error" in ask(near.inside, "hello", "tcp", bed.gateway, "7001")
    finally:
        bed.daemon.run("DELETE", "/1.0/instances/neighbour?force=1")


def test_nat_needs_a_fixed_address(bed: Bed) -> None:
    bed.add("nat", "listen=tcp:127.0.0.1:7000", "connect=tcp:127.0.0.1:80", "nat=true", status=1)
    bed.add("nat", "listen=tcp:[::1]:7000", f"connect=tcp:{bed.address}:80", "nat=true", status=1)
    bed.add("nat", "listen=unix:/tmp/x", f"connect=tcp:{bed.address}:80", "nat=true", status=1)


def test_they_outlive_the_daemon_and_are_adopted(bed: Bed, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    bed.add("web", "listen=tcp:127.0.0.1:7000", "connect=tcp:127.0.0.1:80")
    bed.add("sock", f"listen=unix:{tmp_path}/sock", "connect=tcp:127.0.0.1:80")
    running = bed.forwarders()
    assert running
    with echo(bed.inside, "tcp", "127.0.0.1", "80"):
        for end in (bed.daemon.kill, bed.daemon.stop):
            end()
            assert ask(bed.host, "meanwhile", "tcp", "127.0.0.1", "7000") == "127.0.0.1 meanwhile"
            bed.daemon.start()
            assert bed.forwarders() == running
            assert ask((), "after", "unix", str(tmp_path / "sock")) == "127.0.0.1 after"
        # One that dies is restarted, also if it died while the daemon was stopped.
        os.kill(running[0], signal.SIGKILL)
        until_answer("127.0.0.1 again", bed.host, "again", "tcp", "127.0.0.1", "7000")
        bed.daemon.kill()
        for pid in bed.forwarders():
            os.kill(pid, signal.SIGKILL)
        bed.daemon.start()
        until_answer("127.0.0.1 again", bed.host, "again", "tcp", "127.0.0.1", "7000")
        until_answer("127.0.0.1 again", (), "again", "unix", str(tmp_path / "sock"))
    bed.lxc("stop", "--force", bed.name)
    assert bed.forwarders() == [] and not (tmp_path / "sock").exists()
    bed.lxc("start", bed.name)
    assert len(bed.forwarders()) == len(running)
    bed.lxc("delete", "--force", bed.name)
    assert bed.forwarders() == [] and not (tmp_path / "sock").exists()


def test_an_address_in_use_leaves_nothing(bed: Bed, isola: Cli) -> None:
    with echo(bed.host, "tcp", "127.0.0.1", "7000"):
        command = ("config", "device", "add", bed.name, "web", "proxy", "listen=tcp:127.0.0.1:6999-7000")
        said = isola(*command, "connect=tcp:127.0.0.1:80-81", check=False)
        assert said.returncode == 1 and "in use" in said.stderr and "7000" in said.stderr, said.stderr
        assert bed.forwarders() == []
        assert ask(bed.host, "x", "tcp", "127.0.0.1", "6999") == "error: ConnectionRefusedError"
        assert "web" not in bed.daemon.get(f"/1.0/instances/{bed.name}")["devices"]
    isola(*command, "connect=tcp:127.0.0.1:80-81")
    with echo(bed.inside, "tcp", "127.0.0.1", "80"):
        assert ask(bed.host, "x", "tcp", "127.0.0.1", "6999") == "127.0.0.1 x"
    # A change of the target replaces the forwarder.
    isola("config", "device", "set", bed.name, "web", "connect=tcp:127.0.0.1:82")
    with echo(bed.inside, "tcp", "127.0.0.1", "82"):
        assert ask(bed.host, "x", "tcp", "127.0.0.1", "7000") == "127.0.0.1 x"
    isola("config", "device", "remove", bed.name, "web")
    assert bed.forwarders() == []
