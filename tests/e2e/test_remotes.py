"""Two daemons in two network namespaces; ``lxc``, ``incus`` and ``isola`` use one from the other's namespace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from daemon import ApiError, Daemon
from waiting import until

A_ADDRESS, B_ADDRESS, PORT = "10.77.0.1", "10.77.0.2", 8443
ISOLA = (sys.executable, "-m", "isola.cli.main")


class Machine:
    """Runs programs in a daemon's network namespace, as a user with a separate home directory."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.daemon = daemon
        home.mkdir(exist_ok=True)
        place = str(daemon.directory)
        self.env = os.environ | {
            "HOME": str(home),
            "LXD_DIR": place,
            "INCUS_DIR": place,
            "TERM": "xterm",
            "NO_COLOR": "1",
        }
        for name in ("LXD_CONF", "INCUS_CONF", "ISOLA_DIR", "XDG_CONFIG_HOME"):
            self.env.pop(name, None)

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"stdin": subprocess.DEVNULL, "timeout": 90} | options
        if "input" in options:
            options.pop("stdin")
        enter = ["nsenter", f"--net=/run/netns/{self.daemon.netns}"]
        return subprocess.run([*enter, *argv], env=self.env, capture_output=True, text=True, check=False, **options)

    def __call__(self, *argv: str, **options: Any) -> str:
        done = self.run(*argv, **options)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def fails(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode != 0, done.stdout
        return done.stderr


@contextmanager
def joined(a: Daemon, b: Daemon) -> Iterator[None]:
    """A veth pair between their namespaces."""
    ends = ("ve-a", "ve-b")
    argv = ["ip", "link", "add", ends[0], "netns", a.netns, "type", "veth", "peer", "name", ends[1], "netns", b.netns]
    subprocess.run(argv, check=True)
    try:
        for daemon, end, address in ((a, ends[0], A_ADDRESS), (b, ends[1], B_ADDRESS)):
            daemon.inside("ip", "address", "add", f"{address}/24", "dev", end)
            daemon.inside("ip", "link", "set", end, "up")
        yield
    finally:
        a.inside("ip", "link", "delete", ends[0])


@pytest.fixture(scope="module")
def a(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon that is reached."""
    other = Daemon()
    try:
        other.start()
        with joined(daemon, other):
            daemon.request("PATCH", "/1.0", {"config": {"core.https_address": f"{A_ADDRESS}:{PORT}"}})
            daemon.beside = other  # type: ignore[attr-defined]
            yield daemon
            daemon.request("PATCH", "/1.0", {"config": {"core.https_address": ""}})
            for path in daemon.get("/1.0/certificates"):
                daemon.request("DELETE", path)
    finally:
        other.close()


@pytest.fixture
def near(a: Daemon, tmp_path: Path) -> Machine:
    """The machine of the daemon."""
    return Machine(a, tmp_path / "near")


@pytest.fixture
def far(a: Daemon, tmp_path: Path) -> Machine:
    """The machine of the other daemon."""
    return Machine(a.beside, tmp_path / "far")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def web(a: Daemon) -> Iterator[str]:
    a.launch("remote-web")
    yield "remote-web"
    a.run("DELETE", "/1.0/instances/remote-web?force=1")


def token(near: Machine, client: str, name: str, *more: str) -> str:
    """A token, created by one of the three programs."""
    named = ("--name", name) if client == "lxc" else (name,)
    return near(client, "config", "trust", "add", *named, *more).strip().splitlines()[-1]


@pytest.mark.parametrize("client", ["lxc", "incus"])
def test_foreign_clients_add_themselves_by_token(
    near: Machine, far: Machine, web: str, client: str, tmp_path: Path
) -> None:
    name = f"{client}-laptop"
    made = token(near, client, name)
    assert name in near(client, "config", "trust", "list-tokens")
    far(client, "remote", "add", "office", made)
    assert name not in near(client, "config", "trust", "list-tokens"), "it is used up"
    assert name in near(client, "config", "trust", "list")
    assert "tls" in far(client, "remote", "list", "--format", "csv")

    found = json.loads(far(client, "list", "office:", "--format", "json"))
    assert web in [each["name"] for each in found] and found[0]["state"]["status"] == "Running"
    assert web not in far(client, "list", "--format", "csv"), "the other daemon has none"
    text = "0123456789abcdef" * 20_000
    assert far(client, "exec", f"office:{web}", "--", "cat", input=text) == text
    assert far.run(client, "exec", f"office:{web}", "--", "sh", "-c", "exit 7").returncode == 7
    (tmp_path / "data").write_bytes(os.urandom(500_000))
    far(client, "file", "push", str(tmp_path / "data"), f"office:{web}/tmp/data")
    far(client, "file", "pull", f"office:{web}/tmp/data", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()
    far(client, "image", "export", "office:tiny", str(tmp_path / "image"))
    assert [file for file in tmp_path.glob("image*") if file.stat().st_size > 1000]
    assert "trusted" in far(client, "info", "office:")
    far(client, "config", "set", f"office:{web}", "user.client", client)
    assert near.daemon.get(f"/1.0/instances/{web}")["config"]["user.client"] == client

    [fingerprint] = [
        each["fingerprint"] for each in near.daemon.get("/1.0/certificates?recursion=1") if each["name"] == name
    ]
    assert f"name: {name}" in far(client, "config", "trust", "show", f"office:{fingerprint}")
    far(client, "config", "trust", "remove", f"office:{fingerprint[:12]}")
    far.fails(client, "exec", f"office:{web}", "--", "true")
    with pytest.raises(ApiError):
        near.daemon.get(f"/1.0/certificates/{fingerprint}")


@pytest.mark.parametrize("client", ["lxc", "incus"])
def test_tokens_of_foreign_clients_are_revoked_and_valid_once(near: Machine, far: Machine, client: str) -> None:
    revoked = token(near, client, "revoked")
    near(client, "config", "trust", "revoke-token", "revoked")
    used = token(near, client, "used")
    far(client, "remote", "add", "used", used)
    other = Machine(far.daemon, Path(far.env["HOME"]).parent / "other")
    for worthless in (revoked, used):
        other.fails(client, "remote", "add", "x", worthless)
    assert [each["name"] for each in near.daemon.get("/1.0/certificates?recursion=1")].count("used") == 1
    for path in near.daemon.get("/1.0/certificates"):
        near.daemon.request("DELETE", path)


@pytest.mark.parametrize("client", ["lxc", "incus"])
def test_a_restricted_client_sees_only_its_project(near: Machine, far: Machine, web: str, client: str) -> None:
    made = token(near, client, "nowhere", "--restricted")
    far(client, "remote", "add", "office", made)
    for arguments in (
        ("list", "office:"),
        ("exec", f"office:{web}", "--", "true"),
        ("config", "show", f"office:{web}"),
        ("delete", "--force", f"office:{web}"),
        ("profile", "list", "office:"),
        ("config", "set", "office:", "core.https_address", ":9"),
        ("config", "trust", "add", "office:", *(("--name", "x") if client == "lxc" else ("x",))),
    ):
        far.fails(client, *arguments)
    assert "https_address" not in far(client, "config", "show", "office:")
    assert web not in far(client, "list", "office:", "--all-projects", "--format", "csv")
    assert near.daemon.status(web) == "Running"
    own = json.loads(far(client, "query", "office:/1.0/certificates?recursion=1"))
    assert [each["name"] for each in own] == ["nowhere"]
    raised = json.dumps({"restricted": False, "projects": []})
    path = f"office:/1.0/certificates/{own[0]['fingerprint']}"
    far.fails(client, "query", "--request", "PATCH", "--data", raised, path)
    for each in near.daemon.get("/1.0/certificates"):
        near.daemon.request("DELETE", each)


def test_isola_launches_and_monitors_remotely(near: Machine, far: Machine) -> None:
    env = {"ISOLA_DIR": str(near.daemon.directory)}
    near.env |= env
    made = near(*ISOLA, "config", "trust", "add", "laptop", "-q").strip()
    far(*ISOLA, "remote", "add", "office", made)
    far(*ISOLA, "launch", "tiny", "office:far1")
    try:
        assert far(*ISOLA, "exec", "office:far1", "--", "cat", input="over there") == "over there"
        assert "far1" in far(*ISOLA, "list", "office:")
        far(*ISOLA, "remote", "switch", "office")
        assert "far1" in far(*ISOLA, "list")
        assert far(*ISOLA, "run", "tiny", "--", "echo", "hello").strip() == "hello"
    finally:
        far(*ISOLA, "delete", "office:far1", "--force")
    assert near.daemon.get("/1.0")["auth_user_method"] == "unix"


def test_a_directory_is_mounted_over_the_network(near: Machine, far: Machine, web: str, tmp_path: Path) -> None:
    far.env["ISOLA_DIR"] = str(far.daemon.directory)
    near.env["ISOLA_DIR"] = str(near.daemon.directory)
    far(*ISOLA, "remote", "add", "office", near(*ISOLA, "config", "trust", "add", "mounter", "-q").strip())
    here = tmp_path / "here"
    here.mkdir()
    argv = ["nsenter", f"--net=/run/netns/{far.daemon.netns}", *ISOLA, "file", "mount", f"office:{web}/tmp", str(here)]
    process = subprocess.Popen(argv, env=far.env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: os.path.ismount(here))
        data = os.urandom(500_000)
        (here / "mounted").write_bytes(data)
        assert (here / "mounted").read_bytes() == data
        assert near.daemon.exec(web, "stat", "-c", "%s", "/tmp/mounted")[1] == "500000\n"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        subprocess.run(["umount", "-l", str(here)], check=False, capture_output=True)
    assert process.returncode == 0 and not os.path.ismount(here)


def test_lxc_adds_itself_by_the_trust_password(near: Machine, far: Machine, web: str) -> None:
    near("lxc", "config", "set", "core.trust_password", "correct horse")
    try:
        assert "correct" not in near("lxc", "config", "show")
        assert "core.trust_password" in near("lxc", "config", "show")
        add = ("lxc", "remote", "add", "office", f"https://{A_ADDRESS}:{PORT}", "--accept-certificate")
        far.fails(*add, "--password", "wrong horse")
        far(*add, "--password", "correct horse")
        assert web in far("lxc", "list", "office:", "--format", "csv")
        near("lxc", "config", "set", "user.note", "mine")
        until(lambda: "is trusted by the trust password" in near.daemon.log.read_text())
        assert "correct horse" not in near.daemon.log.read_text()
    finally:
        near("lxc", "config", "unset", "core.trust_password")
        near("lxc", "config", "unset", "user.note")
        far.run("lxc", "remote", "remove", "office")


def test_trust_survives_a_killed_daemon(near: Machine, far: Machine, web: str) -> None:
    far("lxc", "remote", "add", "office", token(near, "lxc", "laptop"))
    near.daemon.kill()
    near.daemon.start()
    until(lambda: far.run("lxc", "list", "office:").returncode == 0)
    assert web in far("lxc", "list", "office:", "--format", "csv")


def test_an_untrusted_client_sees_the_server_and_is_logged(near: Machine, far: Machine, web: str) -> None:
    program = (
        "import json, ssl, sys, http.client as h\n"
        "tls = ssl._create_unverified_context()\n"
        "for path in sys.argv[2:]:\n"
        f"    link = h.HTTPSConnection(sys.argv[1], {PORT}, context=tls, timeout=10)\n"
        "    link.request('GET', path)\n"
        "    answer = link.getresponse()\n"
        "    print(json.dumps([answer.status, json.loads(answer.read())['metadata']]))\n"
    )
    paths = ("/1.0", "/1.0/instances", f"/1.0/instances/{web}/files?path=/etc/passwd", "/1.0/certificates")
    lines = far(sys.executable, "-c", program, A_ADDRESS, *paths).splitlines()
    answers = [json.loads(line) for line in lines]
    assert [status for status, _ in answers] == [200, 403, 403, 403]
    assert answers[0][1]["auth"] == "untrusted" and "environment" not in answers[0][1]
    until(lambda: "Refused to an unknown caller (none)" in near.daemon.log.read_text())
    assert f"at {B_ADDRESS}:" in near.daemon.log.read_text()


def test_connections_without_a_handshake_or_a_request_are_closed(near: Machine, far: Machine) -> None:
    program = (
        "import socket, ssl, sys, time\n"
        f"links = [socket.create_connection((sys.argv[1], {PORT})) for _ in range(20)]\n"
        "links += [ssl._create_unverified_context().wrap_socket(link) for link in links[15:]]\n"
        "del links[15:20]\n"
        "for link in links: link.settimeout(90)\n"
        "start = time.monotonic()\n"
        "for link in links:\n"
        "    try: assert link.recv(1) == b''\n"
        "    except (ConnectionResetError, ssl.SSLEOFError): pass\n"
        "print(time.monotonic() - start)\n"
    )
    start = time.monotonic()
    assert 5 < float(far(sys.executable, "-c", program, A_ADDRESS)) < 60
    assert time.monotonic() - start < 90
    assert near.daemon.get("/1.0")["auth"] == "trusted"
