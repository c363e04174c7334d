"""The command line as typed, against a daemon that it reaches over TLS."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from https_peer import free_port, pair
from served_daemon import ServedDaemon

from isola.model.project import Project
from isola.server import SETTINGS

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ISOLA = [sys.executable, "-m", "isola.cli.main"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ServedDaemon]:
    with ServedDaemon(tmp_path / "daemon") as daemon:
        yield daemon


def caller(environment: dict[str, str]) -> Run:
    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"text": True, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment}
        return subprocess.run(
            [*ISOLA, *arguments], capture_output=True, timeout=60, env=environ, check=False, **options
        )

    return run


@pytest.fixture
def here(daemon: ServedDaemon, tmp_path: Path) -> Run:
    """On the daemon's machine."""
    return caller({"ISOLA_DIR": str(daemon.directory), "HOME": str(tmp_path / "here")})


@pytest.fixture
def there(tmp_path: Path) -> Run:
    """On another machine without a daemon; the certificate is valid by the daemon's clock, which does not advance."""
    place = tmp_path / "there" / ".config" / "isola"
    place.mkdir(0o700, parents=True)
    made = pair("laptop")
    for name, text in (("client.crt", made.certificate), ("client.key", made.key)):
        (place / name).touch(0o600)
        (place / name).write_text(text)
    return caller({"HOME": str(tmp_path / "there")})


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def port(here: Run) -> int:
    port = free_port()
    ok(here("config", "set", "core.https_address", f"127.0.0.1:{port}"))
    return port


@pytest.fixture
def far(here: Run, there: Run, port: int) -> Run:
    """A client on another machine with the daemon as remote ``far``."""
    token = ok(here("config", "trust", "add", "laptop", "-q")).strip()
    ok(there("remote", "add", "far", token))
    return there


def test_the_daemons_own_keys_are_set_and_shown(here: Run, port: int) -> None:
    assert ok(here("config", "get", "core.https_address")).strip() == f"127.0.0.1:{port}"
    ok(here("config", "set", "user.a=1", "user.b=2"))
    assert f'core.https_address: "127.0.0.1:{port}"' in ok(here("config", "show"))
    ok(here("config", "unset", "user.a"))
    ok(here("config", "edit", input="config:\n  user.c: '3'\n"))
    assert "user.c" in ok(here("config", "show")) and "https" not in ok(here("config", "show"))
    wrong = here("config", "set", "core.nonsense=1")
    assert wrong.returncode == 1 and "core.nonsense" in wrong.stderr
    assert here("config", "get", "web1").returncode == 2, "an instance needs a key"
    ok(here("config", "set", "builds.limits.time", "3600"))
    for setting in SETTINGS:
        assert here("config", "get", setting.key.replace("*", "a")).returncode == 0, setting.key


def test_a_remote_is_added_by_a_token_and_used_everywhere(daemon: ServedDaemon, far: Run, tmp_path: Path) -> None:
    daemon.create("web1")
    assert "web1" in ok(far("list", "far:"))
    assert "web1" in ok(far("list", "far:web"))
    assert "other" not in ok(far("list", "far:other"))
    assert "name: web1" in ok(far("info", "far:web1", "-f", "yaml")) or ok(far("info", "far:web1"))
    ok(far("launch", "tiny", "far:web2"))
    assert set(daemon.instances) == {"web1", "web2"}
    ok(far("config", "set", "far:web2", "user.x=1"))
    assert daemon.instances["web2"]["config"]["user.x"] == "1"
    ok(far("stop", "far:web2", "--force"))
    ok(far("delete", "far:web2"))
    assert set(daemon.instances) == {"web1"}
    for noun in ("image", "network", "storage", "profile", "operation"):
        ok(far(noun, "list", "far:"))
    assert "core.https_address" in ok(far("config", "show", "far:"))
    assert "laptop" in ok(far("config", "trust", "list", "far:"))
    assert "the API is served at 127.0.0.1" in ok(far("doctor", "far:"))


def test_remote_commands_have_large_input_and_exit_status(daemon: ServedDaemon, far: Run) -> None:
    daemon.create("web1")
    text = "0123456789abcdef" * 40_000
    done = far("exec", "far:web1", "--", "sha256sum", input=text)
    assert ok(done).split()[0] == hashlib.sha256(text.encode()).hexdigest()
    assert ok(far("exec", "far:web1", "--", "cat", input=text)) == text
    done = far("exec", "far:web1", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert ok(far("exec", "far:web1", "--", "echo", "a:b", "c:")) == "a:b c:\n"


def test_files_are_pushed_and_pulled_remotely(daemon: ServedDaemon, far: Run, tmp_path: Path) -> None:
    daemon.create("web1")
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    ok(far("file", "push", str(tmp_path / "data"), "far:web1/srv/data", "-p"))
    ok(far("file", "pull", "far:web1/srv/data", str(tmp_path / "back")))
    assert (tmp_path / "back").read_bytes() == data


def test_the_default_remote_is_where_commands_go(daemon: ServedDaemon, far: Run, here: Run) -> None:
    name = "only-there-c81f"  # this machine may have a daemon in the default directory
    daemon.create(name, start=False)
    assert name not in far("list").stdout
    ok(far("remote", "switch", "far"))
    assert ok(far("remote", "get-default")).strip() == "far"
    assert name in ok(far("list"))
    assert name not in far("list", "local:").stdout
    ok(far("remote", "rename", "far", "office"))
    assert name in ok(far("list")) and name in ok(far("list", "office:"))
    assert "office (default)" in ok(far("remote", "list"))
    ok(far("remote", "remove", "office"))
    assert ok(far("remote", "get-default")).strip() == "local"
    assert name not in far("list").stdout


def test_invalid_names_are_refused(far: Run) -> None:
    done = far("list", "nowhere:")
    assert done.returncode == 2 and "There is no remote 'nowhere'" in done.stderr and "far" in done.stderr
    done = far("start", "far:web1", "local:web2")
    assert done.returncode == 2 and "one daemon" in done.stderr
    assert far("remote", "add", "far", "192.0.2.1").returncode == 1, "the name is in use"
    assert far("remote", "add", "x", "http://192.0.2.1").returncode == 1


def test_a_token_is_valid_once_and_a_wrong_one_leaves_no_remote(here: Run, there: Run, port: int) -> None:
    token = ok(here("config", "trust", "add", "a", "-q")).strip()
    assert "a" in ok(here("config", "trust", "list-tokens"))
    ok(there("remote", "add", "one", token))
    assert ok(here("config", "trust", "list-tokens", "-f", "csv")) == ""
    revoked = ok(here("config", "trust", "add", "b", "-q")).strip()
    ok(here("config", "trust", "revoke-token", "b"))
    again = here("config", "trust", "revoke-token", "b")
    assert again.returncode == 1 and "no unused token" in again.stderr
    fingerprint = json.loads(ok(here("config", "trust", "list", "-f", "json")))[0]["fingerprint"]
    assert fingerprint in ok(here("config", "trust", "show", "a"))
    ok(here("config", "trust", "remove", "a"))
    assert here("config", "trust", "remove", fingerprint[:12]).returncode == 1
    for bad in (token, revoked):
        done = there("remote", "add", "two", bad)
        assert done.returncode == 1 and "token is wrong" in done.stderr
    assert there("list", "one:").returncode == 1
    assert "two" not in ok(there("remote", "list"))


def test_an_address_needs_trust_and_a_confirmed_certificate(here: Run, there: Run, port: int) -> None:
    url = f"127.0.0.1:{port}"
    refused = there("remote", "add", "far", url, input="no\n")
    assert refused.returncode == 2 and "Fingerprint" in refused.stderr
    untrusted = there("remote", "add", "far", url, "--accept-certificate")
    assert untrusted.returncode == 1 and "does not trust this client" in untrusted.stderr
    home = ok(there("remote", "list"))
    assert "far" not in home
    token = ok(here("config", "trust", "add", "a", "-q")).strip()
    ok(there("remote", "add", "far", url, "--token", token, input="yes\n"))
    ok(there("list", "far:"))


def test_a_server_with_another_certificate_is_refused(far: Run, tmp_path: Path) -> None:
    file = tmp_path / "there" / ".config" / "isola" / "remotes.json"
    document = json.loads(file.read_text())
    document["remotes"]["far"]["fingerprint"] = "00" * 32
    file.write_text(json.dumps(document))
    done = far("list", "far:")
    assert done.returncode == 1 and "has changed" in done.stderr


def test_only_the_user_may_read_the_key(far: Run, tmp_path: Path) -> None:
    place = tmp_path / "there" / ".config" / "isola"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o600}


def test_restricted_clients_see_only_their_project(daemon: ServedDaemon, here: Run, there: Run, port: int) -> None:
    daemon.create("web1", start=False)
    assert here("config", "trust", "add", "ci", "--projects", "nowhere").returncode == 1
    daemon.do(daemon.world.parts.records.projects.add("blue", Project("blue")))
    token = ok(here("config", "trust", "add", "ci", "-q", "--projects", "blue")).strip()
    ok(there("remote", "add", "far", token))
    ok(there("remote", "set-project", "far", "blue"))
    done = there("list", "far:", "--project", "default")
    assert done.returncode == 1 and "default" in done.stderr
    assert "web1" not in ok(there("list", "far:"))
    shown = json.loads(ok(here("config", "trust", "list", "-f", "json")))[0]
    assert (shown["restricted"], shown["projects"], shown["name"]) == (True, ["blue"], "ci")
    edited = "name: ci\ntype: client\nrestricted: true\nprojects: [default]\ncertificate: |\n"
    edited += "".join(f"  {line}\n" for line in shown["certificate"].splitlines())
    ok(here("config", "trust", "edit", shown["fingerprint"][:12], input=edited))
    assert "web1" in ok(there("list", "far:", "--project", "default"))
    assert there("config", "set", "far:", "x").returncode != 0
    assert "fingerprint" in ok(here("config", "trust", "show", shown["fingerprint"][:12]))


def test_a_certificate_is_trusted_without_a_token(here: Run, there: Run, tmp_path: Path, port: int) -> None:
    assert there("remote", "add", "far", f"127.0.0.1:{port}", "--accept-certificate").returncode == 1
    certificate = tmp_path / "there" / ".config" / "isola" / "client.crt"
    ok(here("config", "trust", "add", "laptop", "--certificate", str(certificate)))
    ok(there("remote", "add", "far", f"127.0.0.1:{port}", "--accept-certificate"))
    assert "far" in ok(there("remote", "list"))
    (tmp_path / "no.pem").write_text("nothing")
    assert here("config", "trust", "add", "x", "--certificate", str(tmp_path / "no.pem")).returncode == 2


def test_names_on_remotes_are_completed(daemon: ServedDaemon, far: Run) -> None:
    daemon.create("web1", start=False)
    assert ok(far("__complete", "--", "exec", "far:we")).split() == ["far:web1"]
    assert ok(far("__complete", "--", "exec", "far:x")).split() == []
    assert ok(far("__complete", "--", "exec", "nowhere:we")).split() == []
    assert set(ok(far("__complete", "--", "remote", "switch", "")).split()) == {"local", "far"}
    ok(far("remote", "switch", "far"))
    assert ok(far("__complete", "--", "exec", "we")).split() == ["web1"]


def test_bash_completes_names_after_a_colon(daemon: ServedDaemon, far: Run, tmp_path: Path) -> None:
    daemon.create("web1", start=False)
    script = tmp_path / "isola.bash"
    script.write_text(ok(far("completion", "bash")))
    program = tmp_path / "isola"
    program.write_text(f'#!/bin/sh\nexec {" ".join(ISOLA)} "$@"\n')
    program.chmod(0o755)
    asked = (
        f'source {script}; COMP_WORDS=(isola exec far : we); COMP_CWORD=4; _isola; echo "${{COMPREPLY[@]}}"; '
        f'COMP_WORDS=(isola exec far :); COMP_CWORD=3; _isola; echo "${{COMPREPLY[@]}}"; '
        f'COMP_WORDS=(isola exec far:we); COMP_CWORD=2; _isola; echo "${{COMPREPLY[@]}}"'
    )
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path / "there"), "LANG": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env=environ, timeout=60, check=True)
    assert done.stdout.split() == ["web1", "web1", "far:web1"]
